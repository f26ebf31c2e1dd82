"""The search endpoint `query`, as a function from request to answer."""

from http import HTTPStatus
from typing import Any, Final

from ..blob import Fetcher
from ..errors import Invalid, StoreError, Unavailable, Unsupported
from ..index.corpus import Corpus
from ..index.describe import describe
from ..index.endpoints import Answer
from ..index.view import View
from .named import StoreNames
from .request import read_query, token_of
from .search import search

PATIENCE_S: Final = 30.0
"""Seconds that a query may take."""

Json = dict[str, Any]


def query(
    view: View, blobs: Fetcher, body: bytes, now_ns: int, patience_s: float = PATIENCE_S
) -> Answer:
    """Answer the body of a `query` request.

    blobs: where the texts of named searches are fetched from. now_ns: the time, nanoseconds
    since 1970 UTC. What is wrong with the request is told with status 500, as clients expect.
    """
    try:
        return Answer(200, _answered(Corpus(view), blobs, body, now_ns, patience_s))
    except Invalid as error:
        return _failed(error, HTTPStatus.INTERNAL_SERVER_ERROR)
    except Unavailable as error:
        return _failed(error, HTTPStatus.SERVICE_UNAVAILABLE)
    except Unsupported as error:
        return _failed(error, HTTPStatus.NOT_IMPLEMENTED)


def _failed(error: StoreError, status: HTTPStatus) -> Answer:
    return Answer(status, {"error": error.reason or str(error), "errorType": status.phrase})


def _answered(corpus: Corpus, blobs: Fetcher, body: bytes, now_ns: int, patience_s: float) -> Json:
    asked = read_query(body, StoreNames(corpus, blobs, now_ns, patience_s))
    found = search(asked, corpus, now_ns, patience_s)
    answer: Json = {"blobs": [{"blob": ref} for ref in found.refs] or None, "description": None}
    if asked.describe is not None:
        request = asked.describe._replace(refs=tuple(found.refs))
        answer["description"] = describe(corpus.view, request)
    answer["LocationArea"] = None if found.area is None else found.area._asdict()
    if found.after is not None:
        answer["continue"] = token_of(found.after)
    if asked.explain:
        answer["explain"] = found.plan.json()
    return answer
