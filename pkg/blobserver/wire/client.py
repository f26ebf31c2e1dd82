"""The client's end of the stream (pkg/blobserver/STREAM.md)."""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ...blob import MAX_BLOB_SIZE, Ref
from ...errors import Invalid, TooLarge, Unavailable
from . import frames
from .connection import Connection, Unfinished, check_priority, out_of_order
from .events import Arrived, Blob, Changed, Done, Event, Failed, Hole, Sizes, Stored
from .frames import (
    ABORT,
    BULK,
    CLASS,
    CLASSES,
    END,
    INTERACTIVE,
    NO_RUSH,
    NORMAL,
    TO_THE_END,
    WHOLE,
    ZSTD,
    BlobHead,
    Code,
    Hello,
    Item,
    ProtocolViolation,
    Violation,
    frame,
)
from .outbox import Outgoing
from .server import PUT_OVERHEAD
from .window import Window

LARGEST_WINDOW: Final = 4 * 1024 * 1024
CLIENT_HELLO: Final = Hello(features=frames.FEATURE_ZSTD, window=1024 * 1024)
"""The window grows from this to what the line holds."""

STEP_BYTES: Final = 256 * 1024
"""By which credit is raised at least, where that leaves the server something to send meanwhile."""

_MAX_REQUEST: Final = 0xFFFFFFFF


class Pending(NamedTuple):
    """An upload without an answer. was_sent: some of it has left."""

    request: int
    ref: Ref
    data: bytes
    size: int
    packed: bool
    was_sent: bool


class Asked:
    """A question without its last answer. seen: of FETCH, the items answered."""

    __slots__ = ("count", "got", "kind", "seen", "stopped")

    def __init__(self, kind: int, count: int = 0) -> None:
        self.kind = kind
        self.count = count
        self.got = 0
        self.seen = bytearray(count if kind == frames.FETCH else 0)
        self.stopped = False


class ClientMachine(Connection):
    """Asks and sends; reports what comes back.

    Each method that asks returns the number of the request, which its answers carry. It raises
    Unavailable when too many run already (`can_ask`, `room`), or an end has said goodbye.
    """

    def __init__(
        self,
        now: float,
        hello: Hello = CLIENT_HELLO,
        *,
        largest_window_bytes: int = LARGEST_WINDOW,
        ahead_bytes: int = 4 * 1024 * 1024,
        patience_s: float = 120,
    ) -> None:
        """hello.window: the first credit of each class; it may become largest_window_bytes, and
        so much may be held that is not released.

        ahead_bytes: how much of uploads may wait here to be sent (`room`). patience_s: the server
        is given up (`tick`) when uploads are out and none is answered for so long; so it is when
        it says nothing to any question, and no bytes that nobody released can be the reason.
        """
        super().__init__(hello, now)
        self._ahead_bytes = ahead_bytes
        self._patience_s = patience_s
        self._answered_at = now  # an upload
        self._told_at = now  # something, to a question
        self._last_request = 0
        self._puts: dict[int, Outgoing] = {}
        self._costs: dict[int, int] = {}  # of those of which some has left
        self._used_bytes = 0
        self._asked: dict[int, Asked] = {}
        self._most_held_bytes = max(hello.window, largest_window_bytes)
        self._window = Window(hello.window, self._most_held_bytes)
        self._came_bytes = 0
        self._arrived_bytes = [0 for _ in CLASSES]
        self._held_bytes = [0 for _ in CLASSES]
        self._granted_bytes = [hello.window for _ in CLASSES]
        self._grants: set[int] = set()  # classes whose credit is to be told
        self._last_ping: tuple[int, float] | None = None
        self._handlers |= {
            frames.ACK: self._ack_came,
            frames.ERROR: self._error_came,
            frames.SIZES: self._sizes_came,
            frames.BLOB: self._blob_came,
            frames.HOLE: self._hole_came,
            frames.DONE: self._done_came,
            frames.ARRIVED: self._arrived_came,
            frames.CHANGED: self._changed_came,
        }

    # -- uploads ---------------------------------------------------------------------------------

    def put(
        self,
        ref: Ref,
        data: bytes,
        *,
        size: int | None = None,
        packed: bool = False,
        no_rush: bool = False,
        priority: int = BULK,
    ) -> int:
        """Queue a blob. Answered by Stored or Failed.

        data: as it is, or packed (only if `peer.features` has FEATURE_ZSTD), and then `size` bytes
        when unpacked. It is kept until it is answered, so that `pending` has it after a cut.
        """
        size = len(data) if size is None else size
        if size > MAX_BLOB_SIZE or len(ref) > frames.MAX_REF_BYTES:
            raise TooLarge("put", ref, f"{size} bytes")
        if packed and (len(data) >= size or not data):
            raise Invalid("put", ref, "packed, but not smaller")
        if self.leaves or self.peer_leaves:
            raise Unavailable("put", ref, "the stream is about to end")
        if self.room <= 0:
            raise Unavailable("put", ref, "too much waits to be sent")
        request = self._next_request()
        flags = check_priority(priority) | (ZSTD if packed else 0) | (NO_RUSH if no_rush else 0)
        job = Outgoing(frames.PUT, flags, request, ref, data, size)
        self._puts[request] = job
        self._outbox.add(priority, job)
        return request

    @property
    def room(self) -> int:
        """Bytes of uploads that may be queued; `put` while it is above 0."""
        return self._ahead_bytes - sum(self._outbox.waiting_bytes)

    def withdraw(self, request: int) -> bool:
        """Give an upload up. True: it is gone, and nothing comes for it. False: its answer comes
        (Failed STOPPED where some of it was still here, else what the server says)."""
        job = self._puts.get(request)
        if job is None:
            return True
        self._outbox.drop(lambda other: other is job)
        if job.begun:
            return False
        del self._puts[request]
        return True

    def pending(self) -> list[Pending]:
        """Uploads without an answer, in the order of `put`: after a cut, stat these refs on the
        new connection and put again what is not there."""
        return [
            Pending(
                request, Ref.trusted(job.ref), job.data, job.size, bool(job.flags & ZSTD), job.begun
            )
            for request, job in self._puts.items()
        ]

    # -- questions -------------------------------------------------------------------------------

    @property
    def can_ask(self) -> bool:
        """Whether one more question may run."""
        return not (self.leaves or self.peer_leaves) and len(self._asked) < self.peer.requests

    def stat(self, refs: Sequence[Ref], *, priority: int = INTERACTIVE) -> int:
        """Which are there, and how large? Answered by Sizes. Raises TooLarge (`peer.items`)."""
        return self._ask(frames.STAT, priority, frames.lines_body(refs), len(refs))

    def fetch(self, items: Iterable[Item | Ref], *, priority: int = NORMAL) -> int:
        """Blobs or ranges of them. A Blob or Failed for each, in any order, then Done."""
        asked = [item if isinstance(item, Item) else Item(item) for item in items]
        return self._ask(frames.FETCH, priority, frames.items_body(asked), len(asked))

    def read_file(
        self,
        ref: Ref,
        offset: int = 0,
        length: int | None = None,
        *,
        names_only: bool = False,
        with_schema: bool = False,
        priority: int = NORMAL,
    ) -> int:
        """All chunks of a file or bytes tree from `offset`, in order: Blob and Hole, then Done.

        names_only: without bytes. with_schema: the inner schema blobs too.
        """
        flags = (frames.NAMES if names_only else 0) | (frames.SCHEMA if with_schema else 0)
        body = frames.file_body(ref, offset, TO_THE_END if length is None else length)
        return self._ask(frames.FILE, check_priority(priority) | flags, body)

    def subscribe(self, topics: int, cursor: bytes = b"") -> int:
        """Arrived and Changed, from the cursor on, until `stop`; an empty cursor: from now on."""
        return self._ask(frames.SUBSCRIBE, 0, frames.subscribe_body(topics, cursor))

    def stop(self, request: int, refs: Sequence[Ref] = ()) -> None:
        """Stop a question, or these items of it. Its Done (or their Failed) still comes, its blobs
        are thrown away as they come."""
        asked = self._asked.get(request)
        if asked is None:
            return
        asked.stopped = asked.stopped or not refs
        body = frames.lines_body(refs) if refs else b""
        self._outbox.add_urgent(frame(frames.STOP, 0, request, body))

    def stop_all(self) -> None:
        """Stop all questions."""
        for asked in self._asked.values():
            asked.stopped = True
        self._outbox.add_urgent(frame(frames.STOP, 0, 0))

    def release(self, blob: Blob) -> None:
        """The bytes of this blob are used up: as many may come. Once for each Blob."""
        self._held_bytes[blob.priority] -= len(blob.data)
        if blob.priority not in self._grants:
            self._grant(blob.priority)

    # -- in --------------------------------------------------------------------------------------

    def receive(self, message: bytes, now: float) -> list[Event]:
        events = super().receive(message, now)
        if self._came_bytes:
            self._window.arrived(self._came_bytes, now)
            self._came_bytes = 0
            for priority in CLASSES:
                self._grant(priority)
        return events

    def _ack_came(self, _flags: int, _request: int, body: memoryview, out: list[Event]) -> None:
        requests = frames.parse_numbers(body)
        for request in requests:
            job = self._puts.get(request)
            if job is None or job.sent < len(job.data) or not job.begun:
                raise out_of_order(f"an ACK of {request}, which was not sent")
            self._answered(request)
        out.append(Stored(requests))

    def _error_came(self, _: int, request: int, body: memoryview, out: list[Event]) -> None:
        code, item, text = frames.parse_error(body)
        asked = self._asked.get(request)
        if asked is not None:
            self._told_at = self._heard_at
            if item == WHOLE:
                del self._asked[request]
            elif asked.kind == frames.FETCH:
                self._see(asked, request, item)
            elif asked.kind != frames.FILE:
                raise out_of_order("an error of an item of a request without items")
            out.append(Failed(request, None if item == WHOLE else item, code, text))
            return
        job = self._puts.get(request)
        if job is None or not job.begun or item != WHOLE:
            raise out_of_order(f"an ERROR for {request}, which does not run")
        if job.sent < len(job.data):
            self._outbox.drop(lambda other: other is job)
        self._answered(request)
        out.append(Failed(request, None, code, text))

    def tick(self, now: float) -> None:
        super().tick(now)
        if not self._costs:
            self._answered_at = now
        if any(self._held_bytes) or not self._has_questions():
            self._told_at = now
        for what, since in ("upload", self._answered_at), ("question", self._told_at):
            if now - since > self._patience_s:
                reason = f"no {what} answered for {self._patience_s:.0f} s"
                raise ProtocolViolation(Violation.SILENCE, reason)

    def _has_questions(self) -> bool:
        """Whether answers are due: a subscription may be silent for ever."""
        return any(asked.kind != frames.SUBSCRIBE for asked in self._asked.values())

    def _answered(self, request: int) -> None:
        self._answered_at = self._heard_at
        del self._puts[request]
        self._used_bytes -= self._costs.pop(request)

    def _sizes_came(self, flags: int, request: int, body: memoryview, out: list[Event]) -> None:
        asked = self._running(request, frames.STAT)
        numbers = frames.parse_numbers(body)
        first, asked.got = asked.got, asked.got + len(numbers)
        last = bool(flags & END)
        if asked.got > asked.count or last is not (asked.got == asked.count):
            raise frames.malformed(f"{asked.got} sizes for {asked.count} refs")
        if last:
            del self._asked[request]
        sizes = [None if number == WHOLE else number for number in numbers]
        out.append(Sizes(request, first, sizes, last))

    def _blob_came(self, flags: int, request: int, body: memoryview, out: list[Event]) -> None:
        asked = self._running(request, frames.FETCH, frames.FILE)
        if request in self._unfinished:
            raise out_of_order("a blob begins before the last of its request has ended")
        head = frames.parse_blob(flags, body)
        if asked.kind == frames.FETCH:
            self._see(asked, request, head.item)
        if flags & frames.NAMES:
            if len(head.piece) or not flags & END:
                raise frames.malformed("a name with bytes")
            out.append(_blob(request, flags, head, b""))
            return
        self._piece_came(flags & CLASS, len(head.piece))
        whole = self._begin(flags, request, head)
        if whole is not None:
            self._hand_out(_blob(request, flags, head, whole), asked, out)

    def _whole(self, request: int, blob: Unfinished, data: bytes, out: list[Event]) -> None:
        assert isinstance(blob.head, BlobHead)
        made = _blob(request, blob.flags, blob.head, data)
        self._hand_out(made, self._asked.get(request), out)

    def _hand_out(self, blob: Blob, asked: Asked | None, out: list[Event]) -> None:
        if asked is None or asked.stopped:
            return  # its bytes are gone, so they are not held
        self._held_bytes[blob.priority] += len(blob.data)
        out.append(blob)

    def _given_up(self, request: int, blob: Unfinished) -> None:
        """Its item is answered by an ERROR, or its request by DONE."""
        assert isinstance(blob.head, BlobHead)
        asked = self._asked.get(request)
        if asked is not None and asked.kind == frames.FETCH:
            asked.seen[blob.head.item] = 0
            asked.got -= 1

    def _hole_came(self, _: int, request: int, body: memoryview, out: list[Event]) -> None:
        asked = self._running(request, frames.FILE)
        if not asked.stopped:
            out.append(Hole(request, *frames.parse_hole(body)))

    def _done_came(self, flags: int, request: int, body: memoryview, out: list[Event]) -> None:
        asked = self._running(request, frames.STAT, frames.FETCH, frames.FILE, frames.SUBSCRIBE)
        stopped = bool(flags & ABORT)
        if len(body) or request in self._unfinished:
            raise frames.malformed("a DONE with a body, or within a blob")
        if stopped and not asked.stopped:
            raise out_of_order("a request is stopped that nobody stopped")
        if not stopped and (asked.kind == frames.STAT or asked.got < len(asked.seen)):
            raise out_of_order("DONE before all items are answered")
        del self._asked[request]
        out.append(Done(request, stopped))

    def _arrived_came(self, _: int, request: int, body: memoryview, out: list[Event]) -> None:
        asked = self._running(request, frames.SUBSCRIBE)
        cursor, payload = frames.parse_event(body)
        blobs = frames.parse_arrived(payload)
        if not asked.stopped:
            out.append(Arrived(request, cursor, blobs))

    def _changed_came(self, _: int, request: int, body: memoryview, out: list[Event]) -> None:
        asked = self._running(request, frames.SUBSCRIBE)
        cursor, payload = frames.parse_event(body)
        if not asked.stopped:
            out.append(Changed(request, cursor, bytes(payload)))

    def _pong_came(self, _flags: int, _request: int, body: memoryview, _: list[Event]) -> None:
        number = frames.parse_number(body)
        if self._last_ping is not None and self._last_ping[0] == number:
            self._window.round_trip(self._heard_at - self._last_ping[1])
            self._last_ping = None

    # -- credit ----------------------------------------------------------------------------------

    def _piece_came(self, priority: int, piece_bytes: int) -> None:
        self._arrived_bytes[priority] += piece_bytes
        if self._arrived_bytes[priority] > self._granted_bytes[priority]:
            raise ProtocolViolation(Violation.LIMIT, "bytes beyond the credit")
        self._came_bytes += piece_bytes
        self._told_at = self._heard_at

    def _grant(self, priority: int) -> None:
        """Note that credit is to be told, when there is enough of it to be worth a frame."""
        if self._credit(priority) - self._granted_bytes[priority] >= self._step():
            self._grants.add(priority)

    def _credit(self, priority: int) -> int:
        # A reader who is busy for a moment must not empty the line.
        ahead = min(self._window.target_bytes, self._most_held_bytes - self._held_bytes[priority])
        return self._arrived_bytes[priority] + max(ahead, 0)

    def _step(self) -> int:
        target_bytes = self._window.target_bytes
        return max(target_bytes // 4, min(target_bytes // 2, STEP_BYTES))

    def _first_frames(self) -> list[bytes]:
        if not self._grants:
            return []
        made = []
        for priority in sorted(self._grants):
            limit = max(self._credit(priority), self._granted_bytes[priority])
            if limit > self._granted_bytes[priority]:
                self._granted_bytes[priority] = limit
                made.append(frame(frames.CREDIT, priority, 0, frames.number_body(limit)))
        self._grants.clear()
        return made

    def _has_first_frames(self) -> bool:
        return bool(self._grants)

    # -- parts -----------------------------------------------------------------------------------

    def _ask(self, kind: int, flags: int, body: bytes, count: int = 0) -> int:
        if not self.can_ask:
            raise Unavailable("ask", "stream", "too many requests run, or it is about to end")
        check_priority(flags & CLASS)
        too_many = count > self.peer.items or (not count and kind in (frames.STAT, frames.FETCH))
        if too_many or len(body) + frames.HEADER.size > self.peer.message_bytes:
            raise TooLarge("ask", "stream", f"{count} items, 1 to {self.peer.items}")
        request = self._next_request()
        self._asked[request] = Asked(kind, count)
        self._outbox.add_urgent(frame(kind, flags, request, body))
        return request

    def _next_request(self) -> int:
        while True:
            self._last_request = self._last_request % _MAX_REQUEST + 1
            if self._last_request not in self._asked and self._last_request not in self._puts:
                return self._last_request

    def _running(self, request: int, *kinds: int) -> Asked:
        asked = self._asked.get(request)
        if asked is None or asked.kind not in kinds:
            raise out_of_order(f"an answer to {request}, which was not asked so")
        if asked.kind != frames.SUBSCRIBE:
            self._told_at = self._heard_at
        return asked

    @staticmethod
    def _see(asked: Asked, request: int, item: int) -> None:
        if item >= asked.count or asked.seen[item]:
            raise out_of_order(f"item {item} of {request} twice, or never asked for")
        asked.seen[item] = 1
        asked.got += 1

    def _peer_known(self) -> None:
        # The round trip is measured now, while nothing waits on the line.
        self._ping(self._heard_at)

    def _ping(self, now: float) -> None:
        super()._ping(now)
        self._last_ping = (self._pings, now)

    def _peer_gone(self, out: list[Event]) -> None:
        """What has not begun would be refused: it need not travel."""
        self._outbox.drop(lambda job: isinstance(job, Outgoing) and not job.begun)
        for request in [n for n, job in self._puts.items() if not job.begun]:
            del self._puts[request]
            out.append(Failed(request, None, Code.UNAVAILABLE, "the server is about to end"))

    def _allowance(self, _priority: int, job: Outgoing) -> int:
        if not job.begun:
            window = self.peer.window
            cost = job.size + PUT_OVERHEAD
            if cost > window:
                # Larger than the window: alone, and when the window is known.
                cost = window if self.is_welcome else window + 1
            if self._used_bytes + cost > window:
                return -1
        return MAX_BLOB_SIZE

    def _piece_sent(self, _priority: int, job: Outgoing, _piece_bytes: int) -> None:
        if job.request not in self._costs:
            cost = min(job.size + PUT_OVERHEAD, self.peer.window)
            self._costs[job.request] = cost
            self._used_bytes += cost

    def _is_busy(self) -> bool:
        return bool(self._asked or self._puts or self._unfinished)


def _blob(request: int, flags: int, head: BlobHead, data: bytes | memoryview) -> Blob:
    packed, is_schema = bool(flags & ZSTD), bool(flags & frames.SCHEMA)
    return Blob(
        request, head.item, head.ref, data, head.size, packed, head.place, is_schema, flags & CLASS
    )
