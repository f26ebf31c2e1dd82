"""The server's end of the stream (pkg/blobserver/STREAM.md)."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from ...blob import Ref, SizedRef
from ...errors import Invalid
from . import frames
from .connection import Connection, Unfinished, check_priority, out_of_order
from .events import Event, Fetch, Put, ReadFile, Stat, Stop, Subscribe
from .frames import (
    ABORT,
    BULK,
    CLASS,
    CLASSES,
    END,
    NO_RUSH,
    TO_THE_END,
    WHOLE,
    ZSTD,
    Code,
    Hello,
    Place,
    ProtocolViolation,
    PutHead,
    Violation,
    frame,
)
from .outbox import Outgoing, Small

PUT_OVERHEAD: Final = 256
"""What a PUT costs beyond its bytes, so that empty blobs cost something."""

ACKS_AT_ONCE: Final = 10_000
EVENT_BYTES: Final = 256 * 1024
ARRIVED_AT_ONCE: Final = 400  # of refs of the longest form: within the least message


class Refusal(NamedTuple):
    """Why uploads are refused: a code of ERROR and a sentence."""

    code: int
    text: str


class Running:
    """A request that is not answered yet. refs: what FETCH and STAT asked for, by position.

    answered: of FETCH, for each item whether it has its answer.
    """

    __slots__ = ("answered", "kind", "priority", "refs", "sizes", "stopped")

    def __init__(self, kind: int, priority: int, refs: Sequence[Ref] = ()) -> None:
        self.kind = kind
        self.priority = priority
        self.refs = refs
        self.answered = bytearray(len(refs) if kind == frames.FETCH else 0)
        self.sizes = 0
        self.stopped: set[Ref] = set()


class ServerMachine(Connection):
    """Reports Put, Stat, Fetch, ReadFile, Subscribe, Stop; takes their answers.

    An answer to a request that was stopped meanwhile is dropped: the producer need not know.
    """

    def __init__(
        self,
        hello: Hello,
        now: float,
        *,
        ahead_bytes: int = 1024 * 1024,
        refusal: Refusal | None = None,
    ) -> None:
        """ahead_bytes: how much the caller may queue in each class before it leaves (`room`).

        refusal: set where the peer has no right to upload: answers each PUT.
        """
        super().__init__(hello, now)
        self._ahead_bytes = ahead_bytes
        self._refusal = refusal
        self._puts: dict[int, int] = {}  # number -> what it costs of the window
        self._used_bytes = 0
        self._running: dict[int, Running] = {}
        self._credit_bytes = [0 for _ in CLASSES]  # that the peer still grants
        self._limits = [0 for _ in CLASSES]
        self._acks: list[int] = []
        self._handlers |= {
            frames.PUT: self._put_came,
            frames.STAT: self._stat_came,
            frames.FETCH: self._fetch_came,
            frames.FILE: self._file_came,
            frames.SUBSCRIBE: self._subscribe_came,
            frames.STOP: self._stop_came,
            frames.CREDIT: self._credit_came,
        }

    # -- answers ---------------------------------------------------------------------------------

    @property
    def unanswered_put_bytes(self) -> int:
        """What uploads cost of the window: at a quarter of it, sync what is unsynced."""
        return self._used_bytes

    @property
    def begun_puts(self) -> list[int]:
        """Uploads of which some has come and more is to come, and that have no answer."""
        return [request for request in self._unfinished if request in self._puts]

    def ack(self, requests: Sequence[int]) -> None:
        """These uploads are durable. Raises Invalid where one is answered already."""
        for request in requests:
            cost = self._puts.pop(request, None)
            if cost is None:
                raise Invalid("acknowledge", request, "no unanswered upload has this number")
            self._used_bytes -= cost
        self._acks.extend(requests)

    def error(self, request: int, code: int, text: str, item: int | None = None) -> None:
        """An upload is not stored, an item has no answer, or (item None) the request has failed.

        text: one sentence for people; cut after 1024 bytes.
        """
        body = frames.error_body(code, text, WHOLE if item is None else item)
        whole = frame(frames.ERROR, 0, request, body)
        if request in self._puts:
            self._used_bytes -= self._puts.pop(request)
            unfinished = self._unfinished.get(request)
            if unfinished is not None:
                unfinished.dropped = True
                unfinished.pieces.clear()
            self._outbox.add_urgent(whole)
            return
        running = self._running.get(request)
        if running is None or (item is not None and not self._take(request, running, item, "")):
            return
        if item is None:
            del self._running[request]
        # In its place among the blobs: what came before a failure is right.
        self._outbox.add(running.priority, Small(request, whole, item))

    def sizes(self, request: int, sizes: Sequence[int | None]) -> None:
        """Answer STAT, in the order asked, None for what is not there; in parts if you like."""
        running = self._running.get(request)
        if running is None:
            return
        running.sizes += len(sizes)
        if running.kind != frames.STAT or running.sizes > len(running.refs):
            raise Invalid("answer", request, "more sizes than refs were asked for")
        last = running.sizes == len(running.refs)
        body = frames.numbers_body([WHOLE if size is None else size for size in sizes])
        self._outbox.add_urgent(frame(frames.SIZES, END if last else 0, request, body))
        if last:
            del self._running[request]

    def send_blob(
        self,
        request: int,
        item: int,
        data: bytes,
        *,
        size: int | None = None,
        packed: bool = False,
        ref: str = "",
        place: Place | None = None,
        is_schema: bool = False,
    ) -> bool:
        """Queue a blob or range; returns False where nobody wants it any more.

        data: as it is, or packed, and then `size` bytes when unpacked. ref, place and is_schema:
        for ReadFile.
        """
        running = self._running.get(request)
        if running is None or not self._take(request, running, item, ref):
            return False
        flags = running.priority | (ZSTD if packed else 0)
        flags |= (frames.PLACED if place is not None else 0) | (frames.SCHEMA if is_schema else 0)
        size = len(data) if size is None else size
        job = Outgoing(frames.BLOB, flags, request, ref, data, size, item, place)
        self._outbox.add(running.priority, job)
        return True

    def send_name(
        self, request: int, item: int, found: SizedRef, place: Place | None, is_schema: bool = False
    ) -> bool:
        """Answer a ReadFile with `names_only`: a chunk, without its bytes."""
        running = self._running.get(request)
        if running is None or not self._take(request, running, item, found.ref):
            return False
        flags = running.priority | frames.NAMES | END
        flags |= (frames.PLACED if place is not None else 0) | (frames.SCHEMA if is_schema else 0)
        head = frames.blob_head(request, flags, item, found.size, 0, found.ref, place)
        self._outbox.add(running.priority, Small(request, head, item))
        return True

    def send_hole(self, request: int, offset: int, length: int) -> bool:
        """The file has zeros here that no chunk holds."""
        return self._small(request, frames.HOLE, frames.hole_body(offset, length))

    def done(self, request: int) -> None:
        """All items of the request are answered. Raises Invalid where one is not."""
        running = self._running.get(request)
        if running is not None and 0 in running.answered:
            raise Invalid("end", request, f"item {running.answered.index(0)} has no answer")
        if self._small(request, frames.DONE, b""):
            del self._running[request]

    def arrived(self, request: int, cursor: bytes, blobs: Sequence[SizedRef]) -> bool:
        """New blobs, and the cursor behind them. Ask `event_room` before."""
        if request not in self._running:
            return False
        self._check_cursor(cursor)
        if len(blobs) > ARRIVED_AT_ONCE:
            raise Invalid("report", request, f"{len(blobs)} blobs, at most {ARRIVED_AT_ONCE}")
        body = frames.event_body(cursor, frames.arrived_lines(blobs))
        self._outbox.add_urgent(frame(frames.ARRIVED, 0, request, body))
        return True

    def changed(self, request: int, cursor: bytes, change: bytes) -> bool:
        """A change of the index (a JSON value), and the cursor behind it."""
        if request not in self._running:
            return False
        self._check_cursor(cursor)
        if len(change) > frames.LEAST.message_bytes // 2:
            raise Invalid("report", request, f"a change of {len(change)} bytes")
        body = frames.event_body(cursor, change)
        self._outbox.add_urgent(frame(frames.CHANGED, 0, request, body))
        return True

    # -- what the caller may queue ---------------------------------------------------------------

    def room(self, priority: int) -> int:
        """Bytes of answers that may be queued in this class; produce while it is above 0."""
        return self._ahead_bytes - self._outbox.waiting_bytes[priority]

    @property
    def event_room(self) -> int:
        """Bytes of events that may be queued; below 1, leave them in the log and ask later."""
        return EVENT_BYTES - self._outbox.urgent_bytes

    def is_wanted(self, request: int) -> bool:
        """Whether the request still runs (a subscription runs until it is stopped)."""
        return request in self._running

    def goodbye(self, code: int = 0, text: str = "") -> None:
        super().goodbye(code, text)
        self._end_subscriptions()

    # -- requests --------------------------------------------------------------------------------

    def _put_came(self, flags: int, request: int, body: memoryview, out: list[Event]) -> None:
        self._check_new(request)
        head = frames.parse_put(body)
        window = self.hello.window
        cost = min(head.size + PUT_OVERHEAD, window)
        if self._used_bytes + cost > window:
            raise ProtocolViolation(Violation.LIMIT, "an upload beyond the window")
        whole = self._begin(flags, request, head)
        self._used_bytes += cost
        self._puts[request] = cost
        if self._refusal is not None:
            self.error(request, *self._refusal)
        elif self.leaves:
            self.error(request, Code.UNAVAILABLE, "the server is about to end")
        elif whole is not None:
            out.append(_put(request, head, flags, bytes(whole)))

    def _whole(self, request: int, blob: Unfinished, data: bytes, out: list[Event]) -> None:
        assert isinstance(blob.head, PutHead)
        out.append(_put(request, blob.head, blob.flags, data))

    def _given_up(self, request: int, blob: Unfinished) -> None:
        if not blob.dropped:
            self.error(request, Code.STOPPED, "given up by its sender")

    def _stat_came(self, flags: int, request: int, body: memoryview, out: list[Event]) -> None:
        self._check_new(request)
        refs = frames.parse_refs(body, self.hello.items)
        if self._run(request, Running(frames.STAT, flags & CLASS, refs)):
            out.append(Stat(request, refs, flags & CLASS))

    def _fetch_came(self, flags: int, request: int, body: memoryview, out: list[Event]) -> None:
        self._check_new(request)
        items = frames.parse_items(body, self.hello.items)
        running = Running(frames.FETCH, flags & CLASS, [item.ref for item in items])
        if self._run(request, running):
            out.append(Fetch(request, items, flags & CLASS))

    def _file_came(self, flags: int, request: int, body: memoryview, out: list[Event]) -> None:
        self._check_new(request)
        offset, length, ref = frames.parse_file(body)
        if self._run(request, Running(frames.FILE, flags & CLASS)):
            out.append(
                ReadFile(
                    request,
                    ref,
                    offset,
                    None if length == TO_THE_END else length,
                    bool(flags & frames.NAMES),
                    bool(flags & frames.SCHEMA),
                    flags & CLASS,
                )
            )

    def _subscribe_came(self, _: int, request: int, body: memoryview, out: list[Event]) -> None:
        self._check_new(request)
        topics, cursor = frames.parse_subscribe(body)
        if self._run(request, Running(frames.SUBSCRIBE, BULK)):
            out.append(Subscribe(request, topics, cursor))

    def _stop_came(self, _: int, request: int, body: memoryview, out: list[Event]) -> None:
        if not body:
            self._stop(request, out)
            return
        refs = frames.parse_refs(body, self.hello.items)
        running = self._running.get(request)
        if running is None or running.kind not in (frames.FETCH, frames.FILE):
            return
        self._stop_items(request, running, set(refs))
        out.append(Stop(request, refs))

    def _stop(self, request: int, out: list[Event]) -> None:
        """Stop one request, or all (0)."""
        dropped = self._outbox.drop(lambda job: request in (0, job.request))
        # Also those that the caller has answered in full, if something of it has not left.
        over = {job.request for job in dropped}
        over |= self._running.keys() if not request else {request} & self._running.keys()
        for number in sorted(over):
            self._outbox.add_urgent(frame(frames.DONE, ABORT, number))
            if self._running.pop(number, None) is not None:
                out.append(Stop(number, []))

    def _stop_items(self, request: int, running: Running, refs: set[Ref]) -> None:
        running.stopped |= refs
        if len(running.stopped) > self.hello.items:
            raise ProtocolViolation(Violation.LIMIT, "too many items of a request are stopped")
        dropped = self._outbox.drop(
            lambda job: (
                job.request == request
                and isinstance(job, Outgoing)
                and self._is_stopped(running, job.item, job.ref)
            )
        )
        items = {job.item for job in dropped if isinstance(job, Outgoing)}
        for item, answered in enumerate(running.answered):
            if not answered and running.refs[item] in refs:
                running.answered[item] = 1
                items.add(item)
        for item in sorted(items):
            self._stopped(request, item)

    def _take(self, request: int, running: Running, item: int, ref: str) -> bool:
        """Note that an item gets its answer; False where it was stopped."""
        if running.kind == frames.FETCH:
            if item >= len(running.answered):
                raise Invalid("answer", request, f"there is no item {item}")
            if running.stopped and running.refs[item] in running.stopped:
                return False  # it was answered when it was stopped
            if running.answered[item]:
                raise Invalid("answer", request, f"item {item} has its answer")
            running.answered[item] = 1
        elif running.kind != frames.FILE:
            raise Invalid("answer", request, "it asks for no items")
        elif running.stopped and ref in running.stopped:
            self._stopped(request, item)
            return False
        return True

    def _is_stopped(self, running: Running, item: int, ref: str) -> bool:
        if not running.stopped:
            return False
        if not ref and item < len(running.refs):
            ref = running.refs[item]
        return ref in running.stopped

    def _credit_came(self, flags: int, _request: int, body: memoryview, _: list[Event]) -> None:
        priority, limit = flags & CLASS, frames.parse_number(body)
        more = limit - self._limits[priority]
        if more < 0:
            raise out_of_order("a credit that falls")
        self._limits[priority] = limit
        self._credit_bytes[priority] += more

    # -- parts -----------------------------------------------------------------------------------

    def _check_new(self, request: int) -> None:
        if not request or request in self._puts or request in self._running:
            raise out_of_order(f"a second request {request}")
        if request in self._unfinished:
            raise out_of_order(f"request {request} has not ended")

    def _run(self, request: int, running: Running) -> bool:
        """Note the request; False where it is refused."""
        if len(self._running) >= self.hello.requests:
            raise ProtocolViolation(Violation.LIMIT, "too many requests at a time")
        if self.leaves:
            body = frames.error_body(Code.UNAVAILABLE, "the server is about to end")
            self._outbox.add_urgent(frame(frames.ERROR, 0, request, body))
            return False
        self._running[request] = running
        return True

    def _small(self, request: int, kind: int, body: bytes) -> bool:
        running = self._running.get(request)
        if running is None:
            return False
        self._outbox.add(running.priority, Small(request, frame(kind, 0, request, body)))
        return True

    def _stopped(self, request: int, item: int) -> None:
        body = frames.error_body(Code.STOPPED, "stopped", item)
        self._outbox.add_urgent(frame(frames.ERROR, 0, request, body))

    def _end_subscriptions(self) -> list[int]:
        ended = [n for n, one in self._running.items() if one.kind == frames.SUBSCRIBE]
        for request in ended:
            del self._running[request]
            self._outbox.add_urgent(frame(frames.DONE, 0, request))
        return ended

    @staticmethod
    def _check_cursor(cursor: bytes) -> None:
        if len(cursor) > frames.MAX_CURSOR_BYTES:
            raise Invalid("report", "cursor", f"{len(cursor)} bytes")

    def _peer_known(self) -> None:
        self._limits = [self.peer.window for _ in CLASSES]
        self._credit_bytes = list(self._limits)

    def _peer_gone(self, out: list[Event]) -> None:
        out.extend(Stop(request, []) for request in self._end_subscriptions())

    def _allowance(self, priority: int, _job: Outgoing) -> int:
        return self._credit_bytes[priority]

    def _piece_sent(self, priority: int, _job: Outgoing, piece_bytes: int) -> None:
        self._credit_bytes[priority] -= piece_bytes

    def _first_frames(self) -> list[bytes]:
        if not self._acks:
            return []
        now, self._acks = self._acks[:ACKS_AT_ONCE], self._acks[ACKS_AT_ONCE:]
        return [frame(frames.ACK, 0, 0, frames.numbers_body(now))]

    def _has_first_frames(self) -> bool:
        return bool(self._acks)

    def _owed_bytes(self) -> int:
        return 4 * len(self._acks)

    def _is_busy(self) -> bool:
        return bool(self._running or self._puts or self._unfinished)


def _put(request: int, head: PutHead, flags: int, data: bytes) -> Put:
    return Put(
        request,
        head.ref,
        data,
        head.size,
        bool(flags & ZSTD),
        bool(flags & NO_RUSH),
        check_priority(flags & CLASS),
    )
