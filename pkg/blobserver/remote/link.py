"""One connection of the stream: a socket, its websocket, and the loop that moves bytes."""

import select
import socket
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ...errors import StoreError, Unavailable
from ..wire import CLIENT_HELLO, ProtocolViolation
from .pace import Pace

if TYPE_CHECKING:
    from .transport import Transport
    from .websocket import WebSocket

READ_BYTES: Final = 256 * 1024
LARGE_MESSAGE_BYTES: Final = 128 * 1024
HEAD_BYTES: Final = 4096
"""After a large message only the beginning of the next is read, the rest to where it stays."""

UNSENT_BYTES: Final = 256 * 1024
"""The system takes no more while so much waits in it: what is urgent would wait behind it."""

LEAST_MESSAGE_BYTES: Final = 128 * 1024
MOST_MESSAGE_BYTES: Final = 264 * 1024
QUICK_S, SLOW_S = 0.005, 0.05
"""A message that left within the first time may be followed by a larger one; beyond the second, by
a smaller one: nothing overtakes what is in a message."""

TICK_S: Final = 1.0
FAREWELL_S: Final = 0.5
NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if sys.platform == "linux" else None)


class Peer(Protocol):
    """Who the bytes are for: each method is called without a lock held, by one thread."""

    def message_came(self, message: bytes, now: float) -> None:
        """Raises ProtocolViolation."""
        ...

    def next_message(self, budget_bytes: int) -> bytes | None: ...

    def tick(self, now: float) -> None:
        """About every second. Raises ProtocolViolation."""
        ...

    @property
    def wants_end(self) -> bool:
        """Whether all is said and the connection can be closed."""
        ...


class Napper(Peer, Protocol):
    def may_send(self) -> bool:
        """Whether it is worth to ask for a message; if not, the bell rings when it is."""
        ...


class Bell:
    """Wakes a loop up, from any thread."""

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)

    def fileno(self) -> int:
        return self._near.fileno()

    def ring(self) -> None:
        try:
            self._far.send(b"!")
        except OSError:
            pass  # it rings already, or nobody is there any more

    def quiet(self) -> None:
        try:
            self._near.recv(4096)
        except BlockingIOError:
            pass

    def close(self) -> None:
        self._near.close()
        self._far.close()


class Ended(NamedTuple):
    """Why a connection ended: "" where its owner wanted it. was_broken_off: by us, because the
    server broke the protocol or kept silent."""

    reason: str
    was_broken_off: bool


class Link:
    """A connection whose handshake is done."""

    def __init__(
        self, connection: socket.socket, websocket: "WebSocket", first: list[bytes]
    ) -> None:
        self._socket = connection
        self._websocket = websocket
        self._messages = deque(first)
        self._unsent: deque[memoryview] = deque()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._read_bytes = READ_BYTES
        self._message_bytes = LEAST_MESSAGE_BYTES
        self.handshake_s = 0.0
        """How long the server took to answer it: a round trip, and a little."""
        self._begun_at = 0.0  # when the message that is being sent was made
        connection.setblocking(False)

    def run(self, peer: Napper, bell: Bell, up: Pace, down: Pace) -> "Ended":
        """Move bytes until the end, and tell of it.

        The socket is closed then.
        """
        try:
            return Ended(self._run(peer, bell, up, down), False)
        except ProtocolViolation as error:
            self._websocket.close(error.close_code, error.reason)
            self._say_farewell()
            return Ended(error.reason, True)
        except OSError as error:
            return Ended(error.strerror or str(error), False)
        finally:
            self._socket.close()

    def _run(self, peer: Napper, bell: Bell, up: Pace, down: Pace) -> str:
        poll = select.poll()
        poll.register(bell, select.POLLIN)
        number = self._socket.fileno()
        has_output, ticked_at = True, time.monotonic()
        while True:
            now = time.monotonic()
            if now - ticked_at >= TICK_S:
                ticked_at, has_output = now, True
                peer.tick(now)
            if self._messages:
                while self._messages:
                    peer.message_came(self._messages.popleft(), now)
                has_output = peer.may_send()
            if self._websocket.is_over:
                farewell = self._websocket.farewell
                self._say_farewell()
                return farewell
            if not self._unsent and peer.wants_end:
                self._websocket.close()
                self._say_farewell()
                return ""
            up_s, down_s = up.wait_s(now), down.wait_s(now)
            mask = 0 if down_s else select.POLLIN
            mask |= select.POLLOUT if (has_output or self._unsent) and not up_s else 0
            poll.register(number, mask)
            waits = [TICK_S, *(wait_s for wait_s in (up_s, down_s) if wait_s)]
            found = poll.poll(min(waits) * 1000)
            has_output = has_output or not found
            for ready, what in found:
                if ready != number:
                    bell.quiet()
                    has_output = True
                    continue
                if what & ~select.POLLOUT and not down_s:
                    self._read(down)
                if what & select.POLLOUT:
                    has_output = self._write(peer, up)

    def _read(self, pace: Pace) -> None:
        try:
            if self._receive(pace, pace.step_bytes):
                # Of a large message the first bytes have come, most likely the others too.
                if self._websocket.room is not None:
                    self._receive(pace, pace.step_bytes)
                # What TLS has unpacked already is not seen by poll.
                while (left := _pending(self._socket)) > 0:
                    self._receive(pace, left)
        except OSError as error:
            if not _must_wait(error):
                raise
        self._unsent.extend(map(memoryview, self._websocket.output()))

    def _receive(self, pace: Pace, most_bytes: int) -> int:
        """Take bytes from the socket; how many came. A large message is read where it stays."""
        websocket, room = self._websocket, self._websocket.room
        if room is not None:
            size = self._socket.recv_into(room, min(len(room), most_bytes))
            came = websocket.filled(size)
        else:
            size = self._socket.recv_into(self._buffer, min(self._read_bytes, most_bytes))
            came = websocket.feed(self._buffer[:size])
        if came:
            is_large = len(came[-1]) >= LARGE_MESSAGE_BYTES
            self._read_bytes = HEAD_BYTES if is_large else READ_BYTES
            self._messages += came
        if size:
            pace.went(size, time.monotonic())
        return size

    def _write(self, peer: Napper, pace: Pace) -> bool:
        """Send what the socket takes; whether there may be more to send."""
        if not self._unsent:
            message = peer.next_message(min(pace.step_bytes, self._message_bytes))
            if message is None:
                return False
            self._begun_at = time.monotonic()
            self._websocket.send(message)
            self._unsent.extend(map(memoryview, self._websocket.output()))
        try:
            sent = _send(self._socket, self._unsent)
        except OSError as error:
            if _must_wait(error):
                return True
            raise
        now = time.monotonic()
        pace.went(sent, now)
        while self._unsent and sent >= len(self._unsent[0]):
            sent -= len(self._unsent.popleft())
        if self._unsent:
            self._unsent[0] = self._unsent[0][sent:]
            return True
        if now - self._begun_at < QUICK_S:
            self._message_bytes = min(2 * self._message_bytes, MOST_MESSAGE_BYTES)
        elif now - self._begun_at > SLOW_S:
            self._message_bytes = max(self._message_bytes // 2, LEAST_MESSAGE_BYTES)
        return peer.may_send()

    def _say_farewell(self) -> None:
        """Send the close, and wait a moment for its answer, so that nothing is cut off."""
        try:
            self._socket.settimeout(FAREWELL_S)
            self._unsent.extend(map(memoryview, self._websocket.output()))
            while self._unsent:
                self._socket.sendall(self._unsent.popleft())
            deadline = time.monotonic() + FAREWELL_S
            while time.monotonic() < deadline:
                size = self._socket.recv_into(self._buffer)
                self._websocket.feed(self._buffer[:size])
                if not size or self._websocket.has_farewell:
                    return
        except OSError:
            pass


def _send(connection: socket.socket, pieces: deque[memoryview]) -> int:
    """Give the system some of the pieces, in one call where it can take several."""
    if len(pieces) == 1 or hasattr(connection, "pending"):  # TLS has no call for several
        return connection.send(pieces[0])
    return connection.sendmsg(pieces)


def _pending(connection: socket.socket) -> int:
    pending = getattr(connection, "pending", None)
    return pending() if pending is not None else 0


def _must_wait(error: OSError) -> bool:
    """Whether the socket has to get ready first: poll tells when."""
    if isinstance(error, BlockingIOError):
        return True
    ssl = sys.modules.get("ssl")  # not imported where TLS is not in use
    return ssl is not None and isinstance(error, (ssl.SSLWantReadError, ssl.SSLWantWriteError))


def open_link(transport: "Transport", path: str, message_bytes: int = 0) -> Link:
    """Connect and shake hands. Raises Unavailable, Forbidden; Unsupported: no stream there."""
    from .websocket import WebSocket

    connection = transport.open_socket()
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if NOTSENT_LOWAT is not None:
            connection.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, UNSENT_BYTES)
        websocket = WebSocket(
            transport.address,
            path,
            transport.authorization,
            message_bytes or CLIENT_HELLO.message_bytes,
        )
        began = time.monotonic()
        for piece in websocket.output():
            connection.sendall(piece)
        messages: list[bytes] = []
        while not websocket.is_open:
            messages += websocket.feed(connection.recv(4096))
            if websocket.is_over:
                raise Unavailable("open stream to", transport.address, websocket.farewell)
        link = Link(connection, websocket, messages)
        link.handshake_s = time.monotonic() - began
        return link
    except StoreError:
        connection.close()
        raise
    except OSError as error:
        connection.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise Unavailable("open stream to", transport.address, reason) from None
    except BaseException:
        connection.close()
        raise
