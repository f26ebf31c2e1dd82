"""Which blobs hold the bytes of a file: `GET <prefix>camli/file-chunks/<ref>`, ours.

For clients without a stream (pkg/blobserver/STREAM.md, FILE with NAMES): with the answer in hand
they fetch the chunks in batches, ahead, instead of walking down the schema blobs.
"""

import re
from collections.abc import Iterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..blob import Ref, parse_ref
from ..blobserver.storage import Storage
from ..schema.filereader import FileReader, Leaf
from .answers import JSON, bad_request, joined, resumed
from .bridge import Bridge
from .forms import query_of

PAGE_BYTES: Final = 256 * 1024

_NUMBER: Final = re.compile(r"\d{1,19}", re.ASCII)


def number(request: Request, name: str) -> int | None:
    """A parameter of the query; None where it is absent. 400 for what is no number."""
    text = query_of(request).get(name, "")
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        raise bad_request(f"{name} is no number")
    return int(text)


async def answer(request: Request, storage: Storage, bridge: Bridge) -> Response:
    """All chunks from `offset` on, `length` bytes of them; the whole file without these."""
    ref = parse_ref(request.scope["path"].rpartition("/")[2])
    if ref is None:
        raise bad_request("not a ref")
    offset, length = number(request, "offset") or 0, number(request, "length")
    headers = {"Content-Type": JSON, "X-Content-Type-Options": "nosniff"}
    pages = bridge.pages(joined(document(storage, ref, offset, length), PAGE_BYTES))
    # The first page now: what is no file, or not there, can still be told.
    first = await anext(pages)
    if request.method == "HEAD":
        await pages.aclose()
        return Response(headers=headers)
    return StreamingResponse(resumed(first, pages), headers=headers)


def document(storage: Storage, ref: Ref, offset: int, length: int | None) -> Iterator[bytes]:
    """The answer in pieces. Raises NotFound, Invalid (no file), Corrupt."""
    reader = FileReader(storage, ref)
    lines = map(_line, reader.chunks(offset, length, storage.fetch_many))
    first = next(lines, "")
    yield f'{{\n  "size": {reader.size},\n  "chunks": [{first}'.encode()
    for line in lines:
        yield f",{line}".encode()
    yield b"\n  ]\n}\n"


def _line(leaf: Leaf) -> str:
    """A chunk: bytes `start` to `start + length` of the blob are the file's from `offset` on.
    Without a blob they are zeros."""
    blob = f'"blobRef": "{leaf.ref}", "start": {leaf.offset}, ' if leaf.ref is not None else ""
    return f'\n    {{{blob}"offset": {leaf.file_offset}, "length": {leaf.length}}}'
