"""A client of one server for programs with an event loop.

    async with AsyncClient.from_environment(os.environ) as client:
        ref = await client.put_blob(b"hello")
        async with aclosing(client.watch()) as events:
            async for event in events:
                ...

Whoever is cancelled has nothing more on its way: over the stream, what was asked is stopped.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Self

from ...blob import Ref, SizedRef
from ...blobserver import wire
from ...blobserver.framing import Found
from ...errors import Unsupported
from ...schema.filereader import zeros
from ..client import Client
from .requests import Requests
from .stream import AsyncStream, Event

if TYPE_CHECKING:
    from ..backup import Backup
    from ..files import FileOptions


class AsyncClient:
    """As `Client`, with the same names and errors, and the blobs beside. Used in one event loop.

    Where the server offers no stream, or it is not wanted, requests are sent from threads; who is
    cancelled then does not wait for their end.
    """

    def __init__(self, client: Client) -> None:
        """client: not used by anybody else; it is closed with this one."""
        self._client = client
        self._opening = asyncio.Lock()
        self._blobs: AsyncStream | Requests | None = None

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], wanted: str = "", **settings: Any
    ) -> Self:
        """As `Client.from_environment`. Raises ConfigError."""
        return cls(Client.from_environment(environ, wanted, **settings))

    # -- putting ---------------------------------------------------------------------------------

    async def put(self, path: bytes, options: "FileOptions | None" = None) -> Ref:
        """As `Client.put`, in threads. When it is cancelled, what is under way is given up first:
        what was stored is not sent again by the next."""
        begun: list[Backup] = []
        work = asyncio.ensure_future(
            asyncio.to_thread(self._client.put, path, options, begun=begun.append)
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            while not work.done():
                for backup in begun:
                    backup.stop()
                await asyncio.wait([work], timeout=0.1)
            work.exception()
            raise

    async def put_blob(self, data: bytes, hash_name: str = "sha224") -> Ref:
        """Put bytes as a blob, unless the server has it."""
        digest = hashlib.new(hash_name, data, usedforsecurity=False).digest()
        ref = Ref.from_digest(hash_name, digest)
        await self.put_blobs([(ref, data)])
        return ref

    async def put_blobs(self, blobs: Sequence[tuple[Ref, bytes]]) -> None:
        """Put the blobs that the server lacks. Raises the error of the first refused one, after
        all others were sent."""
        there = {found.ref for found in await self.stat(ref for ref, _ in blobs)}
        missing = [(ref, data) for ref, data in blobs if ref not in there]
        for _, error in await (await self._opened()).put_many(missing):
            if error is not None:
                raise error

    # -- getting ---------------------------------------------------------------------------------

    async def stat(self, refs: Iterable[Ref]) -> list[SizedRef]:
        """Those of the refs that are there."""
        return await (await self._opened()).stat(refs)

    async def fetch(self, ref: Ref) -> bytes:
        """Return the blob, verified. Raises NotFound."""
        return await (await self._opened()).fetch(ref)

    async def fetch_many(self, refs: Iterable[Ref]) -> AsyncGenerator[tuple[Ref, Found]]:
        """Yield each blob, verified, in the order asked for; one that is not there as its error."""
        blobs = await self._opened()
        async with aclosing(blobs.fetch_many(refs)) as found:
            async for each in found:
                yield each

    async def read_file(
        self, ref: Ref, offset: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield the bytes of a file from `offset`, to the end or `length` of them.

        In pieces as they are stored; of a hole at most 1 MiB at a time. Raises NotFound, Corrupt
        where it can't go on: what came before is right.
        """
        blobs = await self._opened()
        if isinstance(blobs, Requests):
            async with aclosing(blobs.read_file(ref, offset, length)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        async with aclosing(blobs.read_file(ref, offset, length)) as chunks:
            async for chunk in chunks:
                if chunk.data is not None:
                    yield chunk.data
                    continue
                for piece in zeros(chunk.length):
                    yield piece

    async def watch(
        self, topics: int = wire.TOPIC_BLOBS, cursor: bytes = b""
    ) -> AsyncGenerator[Event]:
        """Yield what happens on the server from the cursor on, until it is closed.

        Keep the cursor of each event when it is dealt with: from there nothing is lost.
        Raises NotFound for a cursor that is too old; Unsupported where there is no stream.
        """
        blobs = await self._opened()
        if isinstance(blobs, Requests):
            raise Unsupported("watch", self._client.transport, "there is no stream")
        async with aclosing(blobs.watch(topics, cursor)) as events:
            async for event in events:
                yield event

    # -- the connection --------------------------------------------------------------------------

    async def _opened(self) -> AsyncStream | Requests:
        """Decided once."""
        async with self._opening:
            if self._blobs is None:
                self._blobs = await self._open()
            return self._blobs

    async def _open(self) -> AsyncStream | Requests:
        remote = await asyncio.to_thread(lambda: self._client.storage)
        if remote.line is not None:
            stream = AsyncStream(remote.transport, remote.stream_path, remote.line)
            try:
                await stream.open()
            except Unsupported:
                pass  # what lies between lets no websocket through
            else:
                return stream
        return Requests(remote)

    async def close(self) -> None:
        """Say goodbye, keep what was learned, close connections. What runs raises Unavailable."""
        if isinstance(self._blobs, AsyncStream):
            await self._blobs.close()
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
