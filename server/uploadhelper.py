"""Files sent by a form: the server cuts them into chunks and makes the file blobs."""

import asyncio
import concurrent.futures
import contextlib
import re
import threading
from collections.abc import AsyncIterator
from typing import Any, Final

import multipart
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ..blob import Ref
from ..blobserver.receive import receive_many
from ..blobserver.storage import Storage
from ..errors import Invalid, StoreError
from ..schema.filewriter import write_file
from ..schema.times import format_time, parse_time
from .answers import json_answer, json_error
from .bridge import Bridge
from .forms import content_type
from .uploads import Parts

BATCH_BLOBS: Final = 64
BATCH_BYTES: Final = 8 * 1024 * 1024
PIECE_BYTES: Final = 256 * 1024
FIELD_BYTES: Final = 64 * 1024
MAX_FILES: Final = 10_000
LOOK_S: Final = 0.5


class HelperError(Exception):
    """What the answer says."""


class UploadHelper:
    """Stores the files of multipart forms."""

    def __init__(self, storage: Storage, bridge: Bridge) -> None:
        """bridge: of its own, for a form is read at the pace of its sender."""
        self._storage = storage
        self._bridge = bridge

    async def upload(self, request: Request) -> Response:
        kind, options = content_type(request)
        boundary = options.get("boundary", "")
        if kind != "multipart/form-data" or not boundary:
            reason = "request Content-Type isn't multipart/form-data"
            return json_error(f"reading body: {reason}", 500)
        try:
            got = await self._store_all(Form(request, boundary))
        except HelperError as error:
            return json_error(str(error), 500)
        return json_answer({"got": got or None})

    async def _store_all(self, form: "Form") -> list[dict[str, object]]:
        got: list[dict[str, object]] = []
        modtime: str | None = None
        while (segment := await form.next_part()) is not None:
            name = segment.name or ""
            if segment.filename:
                if len(got) >= MAX_FILES:
                    raise HelperError(f"reading body: more than {MAX_FILES} files")
                file_name = re.split(r"[/\\]", segment.filename.rstrip("/\\"))[-1]
                ref = await self._store(form, file_name, modtime)
                got.append(
                    {
                        "filename": file_name,
                        "modtime": modtime,
                        "formname": name,
                        "fileref": ref,
                    }
                )
            elif name == "modtime":
                modtime = valid_time(await form.text())
        return got

    async def _store(self, form: "Form", file_name: str, modtime: str | None) -> Ref:
        """Write one file in a thread that pulls the body through the loop."""
        members: dict[str, object] = {"camliType": "file", "fileName": file_name}
        if modtime is not None:
            members["unixMtime"] = format_time(parse_time(modtime))

        loop = asyncio.get_running_loop()
        is_over = threading.Event()

        def piece() -> bytes:
            waiting = asyncio.run_coroutine_threadsafe(form.piece(), loop)
            while not is_over.is_set():
                with contextlib.suppress(concurrent.futures.TimeoutError):
                    return waiting.result(LOOK_S)
            # The server stops: nobody feeds this thread any more.
            raise HelperError("writing to blobserver: unexpected EOF")

        def write() -> Ref:
            sink = Sink(self._storage)
            written = write_file(sink.add, iter(piece, b""), members)
            sink.flush()
            return written.ref

        try:
            return await self._bridge.call(write)
        except StoreError as error:
            raise HelperError(f"writing to blobserver: {error}") from None
        finally:
            is_over.set()


class Sink:
    """Gathers blobs, so that one sync serves many."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._batch: list[tuple[Ref, bytes]] = []
        self._size = 0

    def add(self, ref: Ref, data: bytes) -> None:
        self._batch.append((ref, data))
        self._size += len(data)
        if len(self._batch) >= BATCH_BLOBS or self._size >= BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        batch, self._batch, self._size = self._batch, [], 0
        if batch:
            receive_many(self._storage, batch)


Event = Any
"""The head of a part, bytes of its body, or None at its end; the library has no types."""


class Form:
    """A multipart body, part by part. Skipping to the next part reads over the rest of this."""

    def __init__(self, request: Request, boundary: str) -> None:
        self._events = events(request, boundary)
        self._in_part = False

    async def next_part(self) -> multipart.MultipartSegment | None:
        """The head of the next part; None at the end. Raises HelperError."""
        while self._in_part:
            await self.piece()
        try:
            event = await anext(self._events, None)
        except multipart.MultipartError as error:
            raise HelperError(f"reading body: {error}") from None
        if event is not None:
            self._in_part = True
        return event

    async def piece(self) -> bytes:
        """Some bytes of this part, b"" at its end. Raises HelperError when the body breaks off."""
        if not self._in_part:
            return b""
        pieces = bytearray()
        try:
            while len(pieces) < PIECE_BYTES:
                event = await anext(self._events, b"")
                if event == b"":
                    raise HelperError("writing to blobserver: unexpected EOF")
                if event is None:
                    self._in_part = False
                    break
                pieces += event
        except (multipart.MultipartError, ClientDisconnect):
            raise HelperError("writing to blobserver: unexpected EOF") from None
        return bytes(pieces)

    async def text(self) -> str:
        """The whole of a small part. Raises HelperError when it is large."""
        value = bytearray()
        while piece := await self.piece():
            value += piece
            if len(value) > FIELD_BYTES:
                raise HelperError("reading body: a form field is too large")
        return value.decode("utf-8", "replace")


async def events(request: Request, boundary: str) -> AsyncIterator[Event]:
    """Heads, bytes and ends (None) of the parts of the body, as they come."""
    parser = Parts(boundary)
    async for chunk in request.stream():
        if chunk and not parser.closed:
            for event in parser.parse(chunk):
                yield event


def valid_time(text: str) -> str | None:
    """The RFC 3339 time in this text, as it is shown again; None for anything else."""
    try:
        instant_ns = parse_time(text.strip())
    except Invalid:
        return None
    return format_time(instant_ns) if text.strip().endswith("Z") else text.strip()
