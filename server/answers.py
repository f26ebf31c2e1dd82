"""Answers in the forms that the protocol knows: JSON, plain lines, HTML stubs, redirects."""

import html
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from ..blob import SizedRef
from ..errors import (
    ConfigError,
    Corrupt,
    Forbidden,
    Invalid,
    NotFound,
    ReadOnly,
    StoreError,
    TooLarge,
    Unavailable,
    Unsupported,
)

HTML = "text/html; charset=utf-8"
JSON = "text/javascript"
PLAIN = "text/plain; charset=utf-8"

STATUS_OF: Mapping[type[StoreError], int] = {
    NotFound: 404,
    TooLarge: 413,
    Invalid: 400,
    Forbidden: 403,
    ReadOnly: 503,
    Unsupported: 501,
    Unavailable: 503,
    Corrupt: 500,
    ConfigError: 500,
}
"""The one table from the error tree to HTTP. A class stands for its subclasses."""

_GO_ESCAPES = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)


class HttpError(Exception):
    """An answer that is no success, raised from anywhere below a handler.

    message: for the reader; where the protocol fixes a text, that text. html: the message is not
    shown, the body is the stub `<h1>Bad Request</h1>` of the blob endpoints.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        html: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.html = html
        self.headers = dict(headers or {})


def bad_request(reason: str) -> HttpError:
    """The 400 of the blob and share endpoints: no details, except for those who read JSON."""
    return HttpError(400, reason, html=True)


def json_text(value: object) -> str:
    """Lay JSON out as the reference does: two spaces, `<`, `>` and `&` escaped, a final newline."""
    return json.dumps(value, indent=2, ensure_ascii=False).translate(_GO_ESCAPES) + "\n"


def compact_json(value: object) -> str:
    """The same in one line, as messages have it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).translate(_GO_ESCAPES)


def json_answer(value: object, status: int = 200) -> Response:
    return raw_json(json_text(value), status)


def raw_json(text: str, status: int = 200) -> Response:
    """Answer with JSON that is laid out already."""
    return typed(text.encode("utf-8", "replace"), JSON, status)


def typed(body: bytes, content_type: str, status: int = 200) -> Response:
    """Answer with exactly this content type: no charset is added."""
    answer = Response(body, status)
    answer.headers["Content-Type"] = content_type
    return answer


def joined(pieces: Iterable[bytes], size_bytes: int) -> Iterator[bytes]:
    """Join pieces until there are so many bytes, that each hop to a thread brings a good deal."""
    window: list[bytes] = []
    size = 0
    for piece in pieces:
        window.append(piece)
        size += len(piece)
        if size >= size_bytes:
            yield b"".join(window)
            window, size = [], 0
    if window:
        yield b"".join(window)


async def resumed(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A body of which the first piece is here already."""
    yield first
    async for piece in rest:
        yield piece


def sized_json(found: Iterable[SizedRef]) -> str:
    """A JSON list of refs and sizes, laid out by hand: refs need no escapes, and it is hot."""
    items = ",\n".join(
        f'    {{\n      "blobRef": "{ref}",\n      "size": {size}\n    }}' for ref, size in found
    )
    return f"[\n{items}\n  ]" if items else "[]"


def plain(message: str, status: int = 200) -> Response:
    """A line of text that no browser takes for a page."""
    answer = typed((message + "\n").encode("utf-8", "replace"), PLAIN, status)
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


def page(text: str, status: int = 200) -> Response:
    """One of our own HTML pages. They hold no scripts, and a policy says so."""
    answer = typed(text.encode("utf-8", "replace"), HTML, status)
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src 'self';"
        " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    return answer


def html_stub(status: int) -> Response:
    return typed(f"<h1>{HTTPStatus(status).phrase}</h1>".encode(), HTML, status)


def unauthorized(request: Request) -> Response:
    if wants_json(request):
        answer = json_error("credentials are missing, wrong, or not enough", 401)
    else:
        answer = typed(b"<html><body><h1>Unauthorized</h1>", HTML, 401)
    answer.headers["WWW-Authenticate"] = 'Basic realm=""'
    return answer


def redirect(request: Request, location: str, status: int) -> Response:
    """Send the client to a path of this server; only a GET is told so in words too."""
    target = quote(location, safe="/:?#[]@!$&'()*+,;=%~-._")
    body = b""
    if request.method == "GET":
        phrase = HTTPStatus(status).phrase
        body = f'<a href="{html.escape(target)}">{phrase}</a>.\n\n'.encode()
    answer = Response(body, status, {"Location": target})
    if request.method in ("GET", "HEAD"):
        answer.headers["Content-Type"] = HTML
    return answer


def json_error(message: str, status: int) -> Response:
    return json_answer({"error": message, "errorType": HTTPStatus(status).phrase}, status)


def wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")


def status_of(error: StoreError) -> int:
    return next(STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF)


def http_error(request: Request, error: HttpError) -> Response:
    if wants_json(request):
        answer = json_error(error.message, error.status)
    elif error.html:
        answer = html_stub(error.status)
    else:
        answer = plain(error.message, error.status)
    answer.headers.update(error.headers)
    return answer


def store_error(request: Request, error: Exception, *, is_local: bool) -> Response:
    """Answer for an error of the stores. Strangers are not told what lies behind.

    is_local: whether the client runs as the server's own user on the same machine.
    """
    status = status_of(error) if isinstance(error, StoreError) and type(error) in STATUS_OF else 500
    detail = f"Server error: {error}" if is_local else "An internal error occurred, sorry."
    if status in (400, 403, 404, 413):
        detail = str(error)
    if wants_json(request):
        return json_error(detail, status)
    return plain(detail, status)
