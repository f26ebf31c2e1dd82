"""Parameters of a request: URL query and form body merged, with limits."""

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl

import multipart
from starlette.requests import ClientDisconnect, Request

from .answers import HttpError

FORM_BYTES: Final = 8 * 1024 * 1024
"""The largest form: 1000 refs take 80 KB, a JSON of 1 MiB percent-encoded 3 MiB."""

FORM_FIELDS: Final = 2000

DRAIN_BYTES: Final = 64 * 1024 * 1024


class Form(dict[str, str]):
    """Fields by name; of a repeated one the first."""


async def body_of(request: Request, limit: int = FORM_BYTES) -> bytes:
    """The whole body. HttpError 413 when it is over `limit` bytes."""
    pieces = bytearray()
    async for piece in request.stream():
        pieces += piece
        if len(pieces) > limit:
            raise HttpError(413, f"the body is over {limit} bytes", headers={"Connection": "close"})
    return bytes(pieces)


async def drain(request: Request, limit: int = DRAIN_BYTES) -> None:
    """Read on to the end of the body, so that the client reads our answer before it is cut off.

    Gives up after `limit` bytes.
    """
    seen = 0
    try:
        async for piece in request.stream():
            seen += len(piece)
            if seen > limit:
                return
    except ClientDisconnect:
        return


def content_type(request: Request) -> tuple[str, Mapping[str, str]]:
    """The media type of the body, in lower case, and its parameters."""
    kind, options = multipart.parse_options_header(request.headers.get("content-type", ""))
    return kind.lower(), options


def query_pairs(request: Request) -> list[tuple[str, str]]:
    """The parameters of the URL, in order. HttpError 400 for too many."""
    return _pairs(request.scope["query_string"].decode("utf-8", "replace"))


def query_of(request: Request) -> Form:
    """The parameters of the URL. HttpError 400 for too many."""
    return _first(query_pairs(request))


async def form_of(request: Request, *, multipart_too: bool = True) -> Form:
    """Query and body fields. A body of another type has none; a broken one is 400.

    Fields of an urlencoded body count before those of the URL, parts of a multipart one after them.
    """
    pairs = query_pairs(request)
    kind, options = content_type(request)
    if request.method in ("POST", "PUT", "PATCH"):
        if kind == "application/x-www-form-urlencoded":
            pairs = _pairs((await body_of(request)).decode("utf-8", "replace")) + pairs
        elif kind == "multipart/form-data" and multipart_too:
            pairs += _parts(await body_of(request), options.get("boundary", ""))
    return _first(pairs)


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=FORM_FIELDS)
    except ValueError:
        raise HttpError(400, f"more than {FORM_FIELDS} form fields", html=True) from None


def _first(pairs: list[tuple[str, str]]) -> Form:
    return Form(reversed(pairs))


def _parts(body: bytes, boundary: str) -> list[tuple[str, str]]:
    if not boundary:
        raise HttpError(400, "the multipart body has no boundary", html=True)
    """The fields of a multipart form; files are none."""
    pairs: list[tuple[str, str]] = []
    name, value = "", bytearray()
    try:
        with multipart.PushMultipartParser(boundary, max_segment_count=FORM_FIELDS) as parser:
            for event in parser.parse(body):
                if event is None:
                    if name:
                        pairs.append((name, value.decode("utf-8", "replace")))
                elif isinstance(event, multipart.MultipartSegment):
                    name, value = "" if event.filename else event.name or "", bytearray()
                else:
                    value += event
    except multipart.MultipartError as error:
        raise HttpError(400, f"broken multipart body: {error}", html=True) from None
    return pairs


def is_true(text: str) -> bool:
    """A boolean parameter as clients write them; junk is false."""
    return text in ("1", "t", "T", "true", "TRUE", "True")


def whole_number(text: str, default: int) -> int:
    """A decimal integer, perhaps negative; `default` for anything else or absurdly long."""
    digits = text.removeprefix("-").removeprefix("+")
    if len(text) > 20 or not (digits.isascii() and digits.isdigit()):
        return default
    return int(text)
