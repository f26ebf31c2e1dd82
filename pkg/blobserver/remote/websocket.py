"""The client's end of a websocket (RFC 6455) as bytes in and out; the socket is the caller's."""

import secrets
import struct
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from ..cutting import Cutter
from .handshake import Handshake
from .masking import apply_mask

if TYPE_CHECKING:
    from .address import Address

NORMAL_CLOSE: Final = 1000
BAD_FRAME: Final = 1002
BAD_TEXT: Final = 1007
TOO_LARGE: Final = 1009

CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
"""What frames are (5.2)."""

_FIN: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_MOST_CONTROL_BYTES: Final = 125
_MEDIUM_SIZE, _LARGE_SIZE = 126, 127  # the size follows in 2 or 8 bytes

_SMALL: Final = struct.Struct(">BB4s")
_MEDIUM: Final = struct.Struct(">BBH4s")
_LARGE: Final = struct.Struct(">BBQ4s")
_CODE: Final = struct.Struct(">H")


class State(Enum):
    CONNECTING = 1
    OPEN = 2
    CLOSING = 3  # an end has said so, or broke the rules
    CLOSED = 4  # nothing comes any more


class Farewell(NamedTuple):
    """The peer's close. code: 1005 where it gave none."""

    code: int
    reason: str


class _Broken(Exception):
    """The peer breaks the rules; `code` is what it is told."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class WebSocket:
    """One websocket, from its handshake to its close. Used by one thread at a time.

    path: absolute, with the query. authorization: the header's value, or "". message_bytes: the
    longest message that is taken.
    """

    def __init__(
        self, address: "Address", path: str, authorization: str, message_bytes: int
    ) -> None:
        self._handshake = Handshake(address, path, authorization)
        self._state = State.CONNECTING
        self._message_bytes = message_bytes
        self._cutter = Cutter(message_bytes)
        self._others = bytearray()  # frames that are no whole messages, as far as they have come
        self._begun: int | None = None  # of what the fragments are that have come
        self._fragments = bytearray()
        self._output: list[bytes] = [self._handshake.request]
        self._farewell: Farewell | None = None
        self._broken = ""

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take bytes from the socket, b"" at their end; returns the messages that are whole.

        `data` may be overwritten then. Raises why the handshake was refused: Forbidden,
        Unsupported (no websocket there), Unavailable.
        """
        messages: list[bytes] = []
        if self._state is State.CONNECTING:
            rest = self._handshake.feed(data)
            if rest is None:
                return messages
            self._state, data = State.OPEN, rest
        elif not len(data):
            self._state = State.CLOSED
        for is_message, piece in self._cutter.cut(data):
            if not self._is_listening:
                break
            if is_message:
                self._take(cast("bytes", piece), messages)  # or a bytearray, which nobody changes
            else:
                self._others += piece
                self._parse(messages)
        return messages

    @property
    def room(self) -> memoryview | None:
        """Where the next bytes from the socket belong, if there is such a place; then `filled`."""
        return self._cutter.room

    def filled(self, size_bytes: int) -> list[bytes]:
        """As `feed`, of bytes that were put into the `room`."""
        if not size_bytes:
            return self.feed(b"")
        messages: list[bytes] = []
        message = self._cutter.filled(size_bytes)
        if message is not None:
            self._take(cast("bytes", message), messages)
        return messages

    def send(self, message: bytes) -> None:
        """Queue a message for `output`; while `is_open`."""
        self._send(BINARY, message)

    def close(self, code: int = NORMAL_CLOSE, reason: str = "") -> None:
        """Queue the end, unless it has come."""
        if self.is_open:
            text = reason.encode()[:120].decode("utf-8", "ignore").encode()
            self._send(CLOSE, _CODE.pack(code) + text)
            self._state = State.CLOSING

    def output(self) -> list[bytes]:
        """Bytes for the socket; each piece once."""
        output, self._output = self._output, []
        return output

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent: the handshake is done, and nobody has closed."""
        return self._state is State.OPEN

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more that has a meaning."""
        return self._state in (State.CLOSING, State.CLOSED)

    @property
    def has_farewell(self) -> bool:
        """Whether the peer's close has come."""
        return self._farewell is not None

    @property
    def farewell(self) -> str:
        """Why the peer closed, for people."""
        if self._farewell is None:
            return self._broken or "the connection was cut"
        code, reason = self._farewell
        return f"the server closed the stream: {code} {reason}".rstrip()

    # -- frames ----------------------------------------------------------------------------------

    @property
    def _is_listening(self) -> bool:
        """Whether what comes is looked at: until the peer's close, or what it may not send."""
        return self._farewell is None and not self._broken

    def _take(self, message: bytes, messages: list[bytes]) -> None:
        """A message that came in one frame; not between fragments, the cutter sees to that."""
        if self.is_open:  # else nobody waits for it any more
            messages.append(message)

    def _send(self, opcode: int, payload: bytes) -> None:
        first, size, mask = _FIN | opcode, len(payload), secrets.token_bytes(4)
        if size < _MEDIUM_SIZE:
            head = _SMALL.pack(first, _MASKED | size, mask)
        elif size < 65536:
            head = _MEDIUM.pack(first, _MASKED | _MEDIUM_SIZE, size, mask)
        else:
            head = _LARGE.pack(first, _MASKED | _LARGE_SIZE, size, mask)
        # Apart: joined, the message would be copied once more.
        self._output += (head, apply_mask(payload, mask))

    def _break(self, broken: _Broken) -> None:
        self.close(broken.code, broken.reason)
        self._broken = f"the server broke the websocket: {broken.reason}"
        self._others.clear()
        self._fragments.clear()

    def _parse(self, messages: list[bytes]) -> None:
        """Deal with the whole frames among `_others`."""
        try:
            while self._is_listening and (found := self._next_frame()) is not None:
                first, payload = found
                self._frame_came(first & ~_FIN, bool(first & _FIN), payload, messages)
        except _Broken as broken:
            self._break(broken)

    def _next_frame(self) -> tuple[int, bytes] | None:
        """The first byte of the next frame, and its payload; None where it has not come whole."""
        came = self._others
        if len(came) < 2:
            return None
        first, size, at = came[0], came[1], 2
        if size & _MASKED:
            raise _Broken(BAD_FRAME, "a server masks nothing")
        if size >= _MEDIUM_SIZE:
            at += 2 if size == _MEDIUM_SIZE else 8
            if len(came) < at:
                return None
            size = int.from_bytes(came[2:at], "big")
        self._check(first, size)
        if len(came) < at + size:
            return None
        payload = bytes(came[at : at + size])
        del came[: at + size]
        return first, payload

    def _check(self, first: int, size: int) -> None:
        """Raises unless a frame may begin so."""
        opcode = first & ~_FIN & ~_RESERVED
        if first & _RESERVED or opcode not in (CONTINUED, TEXT, BINARY, CLOSE, PING, PONG):
            raise _Broken(BAD_FRAME, f"a frame that begins with {first:#04x}")
        if opcode >= CLOSE:
            if size > _MOST_CONTROL_BYTES or not first & _FIN:
                raise _Broken(BAD_FRAME, "a control frame that is long, or a fragment")
        elif (opcode == CONTINUED) is (self._begun is None):
            raise _Broken(BAD_FRAME, "a fragment out of order")
        elif len(self._fragments) + size > self._message_bytes:
            raise _Broken(TOO_LARGE, f"a message of over {self._message_bytes} bytes")

    def _frame_came(
        self, opcode: int, is_last: bool, payload: bytes, messages: list[bytes]
    ) -> None:
        if opcode == CLOSE:
            self._close_came(payload)
        elif opcode == PING:
            if self.is_open:
                self._send(PONG, payload)
        elif opcode != PONG:
            self._begun = opcode if self._begun is None else self._begun
            self._fragments += payload
            if is_last:
                if self._begun == BINARY and self.is_open:  # a text has no meaning here
                    messages.append(bytes(self._fragments))
                self._begun = None
                self._fragments.clear()

    def _close_came(self, payload: bytes) -> None:
        code, reason = 1005, ""
        if payload:
            if len(payload) < _CODE.size:
                raise _Broken(BAD_FRAME, "a close with half a code")
            (code,) = _CODE.unpack_from(payload)
            if not (1000 <= code <= 1014 or 3000 <= code <= 4999) or code in (1004, 1005, 1006):
                raise _Broken(BAD_FRAME, f"a close with the code {code}")
            try:
                reason = payload[_CODE.size :].decode()
            except UnicodeDecodeError:
                raise _Broken(BAD_TEXT, "a close with a reason that is no text") from None
        if self.is_open:
            self._send(CLOSE, payload[: _CODE.size])
            self._state = State.CLOSING
        self._farewell = Farewell(code, reason)
