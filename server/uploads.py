"""Batch upload: a multipart body becomes blobs, a window of them at a time.

A window of the body is parsed, checked and stored in one call into a thread, with one sync for its
blobs, while the next one is being read; more than two windows are never in memory. The answer names
the blobs in the order of their parts, up to the first that fails.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import takewhile
from typing import Final
from urllib.parse import unquote

import multipart
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ..blob import MAX_BLOB_SIZE, Ref, SizedRef, parse_ref
from ..blobserver.receive import check
from ..blobserver.storage import Storage
from ..errors import Corrupt, Invalid, StoreError, TooLarge
from ..index.index import IndexRefused
from .answers import bad_request, json_text, raw_json, sized_json
from .bridge import Bridge
from .forms import content_type

WINDOW_BYTES: Final = 4 * 1024 * 1024

WINDOW_BLOBS: Final = 1000
"""Blobs of a window that are stored at once: a body may consist of tiny ones."""

PARSED_PIECES: Final = 16
"""Pieces of the body, of 64 to 256 KiB, that are parsed in one go."""

Vivify = Callable[[Sequence[SizedRef]], Awaitable[tuple[list[Ref], list[str]]]]
"""Makes permanodes for these blobs: gives those that got one, and what went wrong."""


class Parts(multipart.PushMultipartParser):  # type: ignore[misc]  # it has no types
    """Takes parts of any disposition: what is wrong with one is told by its text, not by a stop."""

    def _create_segment(self, headerlist: list[tuple[str, str]]) -> multipart.MultipartSegment:
        segment = multipart.MultipartSegment(headerlist)
        if segment.filename is None:
            segment.filename = _extended_file_name(headerlist)
        return segment

    def _on_segment_headerline(self, line: bytes) -> None:
        # A file name in another encoding is no reason to refuse what it names.
        super()._on_segment_headerline(line.decode("utf-8", "replace").encode())


_EXTENDED_FILE_NAME = re.compile(r";\s*filename\*\s*=\s*utf-8'[^']*'([^;\s]+)", re.IGNORECASE)


def _extended_file_name(headers: Sequence[tuple[str, str]]) -> str | None:
    """The name as some libraries write one that is not ASCII: `filename*=UTF-8''%C3%A9`."""
    disposition = dict(headers).get("Content-Disposition", "")
    found = _EXTENDED_FILE_NAME.search(disposition)
    return None if found is None else unquote(found[1])


class Stop(Exception):
    """Reading the body ends here; the message goes into the answer."""


class Batch:
    """What one request brings: blobs in order, and the messages on the way.

    In threads, but one at a time: bytes of the body go in, and the blobs that they complete are
    stored at once.
    """

    def __init__(self, storage: Storage, boundary: str) -> None:
        self.received: list[SizedRef] = []
        self.errors: list[str] = []
        self._storage = storage
        self._parser = Parts(boundary)
        self._part = Part(self._add, self.errors.append)
        self._blobs: list[tuple[Ref, list[bytes]]] = []
        self._blob_bytes = 0

    def feed(self, pieces: list[bytes]) -> bool:
        """Take the next bytes of the body; whether there is any use in more.

        pieces: is emptied.
        """
        pieces.reverse()
        try:
            while pieces and not self._parser.closed:
                # So most blobs are in one piece, and the window does not lie in memory twice.
                taken = [pieces.pop() for _ in pieces[:PARSED_PIECES]]
                for event in self._parser.parse(b"".join(taken)):
                    self._part.take(event)
            self._store()
        except multipart.MultipartError as error:
            return self._stop(f"multipart: {error}")
        except Stop as stop:
            return self._stop(str(stop))
        return True

    def end(self) -> None:
        """The body is over."""
        try:
            self._part.end()
        except Stop as stop:
            self.errors.append(str(stop))

    def _add(self, ref: Ref, pieces: list[bytes], size: int) -> None:
        self._blobs.append((ref, pieces))
        self._blob_bytes += size
        if len(self._blobs) >= WINDOW_BLOBS or self._blob_bytes >= WINDOW_BYTES:
            self._store()

    def _store(self) -> None:
        """Store what is complete. Raises Stop for a blob that fails."""
        blobs, self._blobs, self._blob_bytes = self._blobs, [], 0
        if not blobs:
            return
        received, error = store(self._storage, blobs)
        self.received += received
        if error:
            raise Stop(error)

    def _stop(self, error: str) -> bool:
        """Store what came before; what fails there is told instead."""
        try:
            self._store()
        except Stop as stop:
            error = str(stop)
        self.errors.append(error)
        return False


def store(
    storage: Storage, window: Sequence[tuple[Ref, list[bytes]]]
) -> tuple[list[SizedRef], str]:
    """Check and store blobs in order, up to the first that fails; its error as text, else ""."""
    blobs: list[tuple[Ref, bytes]] = []
    trouble = ""
    for ref, pieces in window:
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        try:
            check(ref, data)
        except StoreError as error:
            trouble = failure(ref, error)
            break
        blobs.append((ref, data))
    received, error_text = _receive(storage, blobs)
    return received, error_text or trouble


def _receive(storage: Storage, blobs: Sequence[tuple[Ref, bytes]]) -> tuple[list[SizedRef], str]:
    refused = receive_all(storage, blobs)
    # Those before the first that is refused count as received.
    good = list(takewhile(lambda blob: blob[0] not in refused, blobs))
    received = [SizedRef(ref, len(data)) for ref, data in good]
    if len(good) == len(blobs):
        return received, ""
    ref = blobs[len(good)][0]
    return received, failure(ref, refused[ref])


def receive_all(storage: Storage, blobs: Sequence[tuple[Ref, bytes]]) -> Mapping[Ref, StoreError]:
    """Store checked blobs durably, with one sync. Returns those that were not received, and why:
    all where the store fails, single ones where the index refuses them."""
    try:
        if blobs:
            storage.receive_many(blobs)
    except IndexRefused as error:
        return {ref: Invalid("index", ref, reason) for ref, reason in error.reasons.items()}
    except StoreError as error:
        return {ref: error for ref, _ in blobs}
    return {}


def failure(ref: Ref, error: StoreError) -> str:
    """What the answer says of a blob that was not received."""
    if isinstance(error, Corrupt | TooLarge):
        reason = "corrupt blob; digest doesn't match"
    elif not ref.is_supported:
        reason = f"invalid blob type {ref}; no registered hash function"
    else:
        reason = error.reason or str(error)
    return f"Error receiving blob {ref}: {reason}\n"


class Uploads:
    """The upload endpoint of one storage prefix."""

    def __init__(self, storage: Storage, bridge: Bridge, vivify: Vivify | None = None) -> None:
        self._storage = storage
        self._bridge = bridge
        self._vivify = vivify

    async def upload(self, request: Request) -> Response:
        kind, options = content_type(request)
        boundary = options.get("boundary", "")
        if not kind.startswith("multipart/") or not boundary:
            raise bad_request("an upload is a multipart body with a boundary")
        batch = Batch(self._storage, boundary)
        await _read(request, batch, self._bridge)
        vivified: list[Ref] = []
        if self._vivify is not None and request.headers.get("x-camlistore-vivify") == "1":
            vivified, errors = await self._vivify(batch.received)
            batch.errors += errors
        answer = raw_json(upload_json(batch.received, "\n".join(batch.errors)))
        for ref in vivified:
            answer.headers.append("X-Camlistore-Vivified", ref)
        return answer


async def _read(request: Request, batch: Batch, bridge: Bridge) -> None:
    """Give the body to the batch: one window is being stored while the next one is read."""
    window: list[bytes] = []
    window_bytes = 0
    flying: asyncio.Future[bool] | None = None
    try:
        async for chunk in request.stream():
            if not chunk:
                continue  # the end; the parser would take it for that of the last part
            window.append(chunk)
            window_bytes += len(chunk)
            if window_bytes >= WINDOW_BYTES:
                if flying is not None and not await flying:
                    return
                flying = asyncio.ensure_future(bridge.call(batch.feed, window))
                window, window_bytes = [], 0
    except ClientDisconnect:
        is_whole = False  # the whole parts before the end are kept
    else:
        is_whole = True
    if flying is not None and not await flying:
        return
    if await bridge.call(batch.feed, window) and is_whole:
        batch.end()


class Part:
    """The part of the body that is being read."""

    def __init__(
        self, add: Callable[[Ref, list[bytes], int], None], warn: Callable[[str], None]
    ) -> None:
        """add: called with each blob that is complete. warn: with what is left out, as text."""
        self._add = add
        self._warn = warn
        self._ref: Ref | None = None
        self._is_open = False
        self._pieces: list[bytes] = []
        self._size = 0

    def take(self, event: multipart.MultipartSegment | bytes | None) -> None:
        """Raises Stop where reading on makes no sense."""
        if event is None:
            self._is_open = False
            if self._ref is not None:
                self._add(self._ref, self._pieces, self._size)
        elif isinstance(event, multipart.MultipartSegment):
            self._begin(event)
        elif self._ref is not None:
            self._size += len(event)
            if self._size > MAX_BLOB_SIZE:
                raise Stop(failure(self._ref, TooLarge("receive", self._ref)))
            self._pieces.append(bytes(event))

    def _begin(self, segment: multipart.MultipartSegment) -> None:
        if not segment.disposition:
            raise Stop("invalid Content-Disposition")
        if segment.disposition != "form-data":
            raise Stop(f'Expected Content-Disposition of "form-data"; got "{segment.disposition}"')
        name = segment.name or ""
        self._is_open = True
        self._pieces, self._size = [], 0
        self._ref = parse_ref(name)
        if self._ref is None:
            self._warn(f"Ignoring form key {json.dumps(name, ensure_ascii=False)}")
        elif not self._ref.is_supported:
            raise Stop(failure(self._ref, Invalid("receive", self._ref)))

    def end(self) -> None:
        """The body is over. Raises Stop if it broke off within a part."""
        if self._is_open and self._ref is not None:
            raise Stop(f"Error receiving blob {self._ref}: unexpected EOF\n")


def upload_json(received: Sequence[SizedRef], error_text: str) -> str:
    """The answer, laid out like the reference's: `errorText` only when there is any."""
    error = f',\n  "errorText": {json_text(error_text).rstrip()}' if error_text else ""
    return f'{{\n  "received": {sized_json(received)}{error}\n}}\n'
