"""A server without a stream, such as Perkeep, for callers in an event loop: requests in threads."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from itertools import islice
from typing import Final

from ...blob import Ref, SizedRef
from ...blobserver.framing import Found
from ...blobserver.remote import Remote
from ...blobserver.remote.multipart import batches
from ...errors import StoreError
from ...schema.filereader import FileReader

BLOBS_AT_ONCE: Final = 32
"""Fetched by one call of a thread, and in memory."""


class Requests:
    """Reads and writes as `AsyncStream` does. Who is cancelled does not wait for the request."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def put_many(
        self, blobs: Iterable[tuple[Ref, bytes]]
    ) -> list[tuple[SizedRef, StoreError | None]]:
        answers: list[tuple[SizedRef, StoreError | None]] = []
        for batch in batches(blobs):
            outcome = await asyncio.to_thread(self._remote.upload, batch)
            refused = dict(outcome.refused)
            answers += [(SizedRef(ref, len(data)), refused.get(ref)) for ref, data in batch]
        return answers

    async def stat(self, refs: Iterable[Ref]) -> list[SizedRef]:
        return await asyncio.to_thread(lambda: list(self._remote.stat(refs)))

    async def fetch(self, ref: Ref) -> bytes:
        return await asyncio.to_thread(self._remote.fetch, ref)

    async def fetch_many(self, refs: Iterable[Ref]) -> AsyncGenerator[tuple[Ref, Found]]:
        asked = iter(refs)
        while page := list(islice(asked, BLOBS_AT_ONCE)):
            found = await asyncio.to_thread(
                lambda page=page: list(self._remote.fetch_many(page))  # type: ignore[misc]
            )
            for each in found:
                yield each

    async def read_file(
        self, ref: Ref, offset: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes]:
        reader = await asyncio.to_thread(FileReader, self._remote, ref)
        pieces = reader.stream(offset, length, self._remote.fetch_many)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            yield piece
