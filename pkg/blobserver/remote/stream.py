"""The stream to a server (../STREAM.md) for callers in threads: one thread of its own moves it."""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from itertools import islice
from typing import TYPE_CHECKING, Final

from ...blob import MAX_BLOB_SIZE, Ref, SizedRef
from ...errors import StoreError, TooLarge, Unavailable
from .. import wire
from ..framing import Found
from .attempts import Attempts
from .dialogue import REFS_AT_ONCE, Dialogue, Held, Question, Upload
from .line import FREE_LINE, Line
from .link import Bell, Link, open_link
from .pace import Pace
from .pushed import Arrival
from .questions import Chunk, Reading, Sizes, Watching, Window, arrival_of, chunk_of

if TYPE_CHECKING:
    from .transport import Transport

UNANSWERED_BYTES: Final = 16 * 1024 * 1024
"""Uploads without an answer, above which those who bring more are held up."""

IDLE_S: Final = 60.0
"""A stream that is not used for so long is closed; the next use opens it again."""

CLOSE_WAIT_S: Final = 2.0

GATHER_BYTES: Final = 512 * 1024
"""So much is handed over together: to wake the loop costs more than to send a blob."""


class Stream:
    """Uploads and questions over one websocket. Safe to use from many threads.

    Opened when it is first used. After a cut it connects anew, after the waits of the transport,
    and goes on where it was; when that fails, or brings nothing, all that runs raises
    Unavailable. path: of the websocket, as discovery names it.
    """

    def __init__(self, transport: "Transport", path: str, line: Line = FREE_LINE) -> None:
        self._transport = transport
        self._path = path
        self._line = line
        features = wire.FEATURE_ZSTD if line.compress is not None else 0
        hello = wire.CLIENT_HELLO._replace(features=features)
        self._dialogue = Dialogue(
            lambda now: wire.ClientMachine(now, hello, patience_s=line.patience_s)
        )
        self._lock = threading.Lock()
        self._has_room = threading.Condition(self._lock)
        self._waiting: list[tuple[Callable[[], bool], threading.Condition]] = []
        self._opening = threading.Lock()
        self._thread: threading.Thread | None = None
        self._bell = Bell()
        self._is_awake = True  # of the loop: it asks for more by itself
        self._is_closed = False
        self._closing = threading.Event()
        self._used_at = 0.0
        self._codecs = threading.local()
        self.handshake_s = 0.0
        """How long it took last: a round trip, and a little."""
        self.connections = 0
        """How often it has connected."""

    def __str__(self) -> str:
        return f"{self._transport} (stream)"

    # -- uploads ---------------------------------------------------------------------------------

    def put(
        self,
        blobs: Iterable[tuple[Ref, bytes]],
        done: Callable[[Upload], None],
        *,
        no_rush: bool = False,
    ) -> None:
        """Send blobs, in order. Holds the caller up while too much is without an answer.

        done: called once for each, by the stream's thread, which it must not hold up. no_rush:
        the server need not make them durable before the next blob without this flag.
        """
        self._put([self._upload(ref, data, done, no_rush=no_rush) for ref, data in blobs])

    def put_many(
        self, blobs: Iterable[tuple[Ref, bytes]]
    ) -> list[tuple[SizedRef, StoreError | None]]:
        """Send blobs; returns, when all are answered, each in order, with why it is not stored.

        Raises Unavailable.
        """
        answered = threading.Semaphore(0)
        sent: list[Upload] = []
        put = gathered_bytes = 0  # how many of them have been handed over; bytes of the others
        for ref, data in blobs:
            sent.append(self._upload(ref, data, lambda _: answered.release(), no_rush=True))
            gathered_bytes += len(data)
            if gathered_bytes >= GATHER_BYTES:
                self._put(sent[put:])
                put, gathered_bytes = len(sent), 0
        self._put(sent[put:])
        for _ in sent:
            answered.acquire()
        return [(SizedRef(upload.ref, upload.size), upload.error) for upload in sent]

    def _upload(
        self, ref: Ref, data: bytes, done: Callable[[Upload], None], *, no_rush: bool
    ) -> Upload:
        size = len(data)
        if size > MAX_BLOB_SIZE:
            raise TooLarge("put", ref, f"{size} bytes")
        is_packed = False
        if self._line.compress is not None:
            data, is_packed = wire.pack(self._codec(self._line.compress), data)
        return Upload(ref, data, done, size=size, packed=is_packed, no_rush=no_rush)

    def _put(self, uploads: Sequence[Upload]) -> None:
        self.open()
        with self._lock:
            for upload in uploads:
                while self._dialogue.unanswered_bytes > UNANSWERED_BYTES:
                    self._tell()
                    self._has_room.wait()
                self._dialogue.put(upload)
            self._tell()
        with suppress(StoreError):  # it is told by `done`
            self.open()  # it may just have ended

    def _codec(self, level: int) -> wire.Zstd:
        codec: wire.Zstd | None = getattr(self._codecs, "codec", None)
        if codec is None:
            codec = self._codecs.codec = wire.Zstd(level)
        return codec

    # -- questions -------------------------------------------------------------------------------

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        """Yield those of the refs that are there."""
        asked = iter(dict.fromkeys(refs))
        while page := list(islice(asked, REFS_AT_ONCE)):
            question = Sizes(page)
            self._ask(question)
            self._wait(lambda question=question: not question.is_wanted)  # type: ignore[misc]
            if question.error is not None:
                raise question.error
            for ref, size in zip(page, question.sizes, strict=True):
                if size is not None:
                    yield SizedRef(ref, size)

    def fetch(self, ref: Ref) -> bytes:
        """Return the blob, verified, before all that is fetched in bulk."""
        ((_, found),) = self.fetch_many([ref], priority=wire.INTERACTIVE)
        if isinstance(found, bytes):
            return found
        raise found

    def fetch_many(
        self, refs: Iterable[Ref], *, priority: int = wire.NORMAL
    ) -> Iterator[tuple[Ref, Found]]:
        """Yield each blob, verified, in the order asked for; one that is not there as its error.

        Some are always on their way, about 8 MiB.
        """
        window = Window(self._dialogue, refs, priority)
        try:
            while True:
                more = window.next_refs()
                if more:
                    self._do(lambda more=more: window.fill(more))  # type: ignore[misc]
                slot = window.first()
                if slot is None:
                    return
                if slot.found is None:
                    self._wait(lambda slot=slot: slot.found is not None)  # type: ignore[misc]
                filled = window.filled()
                for slot in filled:
                    yield slot.result()
                with self._lock:
                    window.drop(len(filled))
                    self._tell_of_credit()
        finally:
            with self._lock:
                window.close()
                self._tell()

    def read_file(
        self,
        ref: Ref,
        offset: int = 0,
        length: int | None = None,
        *,
        priority: int = wire.NORMAL,
    ) -> Generator[Chunk]:
        """Yield the content of a file or bytes blob from `offset`, in order, holes as such.

        Raises NotFound, Corrupt, Unavailable where it can't go on: what came before is right.
        """
        reading = Reading(ref, offset, length, priority)
        with closing(self._answers_to(reading)) as answers:
            for came in answers:
                yield chunk_of(came)
        if reading.error is not None:
            raise reading.error

    def file_blobs(self, ref: Ref, offset: int, length: int) -> Generator[Arrival]:
        """Yield the blobs of a stretch of a file as the server sends them, for `Pushed`.

        It ends where the server can't go on: fetch the next one to learn why.
        """
        reading = Reading(ref, offset, length, wire.NORMAL, with_schema=True)
        with closing(self._answers_to(reading)) as answers:
            for came in answers:
                if isinstance(came, Held):
                    yield arrival_of(came)

    def _answers_to(self, reading: Reading) -> Generator[Held | wire.events.Hole]:
        self._ask(reading)
        taken: list[Held | wire.events.Hole] = []
        try:
            while True:
                if reading.is_paused and not reading.came:
                    self._ask(reading)
                self._wait(lambda: bool(reading.came) or reading.is_over)
                if not reading.came:
                    return
                taken = reading.taken()
                yield from taken
                self._release(taken)
        finally:
            with self._lock:
                reading.give_up()
                self._dialogue.stop(reading)
                self._tell()
            self._release([*taken, *reading.came])

    def _release(self, taken: Iterable[Held | wire.events.Hole]) -> None:
        with self._lock:
            for came in taken:
                if isinstance(came, Held):
                    came.release()
            self._tell_of_credit()

    def watch(
        self, topics: int = wire.TOPIC_BLOBS, cursor: bytes = b""
    ) -> Iterator[wire.events.Arrived | wire.events.Changed]:
        """Yield what happens on the server from the cursor on, until it is closed.

        Keep the cursor of each event when it is dealt with: from there nothing is lost.
        Raises NotFound for a cursor that is too old, Unsupported.
        """
        watching = Watching(topics, cursor)
        self._ask(watching)
        try:
            while True:
                if watching.is_paused and not watching.came:
                    self._ask(watching)
                self._wait(lambda: bool(watching.came) or not watching.is_wanted)
                if not watching.came:
                    assert watching.error is not None
                    raise watching.error
                yield watching.came.popleft()
        finally:
            with self._lock:
                watching.give_up()
                self._dialogue.stop(watching)
                self._tell()

    def _ask(self, question: Question) -> None:
        self._do(lambda: self._dialogue.ask(question))

    def _do(self, work: Callable[[], None]) -> None:
        self.open()
        with self._lock:
            work()
            self._tell()
        self.open()  # had it just ended, this is what it goes on for

    def _wait(self, is_there: Callable[[], bool]) -> None:
        with self._lock:
            if is_there():
                return
            waiting = is_there, threading.Condition(self._lock)
            self._waiting.append(waiting)
            try:
                self._dialogue.relieve()
                self._tell()
                while not is_there():
                    waiting[1].wait()
            finally:
                self._waiting.remove(waiting)

    def _wake(self) -> None:
        """Wake those who have what they wait for; where others don't, let more come. With the
        lock held."""
        is_short = False
        for is_there, ready in self._waiting:
            if is_there():
                ready.notify()
            else:
                is_short = True
        if is_short:
            self._dialogue.relieve()

    # -- the connection --------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return self._thread is not None

    def open(self) -> None:
        """Connect, unless it is connected. Raises Unavailable, Forbidden; Unsupported where
        there is no stream."""
        if self._thread is not None:
            return
        with self._opening:
            if self._thread is not None:
                return
            try:
                if self._is_closed:
                    raise Unavailable("use", self, "stopped")
                link = self._first_link()
                self.handshake_s = link.handshake_s
            except StoreError as error:
                with self._lock:
                    self._dialogue.fail(error)
                raise
            with self._lock:
                self._begin()
                self._thread = threading.Thread(
                    target=self._run, args=(link,), name="stream", daemon=True
                )
                self._thread.start()

    def _first_link(self) -> Link:
        """A server that never answered is not tried again."""
        try:
            return open_link(self._transport, self._path)
        except Unavailable as error:
            if not self.connections:
                raise
            return self._connect_again(self._transport.retry_waits_s, error.reason)

    def _begin(self) -> None:
        self._used_at = time.monotonic()
        self._dialogue.connected(self._used_at)
        self._is_awake = True
        self.connections += 1

    def _tell(self) -> None:
        """Wake the loop, if it waits. With the lock held."""
        if not self._is_awake:
            self._is_awake = True
            self._bell.ring()

    def _tell_of_credit(self) -> None:
        """Wake it only when so much was taken that the server is to be told."""
        machine = self._dialogue.machine
        if machine is not None and machine.has_output:
            self._tell()

    def _run(self, link: Link) -> None:
        """The thread: one connection after the other, until it is closed, idle or given up."""
        try:
            self._converse(link)
        except BaseException as error:
            with self._lock:
                self._end(Unavailable("use", self, repr(error)))
            raise

    def _converse(self, link: Link) -> None:
        up, down = Pace(self._line.up_bytes_s), Pace(self._line.down_bytes_s)
        attempts = Attempts(self._transport.retry_waits_s)
        while True:
            answers = self._dialogue.answers
            ended = link.run(self, self._bell, up, down)
            waits_s = attempts.after(
                brought=self._dialogue.answers > answers, was_broken_off=ended.was_broken_off
            )
            with self._lock:
                self._dialogue.cut()
                if self._is_closed:
                    self._end(Unavailable("use", self, "stopped"))
                    return
                if not self._dialogue.has_work:
                    self._thread = None
                    return
            try:
                link = self._connect_again(waits_s, ended.reason)
            except StoreError as error:
                with self._lock:
                    self._end(error)
                return
            with self._lock:
                self._begin()

    def _connect_again(self, waits_s: Iterable[float], reason: str) -> Link:
        """waits_s: before each try."""
        failure: StoreError = Unavailable("use", self, reason or "the server closed it")
        for wait_s in waits_s:
            self._closing.wait(wait_s)
            if self._is_closed:
                break
            try:
                return open_link(self._transport, self._path)
            except Unavailable as error:
                failure = error
        raise failure

    def _end(self, error: StoreError) -> None:
        self._thread = None
        self._dialogue.fail(error)
        self._has_room.notify_all()
        self._wake()

    def close(self) -> None:
        """Say goodbye, and wait a moment for it. What runs raises Unavailable."""
        with self._lock:
            self._is_closed = True
            self._closing.set()
            thread, machine = self._thread, self._dialogue.machine
            if machine is not None and not self._dialogue.has_work:
                machine.goodbye()
            self._bell.ring()
        if thread is not None:
            thread.join(CLOSE_WAIT_S)
            if thread.is_alive():
                return  # it connects, and sees then that it is closed
        self._bell.close()

    # -- called by the link ----------------------------------------------------------------------

    def message_came(self, message: bytes, now: float) -> None:
        with self._lock:
            self._used_at = now
            self._dialogue.receive(message, now)
            self._has_room.notify_all()
            self._wake()

    def next_message(self, budget_bytes: int) -> bytes | None:
        with self._lock:
            message = self._dialogue.next_message(budget_bytes)
            self._is_awake = message is not None
            return message

    def may_send(self) -> bool:
        with self._lock:
            self._is_awake = self._dialogue.has_output
            return self._is_awake

    def tick(self, now: float) -> None:
        with self._lock:
            self._dialogue.tick(now)
            if self._dialogue.has_work:
                self._used_at = now
            elif now - self._used_at > IDLE_S and self._dialogue.machine is not None:
                self._dialogue.machine.goodbye()

    @property
    def wants_end(self) -> bool:
        with self._lock:
            machine = self._dialogue.machine
            assert machine is not None
            return machine.is_finished or (self._is_closed and self._dialogue.has_work)
