"""A client of the stream for tests: the client machine over a websocket, one message at a time."""

import base64
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from peatkeep.blob import Ref
from peatkeep.blobserver.wire import ClientMachine, Hello, events
from peatkeep.server.stream import Streams
from tests.waiting import GUARD_S

from .running import RunningServer

PLACE = "/bs-and-maybe-also-index/camli/stream"
BIG_HELLO = Hello(window=64 * 1024 * 1024)


class StreamClient:
    """Moves messages until what a test waits for has come. `events` keeps all that came."""

    def __init__(self, socket: ClientConnection, hello: Hello) -> None:
        self.socket = socket
        self.machine = ClientMachine(time.monotonic(), hello)
        self.events: list[events.Event] = []

    def send(self) -> None:
        while (message := self.machine.next_message()) is not None:
            self.socket.send(message)

    def receive(self, wait_s: float = GUARD_S) -> list[events.Event]:
        """The events of the next message."""
        message = self.socket.recv(timeout=wait_s)
        assert isinstance(message, bytes)
        came = self.machine.receive(message, time.monotonic())
        for event in came:
            if isinstance(event, events.Blob):
                self.machine.release(event)
        self.events += came
        return came

    def run(self, until: Callable[[events.Event], bool]) -> list[events.Event]:
        """Go on until such an event has come; returns all of these turns."""
        came: list[events.Event] = []
        while True:
            self.send()
            came += self.receive()
            if any(until(event) for event in came):
                self.send()
                return came

    def answers(self, request: int) -> list[events.Event]:
        """All events of a question, to its end."""

        def is_last(event: events.Event) -> bool:
            if isinstance(event, events.Failed):
                return event.request == request and event.item is None
            if isinstance(event, events.Sizes):
                return event.request == request and event.last
            return isinstance(event, events.Done) and event.request == request

        came = self.run(is_last)
        return [event for event in came if getattr(event, "request", None) == request]

    def put(self, *blobs: bytes, no_rush: bool = False) -> list[int]:
        return [self.machine.put(Ref.of(data), data, no_rush=no_rush) for data in blobs]

    def settle(self, requests: list[int]) -> dict[int, events.Failed | None]:
        """What became of uploads: None for stored, else the error."""
        left, found = set(requests), dict[int, events.Failed | None]()

        def note(event: events.Event) -> bool:
            if isinstance(event, events.Stored):
                found.update(dict.fromkeys(event.requests))
            elif isinstance(event, events.Failed) and event.item is None:
                found[event.request] = event
            return left <= found.keys()

        self.run(note)
        return {request: found[request] for request in requests}

    def closed(self) -> int:
        """Read to the end; the code with which the server closed, 0 where it just went."""
        try:
            while True:
                self.receive()
        except ConnectionClosed as error:
            return error.rcvd.code if error.rcvd is not None else 0


@contextlib.contextmanager
def streaming_to(
    url: str, auth: str, hello: Hello = BIG_HELLO, **settings: Any
) -> Iterator[StreamClient]:
    """A stream to a websocket's address. auth: name and password, or "" for none."""
    token = base64.b64encode(auth.encode()).decode()
    with connect(
        url,
        compression=None,
        proxy=None,
        max_size=None,
        open_timeout=GUARD_S,
        ping_interval=None,
        additional_headers={"Authorization": f"Basic {token}"} if auth else {},
        **settings,
    ) as socket:
        yield StreamClient(socket, hello)


@contextlib.contextmanager
def streaming(
    server: RunningServer,
    hello: Hello = BIG_HELLO,
    *,
    auth: str = "alice:secret",
    place: str = PLACE,
    **settings: Any,
) -> Iterator[StreamClient]:
    with streaming_to(f"ws://{server.host}{place}", auth, hello, **settings) as client:
        yield client


def streams_of(server: RunningServer, place: str = PLACE) -> Streams:
    """The inside of a server's streams."""
    mount = server.service.app.table.mount_of(place)
    assert mount is not None
    route = next(route for route in mount.routes if route.path == "stream")
    streams: Streams = route.handler.__self__  # type: ignore[attr-defined]
    return streams
