"""Whole files over HTTP: as attachment or inline, in ranges, or just verified."""

import hashlib
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from email.utils import formatdate
from time import time
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..blob import Ref, parse_ref
from ..blobserver.storage import Storage
from ..errors import Corrupt, Invalid, NotFound
from ..schema.filereader import FileReader
from .answers import HttpError
from .bridge import Bridge
from .files import content_type, missing_chunk, open_file, pages
from .forms import is_true, query_of
from .getting import bad_range
from .ranges import BadRange, ByteRanges, Span, byte_ranges, spans

YEAR_S: Final = 365 * 24 * 3600

SANDBOX: Final = (
    "sandbox; default-src 'none'; img-src 'self' data:; media-src 'self';"
    " style-src 'unsafe-inline'; object-src 'none'"
)
"""A file shown inline has no origin, runs no script and sends no form, whatever it holds."""

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)


class Downloads:
    """Serves files of one store."""

    def __init__(self, storage: Storage, bridge: Bridge) -> None:
        self._storage = storage
        self._bridge = bridge

    async def serve(self, request: Request, ref: Ref, *, inline: bool = False) -> Response:
        """Answer GET or HEAD of a file."""
        if "if-modified-since" in request.headers:
            # A ref always has the same content, so any copy of it is good.
            return Response(status_code=304)
        query = query_of(request)
        inline = inline or is_true(query.get("inline", ""))
        reader = await self._bridge.call(open_file, self._storage, ref)
        headers = file_headers(reader, ref, inline=inline)
        verify = query.get("verifycontents")
        if request.method == "HEAD" and verify is not None:
            return await self._verified(reader, verify, headers)
        try:
            parts = spans(request.headers.get("range"), reader.size)
        except BadRange as error:
            answer = bad_range(error)
            answer.headers.update(headers)
            return answer
        await self._check(reader, parts or [Span(0, reader.size)])
        kind = await self._bridge.call(lambda: content_type(reader, inline=inline))
        headers |= {"Accept-Ranges": "bytes", "Last-Modified": formatdate(usegmt=True)}
        try:
            return await self._streamed(request, reader, kind, headers, parts)
        except NotFound as error:
            # It went away since it was looked for.
            raise HttpError(500, f"Can't serve file: {error}") from None

    async def _check(self, reader: FileReader, parts: Sequence[Span]) -> None:
        """HttpError 500 while an answer can still be given, rather than a body cut short."""
        for start, length in parts:
            missing = await self._bridge.call(missing_chunk, self._storage, reader, start, length)
            if missing is not None:
                reason = f"could not read {missing}: file does not exist"
                raise HttpError(500, f"Can't serve file: {reason}")

    async def _streamed(
        self,
        request: Request,
        reader: FileReader,
        kind: str,
        headers: dict[str, str],
        parts: Sequence[Span],
    ) -> Response:
        status = 206 if parts else 200
        if len(parts) > 1:
            frame = byte_ranges(parts, reader.size, kind)
            kind, length = frame.content_type, frame.length(parts)
            body = self._bridge.pages(_framed(self._storage, reader, frame, parts))
        else:
            span = parts[0] if parts else Span(0, reader.size)
            length = span.length
            if parts:
                headers["Content-Range"] = span.content_range(reader.size)
            body = self._bridge.pages(pages(self._storage, reader, *span))
        headers["Content-Length"] = str(length)
        if request.method == "HEAD":
            answer: Response = Response(status_code=status, headers=headers)
        else:
            # The first page now: if it can't be had, the answer can still be an error.
            first = await anext(body, b"")
            answer = StreamingResponse(_resumed(first, body), status, headers)
        answer.headers["Content-Type"] = kind
        return answer

    async def _verified(self, reader: FileReader, text: str, headers: dict[str, str]) -> Response:
        """HEAD with `verifycontents`: the header X-Camli-Contents vouches for every byte."""
        ref = parse_ref(text)
        kind, is_same = await self._bridge.call(self._verify, reader, ref)
        answer = Response(headers={**headers, "Content-Length": str(reader.size)})
        answer.headers["Content-Type"] = kind
        if is_same and ref is not None:
            answer.headers["X-Camli-Contents"] = ref
        return answer

    def _verify(self, reader: FileReader, ref: Ref | None) -> tuple[str, bool]:
        try:
            kind = content_type(reader, inline=False)
            if ref is None or not ref.is_supported:
                return kind, False
            digest = hashlib.new(ref.hash_name, usedforsecurity=False)
            for page in pages(self._storage, reader, 0, reader.size):
                digest.update(page)
        except (NotFound, Corrupt, Invalid):
            return "application/octet-stream", False
        return kind, digest.hexdigest() == ref.hex_digest


async def _resumed(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for page in rest:
        yield page


def _framed(
    storage: Storage, reader: FileReader, frame: ByteRanges, parts: Sequence[Span]
) -> Iterator[bytes]:
    for head, part in zip(frame.heads, parts, strict=True):
        yield head
        yield from pages(storage, reader, *part)
    yield frame.tail


def file_headers(reader: FileReader, ref: Ref, *, inline: bool) -> dict[str, str]:
    name = reader.schema.file_name.decode("utf-8", "replace") or f"file-{ref}.dat"
    return {
        "Content-Disposition": "inline" if inline else attachment(name),
        "Expires": formatdate(time() + YEAR_S, usegmt=True),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": SANDBOX,
    }


def attachment(name: str) -> str:
    """Content-Disposition for this file name, quoted where it is not a plain token."""
    if _TOKEN.fullmatch(name):
        return f"attachment; filename={name}"
    ascii_name = re.sub(r'[^ -~]|["\\]', "_", name)
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name, safe='')}"
