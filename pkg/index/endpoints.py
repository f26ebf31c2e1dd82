"""The search endpoints that need no query language, as functions from request to answer."""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from ..blob import parse_ref
from ..errors import Invalid, NotFound
from . import lookups
from .describe import describe
from .lookups import MAX_LIMIT, USUAL_LIMIT
from .parameters import BadParameter, Parameters, describe_by_body, describe_by_query
from .view import View

Json = dict[str, Any]
Pairs = Sequence[tuple[str, str]]

_UNSUPPORTED: Final[Json] = {
    "error": "Unsupported search path or method",
    "errorType": "input",
}


class Answer(NamedTuple):
    """An HTTP status, and the object to send as JSON."""

    status: int
    body: Json


def answer(view: View, method: str, name: str, query: Pairs, body: bytes, now_ns: int) -> Answer:
    """Answer `camli/search/<name>`.

    method: `GET`, `HEAD`, `POST`, ... query: decoded parameters, in order. now_ns: the time,
    nanoseconds since 1970 UTC. `query` and `ws` are not answered here.
    """
    handler = _HANDLERS.get(("GET" if method == "HEAD" else method, name))
    if handler is None:
        return Answer(200, _UNSUPPORTED)
    try:
        return Answer(200, handler(view, Parameters(query), body, now_ns))
    except BadParameter as error:
        return Answer(400, {"error": error.reason, "errorType": "Bad Request"})
    except (Invalid, NotFound) as error:
        text = error.reason or str(error)
        return Answer(500, {"error": text, "errorType": "Internal Server Error"})


def _describe_get(view: View, parameters: Parameters, _body: bytes, _now_ns: int) -> Json:
    return describe(view, describe_by_query(parameters.pairs))


def _describe_post(view: View, _parameters: Parameters, body: bytes, _now_ns: int) -> Json:
    return describe(view, describe_by_body(body))


def _recent(view: View, parameters: Parameters, _body: bytes, now_ns: int) -> Json:
    try:
        limit = parameters.limit("n", USUAL_LIMIT, MAX_LIMIT)
    except BadParameter:
        limit = USUAL_LIMIT
    before_ns = parameters.time_ns("before")
    return lookups.recent(view, limit, now_ns if before_ns is None else before_ns)


_FUZZY: Final = (
    "TODO: SearchPermanodesWithAttr: generic indexer doesn't support FuzzyMatch on"
    " PermanodeByAttrRequest"
)


def _permanode_by_attribute(view: View, parameters: Parameters, _body: bytes, now_ns: int) -> Json:
    attribute = parameters.text("attr")
    limit = parameters.limit("max", USUAL_LIMIT, MAX_LIMIT)
    if not attribute or parameters.text("fuzzy") in ("true", "t"):
        raise Invalid("search", "attribute", _FUZZY)
    if not lookups.is_lookup_attribute(attribute):
        reason = f'SearchPermanodesWithAttr: called with a non-indexed attribute "{attribute}"'
        raise Invalid("search", attribute, reason)
    key_ids = view.owner_key_ids
    signer = parse_ref(parameters.text("signer"))
    if signer is not None:
        key_id = view.key_id(signer)
        key_ids = () if key_id is None else (key_id,)
    at_ns = parameters.time_ns("at")
    value = parameters.text("value")
    moment_ns = now_ns if at_ns is None else at_ns
    return lookups.with_attribute(view, key_ids, attribute, value, limit, moment_ns)


def _signer_attribute_value(view: View, parameters: Parameters, _body: bytes, _now_ns: int) -> Json:
    signer = parameters.ref("signer")
    attribute, value = parameters.required("attr"), parameters.required("value")
    return lookups.by_value(view, view.key_id(signer), attribute, value)


def _claims(view: View, parameters: Parameters, _body: bytes, _now_ns: int) -> Json:
    return lookups.claims(view, parameters.ref("permanode"), parameters.text("attrFilter"))


def _files(view: View, parameters: Parameters, _body: bytes, _now_ns: int) -> Json:
    texts = parameters.texts("wholedigest")
    refs = [ref for text in texts if (ref := parse_ref(text)) is not None]
    if texts and len(refs) == len(texts):
        return lookups.files(view, refs)
    word = "Invalid" if texts else "Missing"
    return {"error": f"{word} 'wholedigest' param", "errorType": "input", "files": None}


def _signer_paths(view: View, parameters: Parameters, _body: bytes, _now_ns: int) -> Json:
    signer, target = parameters.ref("signer"), parameters.ref("target")
    return lookups.paths_to(view, view.key_id(signer), target)


def _edges_to(view: View, parameters: Parameters, _body: bytes, _now_ns: int) -> Json:
    return lookups.edges_to(view, parameters.ref("blobref"))


_Handler = Callable[[View, Parameters, bytes, int], Json]

_HANDLERS: Final[dict[tuple[str, str], _Handler]] = {
    ("GET", "claims"): _claims,
    ("GET", "describe"): _describe_get,
    ("POST", "describe"): _describe_post,
    ("GET", "edgesto"): _edges_to,
    ("GET", "files"): _files,
    ("GET", "permanodeattr"): _permanode_by_attribute,
    ("GET", "recent"): _recent,
    ("GET", "signerattrvalue"): _signer_attribute_value,
    ("GET", "signerpaths"): _signer_paths,
}
