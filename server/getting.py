"""Serving the bytes of one blob: ranges, conditions, HEAD. Used by every door that gives blobs."""

import re
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from ..blob import Ref, SizedRef, parse_ref
from ..blobserver.storage import Storage
from ..errors import NotFound
from .answers import PLAIN, HttpError, json_error, plain, typed, wants_json
from .bridge import Bridge
from .encoding import HEADERS, shrunk, takes_zstd
from .ranges import BadRange, Span, byte_ranges, precondition, range_counts, spans

LAST_MODIFIED: Final = "Thu, 10 Jun 2010 23:42:15 GMT"
"""A blob never changes; the date is the one that the reference gives to all of them."""

TEXT_BYTES: Final = 32 * 1024
"""Blobs below this size that are UTF-8 are served as text."""

OCTETS = "application/octet-stream"

_CONDITIONS: Final = (
    "range",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-unmodified-since",
)

_REF_AT_END = re.compile(r"/camli/([a-z][a-z0-9]*-[a-f0-9]+)$", re.ASCII)

_COMMON: Final = [
    (b"accept-ranges", b"bytes"),
    (b"cache-control", b"max-age=307584000, immutable"),
    (b"last-modified", LAST_MODIFIED.encode()),
    # Whatever a blob holds, a browser must not take it for a page of ours.
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
]


class RawAnswer(Response):
    """A response whose headers are given as they go over the wire."""

    def __init__(self, body: bytes, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code = status
        self.body = body
        self.background = None
        self.raw_headers = headers


def ref_in_path(path: str) -> Ref | None:
    """The ref at the end of the path, after the last `/camli/`."""
    match = _REF_AT_END.search(path)
    return parse_ref(match[1]) if match is not None else None


def kind_of(data: bytes) -> bytes:
    """The content type of a whole blob."""
    if len(data) < TEXT_BYTES:
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            return OCTETS.encode()
        return PLAIN.encode()
    return OCTETS.encode()


def not_found(ref: Ref) -> Response:
    return typed(f'Blob "{ref}" not found'.encode(), PLAIN, 404)


def bad_range(error: BadRange) -> Response:
    answer = plain(error.message, 416)
    if error.size is not None:
        answer.headers["Content-Range"] = f"bytes */{error.size}"
    return answer


async def serve_blob(bridge: Bridge, storage: Storage, ref: Ref, request: Request) -> Response:
    """Answer GET or HEAD of a blob."""
    headers = request.headers
    try:
        if request.method == "HEAD" or any(name in headers for name in _CONDITIONS):
            return await _serve_carefully(bridge, storage, ref, request)
        if takes_zstd(request):
            data, small = await bridge.call(_fetch_and_shrink, storage, ref)
        else:
            data, small = await bridge.call(storage.fetch, ref), None
    except NotFound:
        return json_error("not found", 404) if wants_json(request) else not_found(ref)
    except BadRange as error:
        return bad_range(error)
    if small is not None:
        head = [(b"content-type", kind_of(data)), (b"content-length", b"%d" % len(small))]
        return RawAnswer(small, 200, [*head, *HEADERS, *_COMMON])
    return _whole(kind_of(data), len(data), data)


def _fetch_and_shrink(storage: Storage, ref: Ref) -> tuple[bytes, bytes | None]:
    data = storage.fetch(ref)
    return data, shrunk(data)


async def _serve_carefully(
    bridge: Bridge, storage: Storage, ref: Ref, request: Request
) -> Response:
    """What needs the size first: ranges, HEAD, conditions. Raises NotFound, BadRange."""
    size = (await bridge.call(stat_one, storage, ref)).size
    status = precondition(request.headers, LAST_MODIFIED)
    if status is not None:
        return RawAnswer(b"", status, _COMMON)
    asked = request.headers.get("range")
    parts = spans(asked, size) if range_counts(request.headers, LAST_MODIFIED) else []
    if parts:
        return await _parts(bridge, storage, ref, size, parts)
    is_head = request.method == "HEAD"
    if asked or size >= TEXT_BYTES:
        # The type is known without a look at the bytes.
        data = b"" if is_head else await bridge.call(storage.fetch, ref)
        return _whole(OCTETS.encode(), size, data)
    data = await bridge.call(storage.fetch, ref)
    return _whole(kind_of(data), size, b"" if is_head else data)


def _whole(kind: bytes, size: int, data: bytes) -> Response:
    head = [(b"content-type", kind), (b"content-length", b"%d" % size), *_COMMON]
    return RawAnswer(data, 200, head)


async def _parts(
    bridge: Bridge, storage: Storage, ref: Ref, size: int, parts: list[Span]
) -> Response:
    if len(parts) == 1:
        span = parts[0]
        data = await bridge.call(storage.fetch_range, ref, span.start, span.length)
        head = [
            (b"content-type", OCTETS.encode()),
            (b"content-length", b"%d" % len(data)),
            (b"content-range", span.content_range(size).encode()),
            *_COMMON,
        ]
        return RawAnswer(data, 206, head)
    whole = await bridge.call(storage.fetch, ref)
    frame = byte_ranges(parts, size, OCTETS)
    pieces = [
        piece
        for start, part in zip(frame.heads, parts, strict=True)
        for piece in (start, whole[part.start : part.start + part.length])
    ]
    data = b"".join([*pieces, frame.tail])
    head = [
        (b"content-type", frame.content_type.encode()),
        (b"content-length", b"%d" % len(data)),
        *_COMMON,
    ]
    return RawAnswer(data, 206, head)


def stat_one(storage: Storage, ref: Ref) -> SizedRef:
    """The blob's size. Raises NotFound."""
    for found in storage.stat([ref]):
        return found
    raise NotFound("stat", ref)


def malformed_url() -> HttpError:
    return HttpError(400, "Malformed GET URL.")
