"""Cutting off peers that hold a connection and do nothing with it.

uvicorn has no limit on the time a header or a body may take, nor on the time a reader may leave an
answer untouched. This protocol adds them with one timer for each connection, which is set to the
nearest deadline and looks at what has moved when it fires.
"""

import asyncio
import socket
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from .config.record import Limits
from .sockets import PLACES, is_sound

UNSENT_BYTES: Final = 128 * 1024
"""What the system takes of us beyond what is on the line. Without this limit it takes some MB,
which nothing urgent could overtake, and which makes a peer that reads nothing seem to read."""

UNWANTED_BYTES: Final = 64 * 1024 * 1024
"""How much of a body that nobody wants any more is read, so that the client sees the answer."""

PARSED_URL_BYTES: Final = 65_535
"""The longest URL that httptools takes apart."""


class Reading(FlowControl):
    """Notes since when we read: while we did not, the store was behind, and not the peer."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(transport)
        self._loop = loop
        self.since_s = loop.time()

    def resume_reading(self) -> None:
        if self.read_paused:
            self.since_s = self._loop.time()
        super().resume_reading()


class LimitedProtocol(HttpToolsProtocol):
    """HTTP/1.1 with deadlines; `limits` is set by `protocol_class`."""

    limits = Limits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.timeout_keep_alive = cast("int", self.limits.idle_wait_s)
        self._timer: asyncio.TimerHandle | None = None
        self._memory: dict[str, object] = {}
        self._in_header = True
        self._header_bytes = 0
        self._header_since = 0.0
        self._body_since = 0.0
        self._body_bytes = 0
        self._body_moved = 0.0
        self._write_left = 0
        self._write_moved = 0.0

    # -- what moves -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        wire: socket.socket | None = transport.get_extra_info("socket")
        if wire is not None:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self._reading = Reading(transport, self.loop)
        self.flow = self._reading
        if len(self.connections) > self.limits.connections:
            self._refuse(503, "too many connections")
            return
        self._header_since = self.loop.time()
        self._set_timer(self.limits.header_wait_s)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_header:
            if self._header_bytes == 0:
                self._header_since = self.loop.time()
                self._set_timer(self.limits.header_wait_s)
            self._header_bytes += len(data)
        super().data_received(data)
        # What belongs to the body has been counted by now, if the header ended in this piece.
        if self._in_header and self._header_bytes > self.limits.header_bytes:
            self._refuse(431, "the header is too large")

    def _should_upgrade_to_ws(self) -> bool:
        """Anything but a sound handshake at a place for websockets is an ordinary request."""
        path = self.url.partition(b"?")[0]
        return path.endswith(PLACES) and is_sound(self.scope["method"], dict(self.headers))

    def _unsupported_upgrade_warning(self) -> None:
        """Its answer says it."""

    def handle_websocket_upgrade(self) -> None:
        # From here on the websocket protocol sees to its own deadlines.
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)["connection"] = self._memory

    def on_headers_complete(self) -> None:
        self._in_header = False
        self._header_bytes = 0
        self._body_since = self._body_moved = self.loop.time()
        self._body_bytes = 0
        self._write_left = 0
        if len(self.url) <= PARSED_URL_BYTES:
            super().on_headers_complete()
            return
        # As long as a stat of a thousand refs by GET: the query need not be parsed.
        self.url, _, query = self.url.partition(b"?")
        super().on_headers_complete()
        self.scope["query_string"] = query

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        self._body_moved = self.loop.time()
        super().on_body(body)
        if self.cycle.response_complete and self._body_bytes > UNWANTED_BYTES:
            self.transport.close()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_header = True

    # -- deadlines ------------------------------------------------------------------------------

    def _set_timer(self, wait_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(max(wait_s, 0.001), self._look)

    def _look(self) -> None:
        """Cut the peer off if it is late, else come back when it could be."""
        self._timer = None
        if self.transport.is_closing() and self.transport.get_write_buffer_size() == 0:
            return
        wait_s, fault = self._patience(self.loop.time())
        if wait_s > 0:
            self._set_timer(wait_s)
        elif fault == "write":
            self.transport.abort()
        else:
            self._refuse(408, f"the {fault} came too slowly")

    def _patience(self, now: float) -> tuple[float, str]:
        """Seconds until the peer is late with what it owes us, and what that is."""
        if self.transport.get_write_buffer_size() > 0:
            return self._write_patience(now), "write"
        if not self._in_header and self.cycle is not None and self.cycle.more_body:
            return self._body_patience(now), "body"
        if self._header_bytes or self.cycle is None:
            return self._header_since + self.limits.header_wait_s - now, "header"
        # We are at work, or the peer is idle and the keep-alive timer watches.
        return self.limits.header_wait_s, "header"

    def _body_patience(self, now: float) -> float:
        limits = self.limits
        if self.flow.read_paused:
            return limits.body_wait_s
        if self._reading.since_s > self._body_since:
            self._body_since = self._reading.since_s
            self._body_bytes = 0
        past_s = now - self._body_since
        if past_s > limits.body_wait_s and self._body_bytes < past_s * limits.body_bytes_per_s:
            return 0.0
        return max(self._body_moved, self._body_since) + limits.body_wait_s - now

    def _write_patience(self, now: float) -> float:
        left = self.transport.get_write_buffer_size()
        # It grows only after the peer has taken enough for us to write on.
        if left != self._write_left:
            self._write_moved = now
        self._write_left = left
        return self._write_moved + self.limits.write_wait_s - now

    def _refuse(self, status: int, reason: str) -> None:
        """Say why, if no answer is under way, and close."""
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = (reason + "\n").encode()
            self.transport.write(
                STATUS_LINE[status]
                + b"content-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n"
                + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
                + body
            )
        self.transport.close()


def protocol_class(limits: Limits) -> type[LimitedProtocol]:
    """The protocol for one server: uvicorn makes it by its class alone."""
    return type("Protocol", (LimitedProtocol,), {"limits": limits})
