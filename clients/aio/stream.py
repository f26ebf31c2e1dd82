"""The stream to a server (pkg/blobserver/STREAM.md) for callers in an event loop."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable
from contextlib import aclosing
from itertools import islice
from typing import Final, TypeVar

from ...blob import MAX_BLOB_SIZE, Ref, SizedRef
from ...blobserver import wire
from ...blobserver.framing import Found
from ...blobserver.remote import FREE_LINE, Line, Transport
from ...blobserver.remote.attempts import Attempts
from ...blobserver.remote.dialogue import REFS_AT_ONCE, Dialogue, Held, Question, Upload
from ...blobserver.remote.pace import Pace
from ...blobserver.remote.questions import Chunk, Reading, Sizes, Slot, Watching, Window, chunk_of
from ...blobserver.remote.stream import CLOSE_WAIT_S, IDLE_S, UNANSWERED_BYTES
from ...errors import StoreError, TooLarge, Unavailable
from .link import Link, open_link

LARGE_BYTES: Final = 256 * 1024
"""What is larger is unpacked and verified in a thread: the loop has others to serve."""

Event = wire.events.Arrived | wire.events.Changed


class AsyncStream:
    """As `remote.stream.Stream`, with the same names and errors. Used in one event loop.

    Opened when it is first used; after a cut it goes on where it was. Whoever is cancelled while
    waiting has nothing more on its way: questions are stopped, and what has not left of uploads
    stays here. path: of the websocket, as discovery names it.
    """

    def __init__(self, http: Transport, path: str, line: Line = FREE_LINE) -> None:
        self._http = http
        self._path = path
        self._line = line
        features = wire.FEATURE_ZSTD if line.compress is not None else 0
        hello = wire.CLIENT_HELLO._replace(features=features)
        self._dialogue = Dialogue(
            lambda now: wire.ClientMachine(now, hello, patience_s=line.patience_s)
        )
        self._up, self._down = Pace(line.up_bytes_s), Pace(line.down_bytes_s)
        self._waiters: dict[asyncio.Future[None], Callable[[], bool]] = {}
        self._opening = asyncio.Lock()
        self._link: Link | None = None
        self._running: asyncio.Task[None] | None = None
        self._is_closed = False
        self._used_at = 0.0
        self._is_telling = False
        self._thirsty = 0  # how many wait for a blob
        self.connections = 0
        """How often it has connected."""

    def __str__(self) -> str:
        return f"{self._http} (stream)"

    # -- uploads ---------------------------------------------------------------------------------

    async def put(self, ref: Ref, data: bytes, *, no_rush: bool = False) -> None:
        """Send a blob; return when it is durable.

        no_rush: the server need not make it durable before the next blob without this flag.
        """
        (upload,) = await self._put([(ref, data)], no_rush=no_rush)
        if upload.error is not None:
            raise upload.error

    async def put_many(
        self, blobs: Iterable[tuple[Ref, bytes]]
    ) -> list[tuple[SizedRef, StoreError | None]]:
        """Send blobs; returns, when all are answered, each in order, with why it is not stored.

        Raises Unavailable.
        """
        sent = await self._put(blobs, no_rush=True)
        return [(SizedRef(upload.ref, upload.size), upload.error) for upload in sent]

    async def _put(self, blobs: Iterable[tuple[Ref, bytes]], *, no_rush: bool) -> list[Upload]:
        """Uploads that are over, in order."""
        sent: list[Upload] = []
        left: set[Upload] = set()

        def done(upload: Upload) -> None:
            left.discard(upload)
            self._tell()

        try:
            for ref, data in blobs:
                upload = await self._packed(ref, data, done, no_rush=no_rush)
                await self._wait(lambda: self._dialogue.unanswered_bytes <= UNANSWERED_BYTES)
                await self.open()
                sent.append(upload)
                left.add(upload)
                self._dialogue.put(upload)
                self._pump()
            await self._wait(lambda: not left)
        finally:
            for upload in left:
                self._dialogue.withdraw(upload)
            self._pump()
        return sent

    async def _packed(
        self, ref: Ref, data: bytes, done: Callable[[Upload], None], *, no_rush: bool
    ) -> Upload:
        size = len(data)
        if size > MAX_BLOB_SIZE:
            raise TooLarge("put", ref, f"{size} bytes")
        level, is_packed = self._line.compress, False
        if level is not None:
            data, is_packed = await asyncio.to_thread(lambda: wire.pack(wire.Zstd(level), data))
        return Upload(ref, data, done, size=size, packed=is_packed, no_rush=no_rush)

    # -- questions -------------------------------------------------------------------------------

    async def stat(self, refs: Iterable[Ref]) -> list[SizedRef]:
        """Those of the refs that are there."""
        found: list[SizedRef] = []
        asked = iter(dict.fromkeys(refs))
        while page := list(islice(asked, REFS_AT_ONCE)):
            question = Sizes(page)
            await self._ask(question)
            try:
                await self._wait(lambda question=question: not question.is_wanted)  # type: ignore[misc]
            finally:
                self._stop(question)
            if question.error is not None:
                raise question.error
            sizes = zip(page, question.sizes, strict=True)
            found += [SizedRef(ref, size) for ref, size in sizes if size is not None]
        return found

    async def fetch(self, ref: Ref) -> bytes:
        """Return the blob, verified, before all that is fetched in bulk."""
        async with aclosing(self.fetch_many([ref], priority=wire.INTERACTIVE)) as found:
            async for _, data in found:
                if isinstance(data, bytes):
                    return data
                raise data
        raise AssertionError

    async def fetch_many(
        self, refs: Iterable[Ref], *, priority: int = wire.NORMAL
    ) -> AsyncGenerator[tuple[Ref, Found]]:
        """Yield each blob, verified, in the order asked for; one that is not there as its error.

        Some are always on their way, about 8 MiB.
        """
        window = Window(self._dialogue, refs, priority)
        try:
            while True:
                more = window.next_refs()
                if more:
                    await self.open()
                    window.fill(more)
                    self._pump()
                slot = window.first()
                if slot is None:
                    return
                await self._wait_for_blob(lambda slot=slot: slot.found is not None)  # type: ignore[misc]
                result = await _result(slot)
                window.drop()
                self._pump()
                yield result
        finally:
            window.close()
            self._pump()

    async def read_file(
        self,
        ref: Ref,
        offset: int = 0,
        length: int | None = None,
        *,
        priority: int = wire.NORMAL,
    ) -> AsyncGenerator[Chunk]:
        """Yield the content of a file or bytes blob from `offset`, in order, holes as such.

        Raises NotFound, Corrupt, Unavailable where it can't go on: what came before is right.
        """
        reading = Reading(ref, offset, length, priority)
        await self._ask(reading)
        taken: list[Held | wire.events.Hole] = []
        try:
            while True:
                if reading.is_paused and not reading.came:
                    await self._ask(reading)
                await self._wait_for_blob(lambda: bool(reading.came) or reading.is_over)
                if not reading.came:
                    break
                taken = reading.taken()
                for came in taken:
                    size_bytes = came.blob.size if isinstance(came, Held) else 0
                    yield await _maybe_in_thread(lambda came=came: chunk_of(came), size_bytes)  # type: ignore[misc]
                self._release(taken)
        finally:
            reading.give_up()
            self._stop(reading)
            self._release([*taken, *reading.came])
        if reading.error is not None:
            raise reading.error

    def _release(self, taken: Iterable[Held | wire.events.Hole]) -> None:
        for came in taken:
            if isinstance(came, Held):
                came.release()
        self._pump()

    async def watch(
        self, topics: int = wire.TOPIC_BLOBS, cursor: bytes = b""
    ) -> AsyncGenerator[Event]:
        """Yield what happens on the server from the cursor on, until it is closed.

        Keep the cursor of each event when it is dealt with: from there nothing is lost.
        Raises NotFound for a cursor that is too old, Unsupported.
        """
        watching = Watching(topics, cursor)
        await self._ask(watching)
        try:
            while True:
                if watching.is_paused and not watching.came:
                    await self._ask(watching)
                await self._wait(lambda: bool(watching.came) or not watching.is_wanted)
                if not watching.came:
                    assert watching.error is not None
                    raise watching.error
                yield watching.came.popleft()
        finally:
            watching.give_up()
            self._stop(watching)

    async def _ask(self, question: Question) -> None:
        await self.open()
        self._dialogue.ask(question)
        self._pump()

    def _stop(self, question: Question) -> None:
        self._dialogue.stop(question)
        self._pump()

    async def _wait_for_blob(self, is_there: Callable[[], bool]) -> None:
        """Meanwhile more may come than was to be held: this may lie behind what others hold."""
        self._thirsty += 1
        try:
            self._relieve()
            await self._wait(is_there)
        finally:
            self._thirsty -= 1

    async def _wait(self, is_there: Callable[[], bool]) -> None:
        while not is_there():
            waiter = asyncio.get_running_loop().create_future()
            self._waiters[waiter] = is_there
            try:
                await waiter
            finally:
                del self._waiters[waiter]

    def _tell(self) -> None:
        """Wake those who have what they wait for, when all that has come is taken in."""
        if not self._is_telling and self._waiters:
            self._is_telling = True
            asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        self._is_telling = False
        for waiter, is_there in self._waiters.items():
            if not waiter.done() and is_there():
                waiter.set_result(None)
        if self._thirsty:
            self._relieve()

    def _relieve(self) -> None:
        self._dialogue.relieve()
        self._pump()

    def _pump(self) -> None:
        if self._link is not None:
            self._link.pump()

    # -- the connection --------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._running is not None

    async def open(self) -> None:
        """Connect, unless it is connected. Raises Unavailable, Forbidden; Unsupported where
        there is no stream."""
        if self._running is not None:
            return
        async with self._opening:
            if self._running is not None:
                return
            if self._is_closed:
                raise Unavailable("use", self, "stopped")
            link = await self._first_link()
            if self._is_closed:
                link.abort()
                raise Unavailable("use", self, "stopped")
            self._begin(link)
            self._running = asyncio.create_task(self._run(link), name="stream")

    async def _first_link(self) -> Link:
        """A server that never answered is not tried again."""
        try:
            return await self._new_link()
        except Unavailable as error:
            if not self.connections:
                raise
            return await self._connect_again(self._http.retry_waits_s, error.reason)

    def _new_link(self) -> Coroutine[None, None, Link]:
        return open_link(self._http, self._path, self._up, self._down)

    def _begin(self, link: Link) -> None:
        self._used_at = asyncio.get_running_loop().time()
        self._dialogue.connected(self._used_at)
        self.connections += 1
        self._link = link
        link.start(self)

    async def _run(self, link: Link) -> None:
        """The task: one connection after the other, until it is closed, idle or given up."""
        attempts = Attempts(self._http.retry_waits_s)
        try:
            while True:
                answers = self._dialogue.answers
                ended = await link.ended
                self._link = None
                self._dialogue.cut()
                if self._is_closed:
                    raise Unavailable("use", self, "stopped")
                if not self._dialogue.has_work:
                    self._running = None
                    return
                waits_s = attempts.after(
                    brought=self._dialogue.answers > answers, was_broken_off=ended.was_broken_off
                )
                link = await self._connect_again(waits_s, ended.reason)
                self._begin(link)
        except StoreError as error:
            self._end(error)
        except BaseException as error:
            self._end(Unavailable("use", self, repr(error)))
            raise

    async def _connect_again(self, waits_s: Iterable[float], reason: str) -> Link:
        """waits_s: before each try."""
        failure: StoreError = Unavailable("use", self, reason or "the server closed it")
        for wait_s in waits_s:
            await asyncio.sleep(wait_s)
            try:
                return await self._new_link()
            except Unavailable as error:
                failure = error
        raise failure

    def _end(self, error: StoreError) -> None:
        link, self._link, self._running = self._link, None, None
        if link is not None:
            link.abort()
        self._dialogue.fail(error)
        self._tell()

    async def close(self) -> None:
        """Say goodbye, and wait a moment for it. What runs raises Unavailable."""
        self._is_closed = True
        running, machine = self._running, self._dialogue.machine
        if running is None:
            return
        if machine is None:  # it connects
            running.cancel()
        elif not self._dialogue.has_work:
            machine.goodbye()
        self._pump()
        await asyncio.wait([running], timeout=CLOSE_WAIT_S)
        running.cancel()
        await asyncio.wait([running])

    # -- called by the link ----------------------------------------------------------------------

    def message_came(self, message: bytes, now: float) -> None:
        self._used_at = now
        self._dialogue.receive(message, now)
        self._tell()

    def next_message(self, budget_bytes: int) -> bytes | None:
        return self._dialogue.next_message(budget_bytes)

    def tick(self, now: float) -> None:
        self._dialogue.tick(now)
        if self._dialogue.has_work:
            self._used_at = now
        elif now - self._used_at > IDLE_S and self._dialogue.machine is not None:
            self._dialogue.machine.goodbye()

    @property
    def wants_end(self) -> bool:
        machine = self._dialogue.machine
        assert machine is not None
        return machine.is_finished or (self._is_closed and self._dialogue.has_work)


Result = TypeVar("Result")


async def _maybe_in_thread(work: Callable[[], Result], size_bytes: int) -> Result:
    return work() if size_bytes <= LARGE_BYTES else await asyncio.to_thread(work)


async def _result(slot: Slot) -> tuple[Ref, Found]:
    size_bytes = slot.found.blob.size if isinstance(slot.found, Held) else 0
    return await _maybe_in_thread(slot.result, size_bytes)
