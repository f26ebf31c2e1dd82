"""What both ends of the stream have in common: hello, heartbeats, pieces, goodbye (STREAM.md)."""

from collections.abc import Callable
from typing import Final

from ...errors import Invalid
from . import frames
from .events import Event, Leaving, Welcome
from .frames import (
    ABORT,
    CLASS,
    CLASSES,
    END,
    LEAST,
    ZSTD,
    BlobHead,
    Hello,
    ProtocolViolation,
    PutHead,
    Violation,
)
from .outbox import Outbox, Outgoing

FLOOD_BYTES: Final = 1024 * 1024
"""Small frames that may wait for a peer who asks without reading."""

SILENT_BEATS: Final = 3

SMALL_PIECE_BYTES: Final = 4096
"""Smaller pieces are gathered: each kept by itself would cost more than its bytes."""

KEPT_SHARE: Final = 16
"""A blob that is at least this part of its message stays where it came: who takes it makes the
copy, in a thread of its own. A view keeps the whole message."""

Handler = Callable[[int, int, memoryview, list[Event]], None]


class Unfinished:
    """A blob of which some pieces have come. `head` and `flags` are of its first frame."""

    __slots__ = ("dropped", "flags", "got", "head", "pieces", "priority")

    def __init__(self, flags: int, head: PutHead | BlobHead) -> None:
        self.priority = flags & CLASS
        self.flags = flags
        self.head = head
        self.pieces: list[memoryview | bytearray] = []
        self.got = 0
        self.dropped = False

    def add(self, piece: memoryview) -> None:
        message_bytes = memoryview(piece.obj).nbytes
        # A view keeps its whole message: only for a piece that is most of it.
        if len(piece) >= SMALL_PIECE_BYTES and len(piece) * 2 >= message_bytes:
            self.pieces.append(piece)
        elif self.pieces and isinstance(self.pieces[-1], bytearray):
            self.pieces[-1] += piece
        else:
            self.pieces.append(bytearray(piece))


class Connection:
    """One end. The caller moves messages between it and the websocket, and tells the time.

    Calls come from one thread at a time. Any ProtocolViolation raised by `receive` or `tick` ends
    the connection: close the websocket with its `close_code`.
    """

    def __init__(self, hello: Hello, now: float) -> None:
        """hello: what this end takes. now: seconds of any clock that does not jump."""
        self._check(hello)
        self.hello = hello
        self.peer = LEAST
        """The peer's limits: the least there are until its hello has come (`Welcome`)."""
        self.is_welcome = False
        self.peer_leaves = False
        self.leaves = False
        self._heard_at = now
        self._spoke_at = now
        self._spoke = False
        self._pings = 0
        self._outbox = Outbox(self._allowance, self._piece_sent)
        self._unfinished: dict[int, Unfinished] = {}
        self._handlers: dict[int, Handler] = {
            frames.HELLO: self._hello_came,
            frames.PING: self._ping_came,
            frames.PONG: self._pong_came,
            frames.GOODBYE: self._goodbye_came,
            frames.DATA: self._data_came,
        }
        self._said_hello = False

    @staticmethod
    def _check(hello: Hello) -> None:
        try:
            frames.parse_hello(memoryview(frames.hello_body(hello)))
        except ProtocolViolation as error:
            raise Invalid("open", "stream", error.reason) from None

    # -- in --------------------------------------------------------------------------------------

    def receive(self, message: bytes, now: float) -> list[Event]:
        """Take one message; returns what it meant, in order. Raises ProtocolViolation."""
        if len(message) > self.hello.message_bytes:
            raise ProtocolViolation(Violation.LIMIT, f"a message of {len(message)} bytes")
        self._heard_at = now
        events: list[Event] = []
        handlers = self._handlers
        for kind, flags, request, body in frames.decode(message):
            handler = handlers.get(kind)
            if handler is None:
                raise out_of_order(f"frame type {kind:#04x} from this end")
            if not self.is_welcome and kind != frames.HELLO:
                raise out_of_order("a frame before HELLO")
            handler(flags, request, body, events)
        if self._outbox.urgent_bytes + self._owed_bytes() > FLOOD_BYTES:
            raise ProtocolViolation(Violation.FLOOD, "the peer asks without reading")
        return events

    def _hello_came(self, _flags: int, _request: int, body: memoryview, out: list[Event]) -> None:
        if self.is_welcome:
            raise out_of_order("a second HELLO")
        hello = frames.parse_hello(body)
        if not hello.lowest <= frames.VERSION <= hello.highest:
            reason = f"versions {hello.lowest} to {hello.highest}, here {frames.VERSION}"
            raise ProtocolViolation(Violation.VERSION, reason)
        self.peer = hello
        self.is_welcome = True
        self._peer_known()
        out.append(Welcome(hello))

    def _ping_came(self, _flags: int, _request: int, body: memoryview, _: list[Event]) -> None:
        frames.parse_number(body)
        self._outbox.add_urgent(frames.frame(frames.PONG, 0, 0, bytes(body)))

    def _pong_came(self, _flags: int, _request: int, body: memoryview, _: list[Event]) -> None:
        frames.parse_number(body)

    def _goodbye_came(self, _flags: int, _request: int, body: memoryview, out: list[Event]) -> None:
        code, text = frames.parse_goodbye(body)
        if not self.peer_leaves:
            self.peer_leaves = True
            out.append(Leaving(code, text))
            self._peer_gone(out)

    # -- pieces ----------------------------------------------------------------------------------

    def _begin(
        self,
        flags: int,
        request: int,
        head: PutHead | BlobHead,
    ) -> bytes | memoryview | None:
        """A blob's first piece has come; returns the blob if that is all of it."""
        priority, size, piece = flags & CLASS, head.size, head.piece
        for other in self._unfinished.values():
            if other.priority == priority:
                raise out_of_order("a blob begins before the last of its class has ended")
        got = len(piece)
        if flags & END:
            _check_end(got, size, flags)
            is_small = got * KEPT_SHARE < memoryview(piece.obj).nbytes
            return bytes(piece) if is_small else piece
        _check_more(got, size, flags)
        unfinished = Unfinished(flags, head)
        unfinished.add(piece)
        unfinished.got = got
        self._unfinished[request] = unfinished
        return None

    def _data_came(self, flags: int, request: int, body: memoryview, out: list[Event]) -> None:
        unfinished = self._unfinished.get(request)
        if unfinished is None:
            raise out_of_order("DATA of a blob that has not begun")
        got = len(body)
        self._piece_came(unfinished.priority, got)
        if flags & ABORT:
            if got or not flags & END:
                raise frames.malformed("an ABORT has END and no bytes")
            del self._unfinished[request]
            self._given_up(request, unfinished)
            return
        unfinished.got += got
        size, first_flags = unfinished.head.size, unfinished.flags
        if not flags & END:
            if not got:
                raise frames.malformed("an empty piece in the middle of a blob")
            _check_more(unfinished.got, size, first_flags)
            if not unfinished.dropped:
                unfinished.add(body)
            return
        _check_end(unfinished.got, size, first_flags)
        del self._unfinished[request]
        if not unfinished.dropped:
            unfinished.pieces.append(body)
            self._whole(request, unfinished, b"".join(unfinished.pieces), out)

    # -- out -------------------------------------------------------------------------------------

    def next_message(self, budget_bytes: int = 1 << 30) -> bytes | None:
        """The next message to send, or None when there is none (yet).

        Call it until None after each `receive`, and after calls that queue something. A caller
        who asks only when the socket takes bytes lets urgent frames overtake. budget_bytes: how
        large it may be, about; blobs are cut to it, small frames are not.
        """
        return b"".join(self.next_pieces(budget_bytes)) or None

    def next_pieces(self, budget_bytes: int = 1 << 30) -> list[bytes | memoryview]:
        """`next_message` in pieces, for who can send them without joining them; [] for None."""
        if not self._said_hello:
            self._said_hello = self._spoke = True
            return [frames.frame(frames.HELLO, 0, 0, frames.hello_body(self.hello))]
        pieces = self._outbox.pieces(
            min(budget_bytes, self.peer.message_bytes), self._first_frames()
        )
        if pieces:
            self._spoke = True
        return pieces

    @property
    def has_output(self) -> bool:
        """Whether something waits to be sent, perhaps for credit."""
        return not self._said_hello or bool(self._outbox) or self._has_first_frames()

    def goodbye(self, code: int = 0, text: str = "") -> None:
        """Begin nothing new; what runs goes on. Then send what is left until `is_finished`."""
        if not self.leaves:
            self.leaves = True
            self._outbox.add_urgent(
                frames.frame(frames.GOODBYE, 0, 0, frames.goodbye_body(code, text))
            )

    @property
    def is_finished(self) -> bool:
        """Whether one end said goodbye, and all that ran is answered and handed out."""
        return (self.leaves or self.peer_leaves) and not self.has_output and not self._is_busy()

    # -- time ------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Look at the clock; call it every second or so. It may queue a PING.

        Raises ProtocolViolation when the peer is silent for too long.
        """
        if self._spoke:
            self._spoke, self._spoke_at = False, now
        silence_s = now - self._heard_at
        if silence_s > self.hello.heartbeat_s * SILENT_BEATS:
            raise ProtocolViolation(Violation.SILENCE, f"nothing heard for {silence_s:.0f} s")
        # Half of what the peer asks for: what is on the way must still come in time.
        if now - self._spoke_at >= self.peer.heartbeat_s / 2 and not self._outbox.urgent_bytes:
            self._ping(now)

    def _ping(self, now: float) -> None:
        self._spoke_at = now
        self._pings += 1
        self._outbox.add_urgent(frames.frame(frames.PING, 0, 0, frames.number_body(self._pings)))

    # -- for the ends ----------------------------------------------------------------------------

    def _allowance(self, priority: int, job: Outgoing) -> int:
        """Bytes of the blob that may be sent now; negative: not even an empty one."""
        raise NotImplementedError

    def _piece_sent(self, priority: int, job: Outgoing, piece_bytes: int) -> None:
        raise NotImplementedError

    def _piece_came(self, priority: int, piece_bytes: int) -> None:
        """Before anything is kept of a piece. Raises ProtocolViolation without credit."""

    def _whole(self, request: int, blob: Unfinished, data: bytes, out: list[Event]) -> None:
        raise NotImplementedError

    def _given_up(self, request: int, blob: Unfinished) -> None:
        raise NotImplementedError

    def _peer_known(self) -> None:
        """The peer's hello has come."""

    def _peer_gone(self, out: list[Event]) -> None:
        """The peer has said goodbye."""

    def _first_frames(self) -> list[bytes]:
        """Frames that are made when a message leaves, so that many become one."""
        return []

    def _has_first_frames(self) -> bool:
        return False

    def _owed_bytes(self) -> int:
        """Of the frames that `_first_frames` will make, about."""
        return 0

    def _is_busy(self) -> bool:
        raise NotImplementedError


def out_of_order(what: str) -> ProtocolViolation:
    return ProtocolViolation(Violation.ORDER, what)


def check_priority(priority: int) -> int:
    """Raises Invalid unless it is a class."""
    if priority not in CLASSES:
        raise Invalid("send", "stream", f"no class {priority}")
    return priority


def _check_end(got: int, size: int, flags: int) -> None:
    if got >= size if flags & ZSTD else got != size:
        raise frames.malformed(f"{got} bytes came of a blob of {size}")


def _check_more(got: int, size: int, flags: int) -> None:
    """Before the end: there must be bytes left to come."""
    if got >= size:
        raise frames.malformed(f"{got} bytes came of a blob of {size}, and it has not ended")
    if flags & ZSTD and got + 1 >= size:
        raise frames.malformed("a compressed blob is not smaller")
