"""A line between a client and a server, with faults to order: delay, rate, cuts, silence.

What goes through it takes `delay_s` each way and at most `rate` bytes a second; the line itself
holds no more than that, so a sender is held up as by a real one.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

READ_BYTES: Final = 64 * 1024
PIECE_BYTES: Final = 16 * 1024

LATE_S: Final = 0.03

UnderWay = asyncio.Queue[tuple[float, bytes]]
"""When a piece arrives, and the piece; b"" at the end."""


class Line:
    """A proxy on a free port of loopback. All attributes may be set while it runs."""

    def __init__(self, url: str, *, delay_s: float = 0.0, rate: float = 0.0) -> None:
        """delay_s: one way. rate: bytes a second in each direction; 0: no limit."""
        parts = urlsplit(url)
        self._far = (parts.hostname or "", parts.port or 80)
        self.delay_s = delay_s
        self.rate = rate
        self.connections = 0
        self.up_bytes = 0
        self.down_bytes = 0
        self.cut_after: int | None = None
        """Bytes, both ways together, after which all connections are cut, once."""
        self.on_cut: Callable[[], int | None] = lambda: None
        """Called at a cut; returns the next `cut_after`."""
        self.captured: list[tuple[str, bytes]] | None = None
        """("up" or "down", bytes) of what passes, where it is a list."""
        self._is_silent = False
        self._is_deaf = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._started.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset all connections."""
        self._call(self._cut())

    def silence(self) -> None:
        """Let nothing pass any more on the connections that there are, and keep them open."""
        self._is_silent = True

    def refuse(self) -> None:
        """Take no new connections, and reset those that there are."""
        self._is_deaf = True
        self.cut()

    def accept(self) -> None:
        self._is_deaf = self._is_silent = False

    def close(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connected, "127.0.0.1", 0, limit=READ_BYTES)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))

    async def _connected(
        self, near: asyncio.StreamReader, near_writer: asyncio.StreamWriter
    ) -> None:
        self._writers.add(near_writer)
        if self._is_deaf:
            _reset(near_writer)
            return
        self.connections += 1
        try:
            far, far_writer = await asyncio.open_connection(*self._far, limit=READ_BYTES)
        except OSError:
            _reset(near_writer)
            return
        self._writers.add(far_writer)
        try:
            async with asyncio.TaskGroup() as group:
                for way, reader, writer in (("up", near, far_writer), ("down", far, near_writer)):
                    under_way: UnderWay = asyncio.Queue()
                    room = asyncio.Semaphore(self._holds())
                    group.create_task(self._take(reader, under_way, room))
                    group.create_task(self._deliver(under_way, room, writer, way))
        except* (OSError, asyncio.CancelledError):
            pass  # a cut, or the end of the proxy
        finally:
            for writer in (near_writer, far_writer):
                self._writers.discard(writer)
                _reset(writer)

    def _holds(self) -> int:
        """How many pieces are on the line at a time."""
        return max(4, int(self.rate * (self.delay_s + 2 * LATE_S)) // PIECE_BYTES)

    async def _take(
        self, reader: asyncio.StreamReader, under_way: UnderWay, room: asyncio.Semaphore
    ) -> None:
        """One direction's near end: at the rate of the line, and no more than it holds."""
        free_at = 0.0
        while data := await reader.read(PIECE_BYTES):
            await room.acquire()
            now = self._loop.time()
            # This program wakes up late now and then; a line does not rest for that.
            free_at = max(free_at, now - LATE_S) + (len(data) / self.rate if self.rate else 0.0)
            if free_at - now > 0.002:
                await asyncio.sleep(free_at - now)
            # From when it came, never before: being late may not shorten the way.
            under_way.put_nowait((max(free_at, now) + self.delay_s, data))
        under_way.put_nowait((max(free_at, self._loop.time()) + self.delay_s, b""))

    async def _deliver(
        self,
        under_way: UnderWay,
        room: asyncio.Semaphore,
        writer: asyncio.StreamWriter,
        way: str,
    ) -> None:
        while True:
            due, data = await under_way.get()
            room.release()
            wait_s = due - self._loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            while self._is_silent:
                await asyncio.sleep(0.01)
            if not data:
                writer.write_eof()
                return
            await self._count(way, data)
            writer.write(data)
            await writer.drain()

    async def _count(self, way: str, data: bytes) -> None:
        if self.captured is not None:
            self.captured.append((way, data))
        if way == "up":
            self.up_bytes += len(data)
        else:
            self.down_bytes += len(data)
        if self.cut_after is not None and self.up_bytes + self.down_bytes >= self.cut_after:
            self.cut_after = self.on_cut()
            await self._cut()

    async def _cut(self) -> None:
        for writer in list(self._writers):
            _reset(writer)
        await asyncio.sleep(0)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Break a connection off as a pulled cable and a restarted router would: by RST."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextmanager
def line_to(url: str, *, delay_s: float = 0.0, rate: float = 0.0) -> Iterator[Line]:
    line = Line(url, delay_s=delay_s, rate=rate)
    try:
        yield line
    finally:
        line.close()
