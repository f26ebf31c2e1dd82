"""The server's end of the stream: uploads and fetches over one websocket (server/README.md).

The event loop moves messages between the socket and the machine (pkg/blobserver/STREAM.md) and
nothing else: what blocks is done by the bridge, a batch or a page in each hop.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from ..blobserver.storage import Storage
from ..blobserver.wire import (
    FEATURE_BLOBS,
    FEATURE_CHANGES,
    FEATURE_ZSTD,
    Code,
    Hello,
    ProtocolViolation,
    Refusal,
    ServerMachine,
    events,
)
from .ahead import AHEAD_BYTES, Budget, Ramp
from .answers import HttpError
from .auth import Auth, Right
from .bridge import Bridge
from .routes import GET, Route
from .sockets import NO_HANDSHAKE, VERSION_HEADER, LimitedSocket, socket_of
from .streamcodes import Failure
from .streamfollow import Follower, refusal
from .streamget import FetchJob, FileJob, Packer, StatJob
from .streamlog import Logs
from .streamput import Putting
from .streamread import Reading

log = logging.getLogger("peatkeep.server.stream")

WORD: Final = "stream-1"
"""By which discovery announces it."""

WINDOW_BYTES: Final = 4 * 1024 * 1024
LEAST_WINDOW_BYTES: Final = 1024 * 1024
ALL_WINDOWS_BYTES: Final = 64 * 1024 * 1024
"""The windows of all connections together, as long as none is below the least."""

MESSAGE_BYTES: Final = 1024 * 1024
REQUESTS: Final = 64
ITEMS: Final = 1000
HEARTBEAT_S: Final = 20

READ_BYTES: Final = 512 * 1024
"""What is read at a time."""

BUFFER_BYTES: Final = 64 * 1024
"""What is given to the socket before it is taken; the rest waits where it can be overtaken."""

WRITTEN_AT_ONCE_BYTES: Final = 520 * 1024
"""The largest message: blobs up to where it is full, a piece of one more, and heads."""

WRITTEN_SLOWLY_BYTES: Final = 136 * 1024
QUICK_S: Final = 0.005
"""A message is as large as the peer takes in this time, but not below the size before: nothing
overtakes what is in it."""

LEAST_WRITTEN_BYTES: Final = 16 * 1024
"""The first message, until it has shown that the peer takes them."""

TICK_S: Final = 1.0
WRITE_WAIT_S: Final = 60
"""How long a peer may take nothing of what was written."""

END_WAIT_S: Final = 1.5
"""What runs may go on for so long when the server ends; then it is refused. Below the time that
`serve.py` grants."""

LAST_WAIT_S: Final = 0.3
"""Then the connection of who did not answer the close is cut."""

NOT_UNDERSTOOD: Final = 1003  # RFC 6455, 7.4.1: a kind of data that it can't accept
SERVER_ENDS: Final = 1001

NO_UPLOADS: Final = Refusal(Code.FORBIDDEN, "no right to upload")
FOREIGN: Final = HttpError(403, f"Forbidden\n{NO_HANDSHAKE}", headers=VERSION_HEADER)


class Rights(NamedTuple):
    """What a client may do beyond reading what it can name."""

    may_upload: bool
    may_enumerate: bool


class Streams:
    """The streams to one storage prefix."""

    def __init__(
        self, storage: Storage, bridge: Bridge, budget: Budget, auth: Auth, logs: Logs
    ) -> None:
        self.storage: Final = storage
        self.bridge: Final = bridge
        self.budget: Final = budget
        self.logs: Final = logs
        self.into: Final = memoryview(bytearray(READ_BYTES))
        self._auth = auth
        self._connections: set[Connection] = set()
        self._ticking: asyncio.Task[None] | None = None

    @property
    def routes(self) -> Sequence[Route]:
        needed = Right.STAT | Right.GET
        return (Route(GET, "stream", needed, self.converse, foreign=FOREIGN),)

    async def converse(self, request: Request) -> Response:
        """Open a stream; whoever gets here without a socket sent no sound handshake."""
        if not request.scope.get("is_socket"):
            headers = VERSION_HEADER if "upgrade" in request.headers else None
            raise HttpError(400, f"Bad Request\n{NO_HANDSHAKE}", headers=headers)
        rights = Rights(
            self._auth.allows(request, Right.UPLOAD), self._auth.allows(request, Right.ENUMERATE)
        )
        return _Conversation(self, rights)

    def hello(self, rights: "Rights") -> Hello:
        """What a new connection is granted: the more there are, the smaller its window."""
        share = ALL_WINDOWS_BYTES // (len(self._connections) + 1)
        features = FEATURE_ZSTD
        if rights.may_enumerate:
            features |= FEATURE_BLOBS | (FEATURE_CHANGES if self.logs.has_changes else 0)
        return Hello(
            features=features,
            window=max(LEAST_WINDOW_BYTES, min(share, WINDOW_BYTES)),
            message_bytes=MESSAGE_BYTES,
            requests=REQUESTS,
            items=ITEMS,
            heartbeat_s=HEARTBEAT_S,
            name="peatkeep",
        )

    def add(self, connection: "Connection") -> None:
        self._connections.add(connection)
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().create_task(self._tick())

    def remove(self, connection: "Connection") -> None:
        self._connections.discard(connection)

    async def _tick(self) -> None:
        """One clock for all, that an idle connection costs next to nothing."""
        while self._connections:
            await asyncio.sleep(TICK_S)
            for connection in list(self._connections):
                connection.tick()
        self._ticking = None


class _Conversation(Response):
    """An answer that is a stream."""

    def __init__(self, streams: Streams, rights: Rights) -> None:
        super().__init__()
        self._streams = streams
        self._rights = rights

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = socket_of(scope)
        await WebSocket(scope, receive, send).accept()
        connection = Connection(self._streams, socket, self._rights)
        try:
            socket.hand_over(connection, MESSAGE_BYTES, BUFFER_BYTES, self._streams.into)
            connection.pump()
            await connection.gone
        finally:
            connection.was_lost()


class Connection:
    """One client. Everything here runs in the event loop's thread and returns at once."""

    def __init__(self, streams: Streams, socket: LimitedSocket, rights: Rights) -> None:
        self._rights = rights
        self._loop = asyncio.get_running_loop()
        self._streams = streams
        self._socket = socket
        self.gone: Final[asyncio.Future[None]] = self._loop.create_future()
        self._machine = ServerMachine(
            streams.hello(rights),
            self._loop.time(),
            ahead_bytes=AHEAD_BYTES,
            refusal=None if rights.may_upload else NO_UPLOADS,
        )
        storage, bridge = streams.storage, streams.bridge
        self._putting = Putting(self._machine, storage, bridge, self.pump)
        self._reading = Reading(self._machine, bridge, streams.budget, self.pump)
        self._packer = Packer(packs=False)
        self._followers: dict[int, Follower] = {}
        self._end_timer: asyncio.TimerHandle | None = None
        self._write_ramp = Ramp(LEAST_WRITTEN_BYTES)
        self._message_bytes = LEAST_WRITTEN_BYTES
        self._most_bytes = WRITTEN_AT_ONCE_BYTES
        self._written_bytes, self._written_at = 0, 0.0  # the last message
        self._unsent_bytes = 0
        self._unsent_since = 0.0
        streams.add(self)

    # -- the socket -----------------------------------------------------------------------------

    def message_came(self, message: bytes) -> None:
        try:
            came = self._machine.receive(message, self._loop.time())
        except ProtocolViolation as violation:
            self._refuse(violation.close_code, violation.reason)
            return
        for event in came:
            self._deal_with(event)
        if came:
            self._putting.go()
        self.pump()

    def text_came(self) -> None:
        self._refuse(NOT_UNDERSTOOD, "every message is binary")

    def may_write(self) -> None:
        taken_s = self._loop.time() - self._written_at
        if taken_s > 0:
            quick_bytes = int(self._written_bytes * QUICK_S / taken_s)
            self._most_bytes = max(WRITTEN_SLOWLY_BYTES, min(quick_bytes, WRITTEN_AT_ONCE_BYTES))
        self.pump()

    def was_lost(self) -> None:
        if self.gone.done():
            return
        self.gone.set_result(None)
        self._stop_work()
        if self._end_timer is not None:
            self._end_timer.cancel()
        self._streams.remove(self)
        if self._socket.is_open:
            self._socket.abort()

    def server_ends(self) -> None:
        self._machine.goodbye(0, "the server ends")
        self._end_timer = self._loop.call_later(END_WAIT_S, self._refuse_the_rest)
        self.pump()

    # -- what has come --------------------------------------------------------------------------

    def _deal_with(self, event: events.Event) -> None:
        storage = self._streams.storage
        match event:
            case events.Put():
                self._putting.add(event)
            case events.Fetch():
                self._reading.add(FetchJob(event, storage, self._packer))
            case events.Stat():
                self._reading.add(StatJob(event, storage))
            case events.ReadFile():
                self._reading.add(FileJob(event, storage, self._packer))
            case events.Subscribe():
                self._follow(event)
            case events.Stop(request, refs):
                self._reading.stop(request, refs)
                if request in self._followers:
                    self._followers.pop(request).close()
            case events.Welcome(hello):
                self._packer = Packer(packs=bool(hello.features & FEATURE_ZSTD))
            case _:
                pass  # Leaving: the machine knows

    def _follow(self, asked: events.Subscribe) -> None:
        streams, may_enumerate = self._streams, self._rights.may_enumerate
        refused = refusal(asked.topics, streams.logs, may_enumerate=may_enumerate)
        if refused is not None:
            self._machine.error(asked.request, *refused)
            return

        def ended(follower: Follower) -> None:
            if self._followers.get(asked.request) is follower:
                del self._followers[asked.request]

        self._followers[asked.request] = Follower(
            asked, self._machine, streams.storage, streams.bridge, streams.logs, self.pump, ended
        )

    # -- what is sent ---------------------------------------------------------------------------

    def pump(self) -> None:
        """Send what may be sent, and read on for those who have taken it."""
        machine, socket = self._machine, self._socket
        while socket.is_writable:
            pieces = machine.next_pieces(self._message_bytes)
            if not pieces:
                break
            self._written_bytes = socket.write_message(pieces)
            self._written_at = self._loop.time()
            if self._written_bytes >= self._message_bytes // 2:
                self._message_bytes = self._write_ramp.next(self._most_bytes)
        for follower in self._followers.values():
            follower.drained()
        self._reading.go(is_stuck=not socket.is_writable)
        if machine.is_finished:
            socket.end(1000, "")

    def _refuse(self, code: int, reason: str) -> None:
        """Break the connection off: the peer does not keep to the protocol."""
        log.debug("stream: closed with %d: %s", code, reason)
        self._socket.end(code, reason)
        self._stop_work()

    def _stop_work(self) -> None:
        self._putting.close()
        self._reading.close()
        for follower in self._followers.values():
            follower.close()
        self._followers.clear()

    def _refuse_the_rest(self) -> None:
        """The time is up: what is not done is answered so."""
        told = Failure(Code.UNAVAILABLE, "the server ends")
        self._putting.close(told)
        for request in self._reading.running:
            self._machine.error(request, *told)
        self._stop_work()
        self.pump()
        self._socket.end(SERVER_ENDS, "the server ends")
        self._end_timer = self._loop.call_later(LAST_WAIT_S, self._socket.abort)

    # -- time -----------------------------------------------------------------------------------

    def tick(self) -> None:
        """Once a second: heartbeats, and peers that take nothing."""
        now = self._loop.time()
        try:
            self._machine.tick(now)
        except ProtocolViolation as violation:
            self._refuse(violation.close_code, violation.reason)
            self._socket.abort()
            return
        unsent_bytes = self._socket.unsent_bytes
        if not unsent_bytes or unsent_bytes != self._unsent_bytes:
            self._unsent_since = now
        self._unsent_bytes = unsent_bytes
        if now - self._unsent_since > WRITE_WAIT_S:
            self._socket.abort()
            return
        self.pump()
