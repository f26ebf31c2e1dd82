"""The client's end of a websocket as bytes in and out; the socket is the caller's."""

import logging
import secrets
import struct
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import (  # type: ignore[attr-defined]  # not said to be exported
    Frame,
    Opcode,
    apply_mask,  # in C, where that was built
)
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import WebSocketURI

from ...errors import Forbidden, StoreError, Unavailable, Unsupported
from ..cutting import Cutter

if TYPE_CHECKING:
    from .address import Address

NORMAL_CLOSE: Final = 1000

BINARY: Final = 0x82  # with FIN, by RFC 6455, 5.2
MASKED: Final = 0x80
_SMALL: Final = struct.Struct(">BB4s")
_MEDIUM: Final = struct.Struct(">BBH4s")
_LARGE: Final = struct.Struct(">BBQ4s")
_BLANK_LINE: Final = b"\r\n\r\n"

_REFUSALS: Final = {401: Forbidden, 403: Forbidden, 429: Unavailable}

_silent: Final = logging.getLogger("peatkeep.websocket")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class WebSocket:
    """One websocket, from its handshake to its close. Used by one thread at a time.

    path: absolute, with the query. authorization: the header's value, or "". message_bytes: the
    longest message that is taken.
    """

    def __init__(
        self, address: "Address", path: str, authorization: str, message_bytes: int
    ) -> None:
        parts = urlsplit(path)
        uri = WebSocketURI(
            address.scheme == "https", address.host, address.port, parts.path, parts.query
        )
        self._address = address
        self._protocol = ClientProtocol(uri, max_size=message_bytes, logger=_silent)
        request = self._protocol.connect()
        if authorization:
            request.headers["Authorization"] = authorization
        self._protocol.send_request(request)
        self._cutter = Cutter(message_bytes)
        self._was_opened = False
        self._tail = b""  # of the answer to the handshake, as far as it has come
        self._fragments: list[bytes] = []
        self._output: list[bytes] = []

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Take bytes from the socket, b"" at their end; returns the messages that are whole.

        `data` may be overwritten then. Raises why the handshake was refused: Forbidden,
        Unsupported (no websocket there), Unavailable.
        """
        messages: list[bytes] = []
        if not len(data):
            self._give(data, messages)
            return messages
        if not self._was_opened:
            data = self._shake_hands(data, messages)
        # Past the library, whose parser copies three times and costs as much as all the rest.
        for is_message, piece in self._cutter.cut(data):
            if not is_message:
                self._give(piece, messages)
            elif self.is_open:
                messages.append(cast("bytes", piece))  # or a bytearray, which nobody changes
        return messages

    @property
    def room(self) -> memoryview | None:
        """Where the next bytes from the socket belong, if there is such a place; then `filled`."""
        return self._cutter.room

    def filled(self, size_bytes: int) -> list[bytes]:
        """As `feed`, of bytes that were put into the `room`."""
        if not size_bytes:
            return self.feed(b"")
        message = self._cutter.filled(size_bytes)
        return [cast("bytes", message)] if message is not None and self.is_open else []

    def _shake_hands(self, data: bytes | memoryview, messages: list[bytes]) -> bytes | memoryview:
        """Give the library the answer to the handshake; returns what follows it."""
        seen = self._tail + data
        self._tail = seen[1 - len(_BLANK_LINE) :]
        found = seen.find(_BLANK_LINE)
        answer_bytes = len(data)
        if found >= 0:
            answer_bytes -= len(seen) - found - len(_BLANK_LINE)
        self._give(data[:answer_bytes], messages)
        self._was_opened = self.is_open
        if not self._was_opened and answer_bytes < len(data):
            self._give(data[answer_bytes:], messages)  # why it was refused
            return b""
        return data[answer_bytes:]

    def _give(self, data: bytes | bytearray | memoryview, messages: list[bytes]) -> None:
        """Leave bytes, or the end of all, to the library."""
        protocol = self._protocol
        if len(data):
            protocol.receive_data(data)  # type: ignore[arg-type]  # it is only appended
        else:
            protocol.receive_eof()
        for event in protocol.events_received():
            if isinstance(event, Frame):
                self._take(event, messages)
        if protocol.handshake_exc is not None:
            raise self._refusal(protocol.handshake_exc)

    def _take(self, frame: Frame, messages: list[bytes]) -> None:
        if frame.opcode not in (Opcode.BINARY, Opcode.CONT):
            return  # what the websocket itself says; and text, which has no meaning here
        data = cast("bytes", frame.data)  # or a bytearray, which nobody changes
        if frame.fin and not self._fragments:
            messages.append(data)
            return
        self._fragments.append(data)
        if frame.fin:
            messages.append(b"".join(self._fragments))
            self._fragments.clear()

    def send(self, message: bytes) -> None:
        """Queue a message for `output`; while `is_open`."""
        self._take_output()
        size = len(message)
        mask = secrets.token_bytes(4)
        if size < 126:
            head = _SMALL.pack(BINARY, MASKED | size, mask)
        elif size < 65536:
            head = _MEDIUM.pack(BINARY, MASKED | 126, size, mask)
        else:
            head = _LARGE.pack(BINARY, MASKED | 127, size, mask)
        # Apart: joined, the message would be copied once more.
        self._output += (head, apply_mask(message, mask))

    def close(self, code: int = NORMAL_CLOSE, reason: str = "") -> None:
        """Queue the end, unless it has come."""
        if self.is_open:
            self._protocol.send_close(code, reason.encode()[:120].decode("utf-8", "ignore"))

    def output(self) -> list[bytes]:
        """Bytes for the socket; each piece once."""
        self._take_output()
        output, self._output = self._output, []
        return output

    def _take_output(self) -> None:
        """What the protocol says by itself, in its place among the messages."""
        self._output += filter(None, self._protocol.data_to_send())

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent: the handshake is done, and nobody has closed."""
        return self._protocol.state is State.OPEN

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more."""
        return self._protocol.state in (State.CLOSING, State.CLOSED)

    @property
    def has_farewell(self) -> bool:
        """Whether the peer's close has come."""
        return self._protocol.close_rcvd is not None

    @property
    def farewell(self) -> str:
        """Why the peer closed, for people."""
        received = self._protocol.close_rcvd
        if received is None:
            return "the connection was cut"
        return f"the server closed the stream: {received.code} {received.reason}".rstrip()

    def _refusal(self, error: Exception) -> StoreError:
        where = str(self._address)
        if isinstance(error, InvalidStatus):
            response: Response = error.response
            status = response.status_code
            kind = _REFUSALS.get(status, Unavailable if status in (502, 503, 504) else Unsupported)
            return kind("open stream to", where, f"{status} {response.reason_phrase}")
        if isinstance(error, InvalidHandshake) and not isinstance(error.__cause__, EOFError):
            return Unsupported("open stream to", where, str(error))
        return Unavailable("open stream to", where, "the connection was cut")
