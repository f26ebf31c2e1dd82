"""Websockets: which requests become one, and peers that do not take what they are sent.

uvicorn upgrades whatever asks for it; here only a sound handshake at a place for websockets does,
so that all others get an ordinary answer. A socket that is not read is cut off.

A handler may take a socket over (`socket_of`, `hand_over`): then messages come and go without
tasks and queues between, which would cost more than their bytes.
"""

import asyncio
import base64
import binascii
import logging
import struct
from collections.abc import MutableMapping, Sequence
from typing import Any, Final, Protocol, cast

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import apply_mask  # type: ignore[attr-defined]  # in C, where that was built
from websockets.protocol import State

from ..blobserver.cutting import Cutter

PING_EVERY_S: Final = 54
PONG_WAIT_S: Final = 6
"""Together a minute of silence, after which the peer counts as gone."""

MESSAGE_BYTES: Final = 10 * 1024
"""The longest message that a client may send."""

WRITE_WAIT_S: Final = 10
"""How long a peer may leave a message untouched."""

CLOSE_WAIT_S: Final = 10
"""How long the peer may take to answer a close."""

VERSION: Final = "13"
NO_HANDSHAKE: Final = "Not a websocket handshake"
VERSION_HEADER: Final = {"Sec-Websocket-Version": VERSION}

PLACES: Final = (b"/ws", b"/stream")
"""How paths end at which a websocket may be."""

_EXTENSION: Final = "peatkeep.socket"

BINARY: Final = 0x82  # with FIN, by RFC 6455, 5.2
_MEDIUM: Final = struct.Struct(">BBH")
_LARGE: Final = struct.Struct(">BBQ")

log = logging.getLogger("peatkeep.server.sockets")
# uvicorn tells of each socket with its URL, in which there may be a token.
log.setLevel(logging.WARNING)


class Receiver(Protocol):
    """Who has taken a socket over. All are called by the event loop's thread."""

    def message_came(self, message: bytes) -> None: ...

    def text_came(self) -> None:
        """A text message, which has no meaning."""

    def may_write(self) -> None:
        """The peer has taken most of what was written: `is_writable` is true again."""

    def server_ends(self) -> None:
        """Finish what runs, and close; within the time that the server has for it."""

    def was_lost(self) -> None:
        """The connection is gone, by whatever end."""


class LimitedSocket(WebSocketsSansIOProtocol):
    """A websocket with a deadline for what is written."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.logger = log
        self._receiver: Receiver | None = None
        self._cutter: Cutter | None = None
        self._has_begun = False  # the handshake has come
        self._is_early = False  # and something behind it, before it was answered

    async def send(self, message: ASGISendEvent) -> None:
        try:
            async with asyncio.timeout(WRITE_WAIT_S):
                await self.writable.wait()
        except TimeoutError:
            self.transport.abort()
            raise ClientDisconnected from None
        await super().send(message)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        # What is still to be written would keep the socket open.
        self.transport.abort()

    async def run_asgi(self) -> None:
        cast("dict[str, Any]", self.scope["extensions"])[_EXTENSION] = {"socket": self}
        await super().run_asgi()

    # -- taken over -----------------------------------------------------------------------------

    def hand_over(
        self, receiver: Receiver, message_bytes: int, buffer_bytes: int, into: memoryview
    ) -> None:
        """Give all that comes to `receiver` from now on; it sees to heartbeats, too.

        Call it at once after the handshake was accepted. message_bytes: the longest message.
        buffer_bytes: when so much is written and not taken, the socket is not writable. into:
        where all sockets of this event loop may read to.
        """
        self._receiver = receiver
        self.stop_keepalive()
        self.conn.max_message_size = message_bytes
        if not self._is_early:  # else the library may be in the middle of a frame
            self._cutter = Cutter(message_bytes, apply_mask)
            self.transport.set_protocol(_Reader(self, into))
        self.transport.set_write_buffer_limits(buffer_bytes, buffer_bytes // 4)
        while not self.queue.empty():
            self._pass_on(cast("dict[str, Any]", self.queue.get_nowait()))
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def _pass_on(self, message: MutableMapping[str, Any]) -> None:
        """What came in before the socket was taken over."""
        assert self._receiver is not None
        if message["type"] == "websocket.disconnect":
            self._receiver.was_lost()
        elif message.get("bytes") is not None:
            self._receiver.message_came(message["bytes"])
        else:
            self._receiver.text_came()

    @property
    def is_open(self) -> bool:
        """Whether neither end has closed. The peer's close may have come behind a message that is
        only now dealt with."""
        is_over = self.close_sent or self.disconnected or self.transport.is_closing()
        return not is_over and self.conn.state is State.OPEN

    @property
    def is_writable(self) -> bool:
        return self.writable.is_set() and self.is_open

    @property
    def unsent_bytes(self) -> int:
        """What the peer, and the system, have not taken."""
        return self.transport.get_write_buffer_size()

    def write_message(self, pieces: Sequence[bytes | memoryview]) -> int:
        """Send a binary message; returns its size. A server's frames are not masked, so the
        pieces go as they are."""
        size = sum(map(len, pieces))
        if size < 126:
            head = bytes((BINARY, size))
        elif size < 65536:
            head = _MEDIUM.pack(BINARY, 126, size)
        else:
            head = _LARGE.pack(BINARY, 127, size)
        self.transport.writelines((head, *pieces))
        return size

    def end(self, code: int, reason: str) -> None:
        """Close in order: what was written goes out before."""
        if not self.is_open:
            return
        self.conn.send_close(code, reason.encode()[:120].decode("utf-8", "ignore"))
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.close_timer = self.loop.call_later(CLOSE_WAIT_S, self.transport.abort)

    def abort(self) -> None:
        """Cut the connection: what was not taken is lost."""
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._receiver is None:
            self._is_early, self._has_begun = self._has_begun, True
        super().data_received(data)

    def data_came(self, data: memoryview) -> None:
        """Whole messages are cut out here; the library is asked for what is left."""
        assert self._cutter is not None
        assert self._receiver is not None
        for is_message, piece in self._cutter.cut(data):
            if not is_message:
                super().data_received(bytes(piece))
            elif self.is_open:
                self._receiver.message_came(piece)  # type: ignore[arg-type]  # masked: bytes

    def send_receive_event_to_app(self) -> None:
        if self._receiver is None:
            super().send_receive_event_to_app()
            return
        message = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "text":
            self._receiver.text_came()
        else:
            self._receiver.message_came(message)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._receiver is not None:
            self._receiver.may_write()

    def shutdown(self) -> None:
        if self._receiver is not None and self.is_open:
            self._receiver.server_ends()
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._receiver is not None:
            self._receiver.was_lost()


class _Reader(asyncio.BufferedProtocol):
    """Reads for a socket that was taken over. What is read is dealt with before anything else is,
    so there is one place for all: a message is copied once, while it is unmasked."""

    def __init__(self, socket: LimitedSocket, into: memoryview) -> None:
        self._socket = socket
        self._into = into

    def get_buffer(self, _: int) -> memoryview:
        return self._into

    def buffer_updated(self, size_bytes: int) -> None:
        self._socket.data_came(self._into[:size_bytes])

    def eof_received(self) -> None:
        self._socket.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._socket.connection_lost(error)

    def pause_writing(self) -> None:
        self._socket.pause_writing()

    def resume_writing(self) -> None:
        self._socket.resume_writing()


def socket_of(scope: MutableMapping[str, Any]) -> LimitedSocket:
    """The socket of a websocket's scope, for who wants to take it over."""
    socket: LimitedSocket = scope["extensions"][_EXTENSION]["socket"]
    return socket


def is_sound(method: str, headers: dict[bytes, bytes]) -> bool:
    """Whether a request that asks for a websocket is a handshake of the version that we speak.

    headers: lower-case names.
    """
    try:
        key = base64.b64decode(headers.get(b"sec-websocket-key", b""), validate=True)
    except binascii.Error:
        return False
    return (
        method == "GET"
        and len(key) == 16
        and headers.get(b"sec-websocket-version") == VERSION.encode()
    )
