"""The stream and peers that do not behave, servers that end or die, stores that hang."""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from peatkeep.blob import Ref
from peatkeep.blobserver.wire import Code, Hello, Violation, events
from peatkeep.server import serve, stream, streamput
from peatkeep.server.ahead import AHEAD_BYTES
from peatkeep.server.streamput import Taken
from tests.e2e.machine import Machine
from tests.waiting import GUARD_S, wait_until

from .running import RunningServer, running_server
from .stored import put, store_of
from .streaming import BIG_HELLO, StreamClient, streaming, streaming_to, streams_of


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends gives its peers all the time they need."""
    monkeypatch.setattr(serve, "SHUTDOWN_WAIT_S", GUARD_S)


@pytest.fixture
def ending(tmp_path: Path) -> Iterator[tuple[RunningServer, threading.Thread]]:
    """A server, and the thread that ends it once it is started."""
    stack = contextlib.ExitStack()
    server = stack.enter_context(running_server(tmp_path / "server"))
    thread = threading.Thread(target=stack.close)
    yield server, thread
    if thread.ident is None:
        thread.start()
    thread.join()


@pytest.fixture(scope="module")
def refs(server: RunningServer) -> list[Ref]:
    """40 MB of blobs."""
    return [put(store_of(server), os.urandom(1_000_000)) for _ in range(40)]


# -- peers ----------------------------------------------------------------------------------------


def test_a_peer_that_does_not_read_costs_little_memory(
    server: RunningServer, refs: list[Ref]
) -> None:
    with streaming(server, BIG_HELLO, max_queue=1, close_timeout=0.1) as client:
        streams = streams_of(server)
        for priority in (0, 1, 2):
            client.machine.fetch(refs, priority=priority)
        client.send()
        (connection,) = streams._connections
        machine, reading = connection._machine, connection._reading
        wait_until(lambda: not connection._socket.is_writable and not any(reading._is_flying))
        # One page and what the last blob went over it, in each class.
        assert all(AHEAD_BYTES - machine.room(each) < 3 * AHEAD_BYTES for each in (0, 1, 2))
        assert connection._socket.unsent_bytes < 2 * stream.BUFFER_BYTES
        # Others do not notice.
        with streaming(server) as other:
            assert other.settle(other.put(b"meanwhile")).popitem()[1] is None
    wait_until(lambda: not streams._connections)


def test_a_peer_that_takes_nothing_is_cut_off(
    server: RunningServer, refs: list[Ref], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "WRITE_WAIT_S", 0.5)
    with streaming(server, BIG_HELLO, max_queue=1, close_timeout=0.1) as client:
        client.machine.fetch(refs)
        client.send()
        wait_until(lambda: not streams_of(server)._connections)


def test_a_silent_peer_is_given_up(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 1)
    with streaming(server) as client:
        client.send()
        assert client.closed() == Violation.SILENCE


def test_the_server_is_heard_of_as_often_as_its_peer_wants(server: RunningServer) -> None:
    with streaming(server, Hello(heartbeat_s=1)) as client:
        client.send()
        messages = [client.socket.recv(timeout=GUARD_S) for _ in range(3)]
    ping = b"\x02\x00" + bytes(4)
    assert all(isinstance(message, bytes) for message in messages)
    assert sum(ping in bytes(m) for m in messages if isinstance(m, bytes)) >= 2


def test_a_peer_that_goes_in_the_middle_of_a_blob_leaves_nothing_behind(
    server: RunningServer,
) -> None:
    data = os.urandom(900_000)
    with streaming(server) as client:
        client.put(data)
        for _ in range(4):  # of more than seven
            message = client.machine.next_message()
            assert message is not None
            client.socket.send(message)
        client.socket.socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: not streams_of(server)._connections)
    with streaming(server) as client:
        asked = client.machine.stat([Ref.of(data)])
        assert client.answers(asked) == [events.Sizes(asked, 0, [None], True)]


def test_what_had_come_before_a_cut_is_kept(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streamput, "NO_RUSH_S", 600)
    data = os.urandom(1000)
    with streaming(server) as client:
        client.put(data, no_rush=True)
        client.answers(client.machine.stat([Ref.of(data)]))  # so it has come
        client.socket.socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: server.ask("GET", f"/bs/camli/{Ref.of(data)}").body == data)


def test_many_idle_connections_share_what_a_few_may_take(server: RunningServer) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(streaming(server)) for _ in range(100)]
        for client in clients:
            client.run(lambda event: isinstance(event, events.Welcome))
        assert clients[0].machine.peer.window == stream.WINDOW_BYTES
        assert clients[-1].machine.peer.window == stream.LEAST_WINDOW_BYTES
        assert clients[-1].settle(clients[-1].put(os.urandom(2_000_000))).popitem()[1] is None
    wait_until(lambda: not streams_of(server)._connections)


# -- the server ends ------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
def test_a_server_that_ends_finishes_what_has_come(
    ending: tuple[RunningServer, threading.Thread],
) -> None:
    server, end = ending
    with streaming(server) as client:
        requests = client.put(os.urandom(100_000), os.urandom(100_000), no_rush=True)
        client.machine.subscribe(1)
        client.run(lambda event: isinstance(event, events.Arrived))
        end.start()
        assert client.closed() == 1000
    stored = {r for e in client.events if isinstance(e, events.Stored) for r in e.requests}
    assert stored == set(requests)
    assert any(isinstance(event, events.Leaving) for event in client.events)
    assert any(isinstance(event, events.Done) for event in client.events)


def test_an_idle_connection_does_not_hold_up_the_end(
    ending: tuple[RunningServer, threading.Thread],
) -> None:
    server, end = ending
    with streaming(server) as client:
        client.run(lambda event: isinstance(event, events.Welcome))
        end.start()
        assert client.closed() == 1000


def test_what_a_hanging_store_does_not_finish_is_refused(
    ending: tuple[RunningServer, threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, end = ending
    goes_on = threading.Event()

    def hang(_: object, puts: list[events.Put], *_ahead: object) -> Taken:
        goes_on.wait(GUARD_S)
        return Taken([put.request for put in puts], [])

    monkeypatch.setattr(streamput, "take", hang)
    try:
        with streaming(server) as client:
            (request,) = client.put(b"never stored")
            client.send()
            client.receive()
            end.start()
            assert client.closed() == 1000
    finally:
        goes_on.set()
    failed = next(event for event in client.events if isinstance(event, events.Failed))
    assert (failed.request, failed.code) == (request, Code.UNAVAILABLE)


@pytest.mark.usefixtures("patient")
def test_an_upload_that_is_not_whole_at_the_end_is_refused(
    ending: tuple[RunningServer, threading.Thread],
) -> None:
    server, end = ending
    with streaming(server) as client:
        (request,) = client.put(os.urandom(900_000))
        for _ in range(4):  # of more than seven
            message = client.machine.next_message()
            assert message is not None
            client.socket.send(message)
        client.machine.stat([Ref.of(b"asked behind it")])
        asked = client.machine.next_message(1)  # and hardly any more of the blob
        assert asked is not None
        client.socket.send(asked)
        while not any(isinstance(event, events.Sizes) for event in client.events):
            client.receive()
        end.start()
        client.closed()
    failed = next(event for event in client.events if isinstance(event, events.Failed))
    assert (failed.request, failed.code) == (request, Code.UNAVAILABLE)


@pytest.mark.usefixtures("patient")
def test_after_its_goodbye_a_server_refuses_new_questions(
    ending: tuple[RunningServer, threading.Thread], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, end = ending
    goes_on = threading.Event()
    take = streamput.take

    def hang(*arguments: object) -> Taken:
        goes_on.wait(GUARD_S)
        return take(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(streamput, "take", hang)
    with streaming(server) as client:
        requests = client.put(b"stored slowly")
        client.send()
        # It asks before it has heard of the goodbye.
        end.start()
        wait_until(lambda: next(iter(streams_of(server)._connections))._machine.leaves)
        asked = client.machine.stat([Ref.of(b"x")])
        client.send()
        (failed,) = client.answers(asked)
        assert isinstance(failed, events.Failed)
        assert failed.code == Code.UNAVAILABLE
        goes_on.set()
        assert client.closed() == 1000
    stored = {r for e in client.events if isinstance(e, events.Stored) for r in e.requests}
    assert stored == set(requests)


# -- the server dies ------------------------------------------------------------------------------


def acknowledged(client: StreamClient, blobs: dict[int, bytes]) -> Iterator[bytes]:
    """Put blobs without end; yield each that is acknowledged."""
    number = 0
    while True:
        while client.machine.room > 0 and len(blobs) < 500:
            number += 1
            data = os.urandom(100 + number * 37 % 70_000)
            is_chunk = number % 5 > 0
            request = client.machine.put(Ref.of(data), data, no_rush=is_chunk)
            blobs[request] = data
        client.send()
        for event in client.receive():
            if isinstance(event, events.Stored):
                yield from (blobs.pop(request) for request in event.requests)


def test_what_was_acknowledged_is_there_after_a_kill(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    stored: list[bytes] = []
    for count in (30, 200):
        server = machine.start_server()
        config = machine.home / ".config" / "peatkeep" / "client-config.json"
        auth = next(iter(json.loads(config.read_text())["servers"].values()))["auth"]
        url = server.url.replace("http://", "ws://") + "/bs-and-maybe-also-index/camli/stream"
        password = auth.removeprefix("userpass:").partition(":+")[0]
        with contextlib.suppress(ConnectionClosed), streaming_to(url, password) as client:
            for data in acknowledged(client, {}):
                stored.append(data)
                if len(stored) == count:
                    server.kill()
    server = machine.start_server()
    try:
        url = server.url.replace("http://", "ws://") + "/bs-and-maybe-also-index/camli/stream"
        with streaming_to(url, password) as client:
            for begin in range(0, len(stored), 100):
                part = stored[begin : begin + 100]
                answers = client.answers(client.machine.fetch([Ref.of(data) for data in part]))
                blobs = [answer for answer in answers if isinstance(answer, events.Blob)]
                assert [blob.data for blob in sorted(blobs, key=lambda b: b.item)] == part
    finally:
        server.stop()
    assert len(stored) >= 200
