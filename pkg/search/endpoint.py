"""The search endpoints, as functions from request to answer."""

from http import HTTPStatus
from typing import Any, Final

from ..errors import Invalid, StoreError, Unavailable, Unsupported
from ..index.corpus import Corpus
from ..index.describe import describe
from ..index.endpoints import Answer, Pairs
from ..index.endpoints import answer as answer_lookup
from ..index.index import Index
from ..index.parameters import BadParameter, Parameters
from . import complete
from .named import StoreNames
from .request import Query, read_query, token_of
from .search import search
from .snippets import snippets

PATIENCE_S: Final = 30.0
"""Seconds that a query may take."""

Json = dict[str, Any]


def answer(index: Index, method: str, name: str, query: Pairs, body: bytes, now_ns: int) -> Answer:
    """Answer `camli/search/<name>`: queries here, the others as pkg/index does.

    method: `GET`, `POST`, ... query: decoded parameters, in order. now_ns: the time,
    nanoseconds since 1970 UTC.
    """
    if (method, name) == ("POST", "query"):
        return answer_query(index, body, now_ns)
    if (method, name) == ("GET", "complete"):
        return _completed(index, Parameters(query))
    return answer_lookup(index.view, method, name, query, body, now_ns)


def _completed(index: Index, parameters: Parameters) -> Answer:
    """`attr`: whose values (none: attributes themselves). `prefix`; `max`: completions."""
    try:
        limit = parameters.limit("max", complete.USUAL, complete.MOST)
    except BadParameter as error:
        return Answer(400, {"error": error.reason, "errorType": "Bad Request"})
    index.settle()
    corpus = Corpus(index.view)
    attribute, beginning = parameters.text("attr"), parameters.text("prefix")
    if attribute:
        found = complete.values(corpus, attribute, beginning, limit)
    else:
        found = complete.attributes(corpus, beginning, limit)
    return Answer(200, {"completions": [item._asdict() for item in found]})


def answer_query(index: Index, body: bytes, now_ns: int, patience_s: float = PATIENCE_S) -> Answer:
    """Answer the body of a `query` request.

    patience_s: seconds that it may take. What is wrong with the request is told with status
    500, as clients expect.
    """
    try:
        return Answer(200, _answered(index, body, now_ns, patience_s))
    except Invalid as error:
        return _failed(error, HTTPStatus.INTERNAL_SERVER_ERROR)
    except Unavailable as error:
        return _failed(error, HTTPStatus.SERVICE_UNAVAILABLE)
    except Unsupported as error:
        return _failed(error, HTTPStatus.NOT_IMPLEMENTED)


def _failed(error: StoreError, status: HTTPStatus) -> Answer:
    return Answer(status, {"error": error.reason or str(error), "errorType": status.phrase})


def _answered(index: Index, body: bytes, now_ns: int, patience_s: float) -> Json:
    asked = read_asked(index, body, now_ns, patience_s)
    return answer_asked(index, asked, now_ns, patience_s)


def read_asked(index: Index, body: bytes, now_ns: int, patience_s: float) -> Query:
    """What a body asks for; names in it stand for what is stored now. Raises Invalid."""
    index.settle()
    return read_query(body, StoreNames(Corpus(index.view), index.blobs, now_ns, patience_s))


def answer_asked(index: Index, asked: Query, now_ns: int, patience_s: float) -> Json:
    """The members of the answer to a query. Raises Invalid, Unavailable, Unsupported."""
    corpus = Corpus(index.view)
    found = search(asked, corpus, now_ns, patience_s)
    answer: Json = {"blobs": [{"blob": ref} for ref in found.refs] or None, "description": None}
    if asked.describe is not None:
        request = asked.describe._replace(refs=tuple(found.refs))
        answer["description"] = describe(corpus.view, request)
    answer["LocationArea"] = None if found.area is None else found.area._asdict()
    if found.after is not None:
        answer["continue"] = token_of(found.after)
    if asked.snippets:
        answer["snippets"] = snippets(corpus, asked.constraint, found.refs)
    if asked.explain:
        answer["explain"] = found.plan.json()
    return answer
