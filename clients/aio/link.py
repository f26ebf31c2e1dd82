"""One connection of the stream in an event loop: a socket, its websocket, and what moves bytes."""

import asyncio
import socket
from collections import deque
from typing import Any, Final, cast

from ...blobserver.remote import Transport
from ...blobserver.remote.link import (
    LEAST_MESSAGE_BYTES,
    NOTSENT_LOWAT,
    READ_BYTES,
    TICK_S,
    UNSENT_BYTES,
    Ended,
    Peer,
)
from ...blobserver.remote.pace import Pace
from ...blobserver.remote.transport import CONNECT_TIMEOUT_S, reason_of
from ...blobserver.remote.websocket import WebSocket
from ...blobserver.wire import CLIENT_HELLO, ProtocolViolation
from ...errors import StoreError, Unavailable

BUFFER_BYTES: Final = 64 * 1024
"""What is given to the socket before it is taken; the rest waits where it can be overtaken."""

FAREWELL_S: Final = 0.5
"""How long the other end may take to answer a close."""


class Link(asyncio.BufferedProtocol):
    """A connection. Everything here runs in the event loop's thread and returns at once.

    opened: done when the handshake is; raises why it was refused. ended: why the connection is
    gone; the socket is closed then.
    """

    def __init__(self, http: Transport, path: str, up: Pace, down: Pace) -> None:
        self._loop = asyncio.get_running_loop()
        self._http = http
        self._websocket = WebSocket(
            http.address, path, http.authorization, CLIENT_HELLO.message_bytes
        )
        self._up, self._down = up, down
        self.opened: Final[asyncio.Future[None]] = self._loop.create_future()
        self.ended: Final[asyncio.Future[Ended]] = self._loop.create_future()
        self._peer: Peer | None = None
        self._messages: deque[bytes] = deque()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._socket: asyncio.Transport | None = None
        self._is_writable = True
        self._why: Ended | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._paused: asyncio.TimerHandle | None = None

    def start(self, peer: Peer) -> None:
        """Pass on what comes, and has come. Call it when `opened` is done."""
        self._peer = peer
        self._ticking = self._loop.call_later(TICK_S, self._tick)
        self._pass_on()
        self.pump()

    def pump(self) -> None:
        """Send what may be sent; called when there may be more."""
        peer = self._peer
        if peer is None or self._paused is not None:
            return
        while self._is_writable and self._websocket.is_open:
            message = peer.next_message(min(self._up.step_bytes, LEAST_MESSAGE_BYTES))
            if message is None:
                break
            self._websocket.send(message)
            self._flush()
            wait_s = self._up.wait_s(self._loop.time())
            if wait_s:
                self._paused = self._loop.call_later(wait_s, self._unpause)
                return
        if self._is_writable and self._websocket.is_open and peer.wants_end:
            self._end("")

    def abort(self) -> None:
        """Cut the connection: what was not taken is lost."""
        if self._socket is not None:
            self._socket.abort()

    def _unpause(self) -> None:
        self._paused = None
        self.pump()

    def _tick(self) -> None:
        assert self._peer is not None
        self._ticking = self._loop.call_later(TICK_S, self._tick)
        try:
            self._peer.tick(self._loop.time())
        except ProtocolViolation as violation:
            self._break_off(violation)
        self.pump()

    def _pass_on(self) -> None:
        """What has come to whom it is for."""
        if self._peer is None:
            return
        try:
            while self._messages and self._why is None:
                self._peer.message_came(self._messages.popleft(), self._loop.time())
        except ProtocolViolation as violation:
            self._break_off(violation)
        if self._websocket.is_over:
            self._end(self._websocket.farewell)

    def _flush(self) -> None:
        assert self._socket is not None
        pieces = self._websocket.output()
        if pieces and not self._socket.is_closing():
            self._up.went(sum(map(len, pieces)), self._loop.time())
            self._socket.writelines(pieces)

    # -- the end ---------------------------------------------------------------------------------

    def _break_off(self, violation: ProtocolViolation) -> None:
        self._end(violation.reason, violation.close_code, was_broken_off=True)

    def _end(self, reason: str, code: int = 1000, *, was_broken_off: bool = False) -> None:
        """Close, and wait a moment for the answer, so that nothing is cut off."""
        if self._why is None:
            self._why = Ended(reason, was_broken_off)
            self._websocket.close(code, reason)
            self._flush()
            self._loop.call_later(FAREWELL_S, self.abort)

    # -- called by the event loop ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast("asyncio.Transport", transport)
        self._socket.set_write_buffer_limits(BUFFER_BYTES, BUFFER_BYTES // 4)
        below: Any = transport.get_extra_info("socket")
        if below is not None and NOTSENT_LOWAT is not None:
            below.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, UNSENT_BYTES)
        try:
            self._http.check_certificate(transport.get_extra_info("ssl_object"))
        except StoreError as error:
            self.opened.set_exception(error)
            self._socket.abort()
        else:
            self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._buffer[: self._down.step_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        now = self._loop.time()
        self._down.went(nbytes, now)
        wait_s = self._down.wait_s(now)
        if wait_s and self._socket is not None:
            self._socket.pause_reading()
            self._loop.call_later(wait_s, self._read_on)
        self._feed(self._buffer[:nbytes])
        self._pass_on()
        self.pump()

    def _read_on(self) -> None:
        if self._socket is not None and not self._socket.is_closing():
            self._socket.resume_reading()

    def _feed(self, data: memoryview | bytes) -> None:
        try:
            self._messages += self._websocket.feed(data)
        except StoreError as error:
            if not self.opened.done():
                self.opened.set_exception(error)
            self.abort()
            return
        if self._websocket.is_open and not self.opened.done():
            self.opened.set_result(None)
        self._flush()

    def eof_received(self) -> None:
        self._feed(b"")
        self._pass_on()

    def pause_writing(self) -> None:
        self._is_writable = False

    def resume_writing(self) -> None:
        self._is_writable = True
        # Not at once: an error of a write in here would have asyncio end the connection twice.
        self._loop.call_soon(self.pump)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._ticking, self._paused):
            if timer is not None:
                timer.cancel()
        reason = reason_of(exc) if exc is not None else self._websocket.farewell
        if not self.opened.done():
            error = Unavailable("open stream to", self._http.address, reason)
            self.opened.set_exception(error)
        if not self.ended.done():
            self.ended.set_result(self._why or Ended(reason, was_broken_off=False))


async def open_link(http: Transport, path: str, up: Pace, down: Pace) -> Link:
    """Connect and shake hands. Raises Unavailable, Forbidden; Unsupported: no stream there."""
    address, link = http.address, Link(http, path, up, down)
    tls = await asyncio.to_thread(http.tls_context) if address.scheme == "https" else None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await asyncio.get_running_loop().create_connection(
                lambda: link, address.host, address.port, ssl=tls
            )
            await link.opened
    except OSError as error:  # or TimeoutError
        link.abort()
        raise Unavailable("open stream to", address, reason_of(error)) from None
    except BaseException:
        link.abort()
        raise
    return link
