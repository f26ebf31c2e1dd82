"""Peers that are slow or silent are cut off; those that are not, are not."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from peatkeep.blob import Ref
from peatkeep.server.config.record import Limits
from peatkeep.server.limits import protocol_class
from tests.waiting import GUARD_S, wait_until

from .running import RunningServer, running_server

SOON_S = 0.4
LOOK_S = 2.0
"""So long after a connection's start the server looks at it for the first time."""

PATIENT = Limits(
    header_wait_s=GUARD_S,
    idle_wait_s=GUARD_S,
    body_wait_s=GUARD_S,
    write_wait_s=GUARD_S,
    body_bytes_per_s=1000,
    header_bytes=4096,
    connections=20,
)
"""Each server below is strict about one thing alone, so that nothing else is late on a slow
machine."""

ESTABLISHED = "01"


@contextmanager
def limited(factory: pytest.TempPathFactory, **limits: float) -> Iterator[RunningServer]:
    folder = factory.mktemp("limits")
    with running_server(folder, limits=replace(PATIENT, **limits)) as running:  # type: ignore[arg-type]
        yield running


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with limited(tmp_path_factory) as server:
        yield server


@pytest.fixture(scope="module")
def wants_headers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with limited(tmp_path_factory, header_wait_s=SOON_S) as server:
        yield server


@pytest.fixture(scope="module")
def wants_bodies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with limited(tmp_path_factory, header_wait_s=LOOK_S, body_wait_s=SOON_S) as server:
        yield server


def connect(server: RunningServer) -> socket.socket:
    host, _, port = server.host.partition(":")
    return socket.create_connection((host, int(port)), timeout=GUARD_S)


def rest(peer: socket.socket) -> bytes:
    """What comes until the server closes; fails when it does not in time."""
    pieces = []
    try:
        while piece := peer.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def credentials(server: RunningServer) -> bytes:
    return f"Authorization: {server.headers['Authorization']}\r\n".encode()


def test_who_says_nothing_is_cut_off(wants_headers: RunningServer) -> None:
    with closing(connect(wants_headers)) as peer:
        assert b"408" in rest(peer)


def test_half_a_header_is_cut_off(wants_headers: RunningServer) -> None:
    with closing(connect(wants_headers)) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert rest(peer).startswith(b"HTTP/1.1 408 ")


def test_a_header_that_drips_in_is_cut_off(wants_headers: RunningServer) -> None:
    with closing(connect(wants_headers)) as peer:
        peer.settimeout(0.05)
        answer = b""
        deadline = time.monotonic() + GUARD_S
        while not answer and time.monotonic() < deadline:
            try:
                peer.sendall(b"G")
                answer = peer.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() < deadline


def test_half_a_header_after_a_good_request_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with (
        limited(tmp_path_factory, header_wait_s=LOOK_S) as server,
        closing(connect(server)) as peer,
    ):
        peer.sendall(b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\nGET /nope HTT")
        assert rest(peer).startswith(b"HTTP/1.1 404 ")


def test_half_a_body_is_cut_off(wants_bodies: RunningServer) -> None:
    ref = Ref.of(b"never whole")
    with closing(connect(wants_bodies)) as peer:
        head = f"PUT /bs/camli/{ref} HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n".encode()
        peer.sendall(head + credentials(wants_bodies) + b"\r\nnever")
        assert rest(peer).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_drips_in_is_cut_off(wants_bodies: RunningServer) -> None:
    ref = Ref.of(b"x" * 100_000)
    with closing(connect(wants_bodies)) as peer:
        head = f"PUT /bs/camli/{ref} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n".encode()
        peer.sendall(head + credentials(wants_bodies) + b"\r\n")
        peer.settimeout(0.05)
        deadline = time.monotonic() + GUARD_S
        answer = b""
        while not answer and time.monotonic() < deadline:
            try:
                peer.sendall(b"x")
                answer = peer.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() < deadline


def test_who_does_not_read_his_answer_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    data = bytes(16 * 1024 * 1024)
    with (
        limited(tmp_path_factory, header_wait_s=LOOK_S, write_wait_s=SOON_S) as server,
        closing(connect(server)) as peer,
    ):
        server.upload("/bs/", data)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.sendall(
            f"GET /bs/camli/{Ref.of(data)} HTTP/1.1\r\nHost: x\r\n".encode()
            + credentials(server)
            + b"\r\n"
        )
        wait_until_alone(peer)


def wait_until_alone(peer: socket.socket) -> None:
    """Until the server has given its end of this connection up, as the kernel sees it."""
    port = f":{peer.getsockname()[1]:04X}"

    def is_alone() -> bool:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return not any(row[2].endswith(port) and row[3] == ESTABLISHED for row in rows)

    wait_until(is_alone)


def test_a_header_that_is_too_large_is_refused(patient: RunningServer) -> None:
    with closing(connect(patient)) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 5000)
        assert rest(peer).startswith(b"HTTP/1.1 431 ")


def test_a_kept_connection_is_closed_when_idle(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        limited(tmp_path_factory, idle_wait_s=SOON_S) as server,
        closing(connect(server)) as peer,
    ):
        peer.sendall(b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = rest(peer)
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"408" not in answer


def test_more_connections_than_the_limit_are_refused(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(limited(tmp_path_factory, connections=5))
        peers = [stack.enter_context(closing(connect(server))) for _ in range(8)]
        assert all(rest(peer).startswith(b"HTTP/1.1 503 ") for peer in peers[5:])


def test_a_long_poll_is_not_cut_off(tmp_path_factory: pytest.TempPathFactory) -> None:
    strict = {"header_wait_s": 1.0, "idle_wait_s": 0.1, "body_wait_s": 0.1, "write_wait_s": 0.1}
    with limited(tmp_path_factory, **strict) as server:
        fields = f"camliversion=1&maxwaitsec=2&blob1={Ref.of(b'absent')}"
        reply = server.form("/bs/camli/stat", fields)
        assert (reply.status, reply.json["stat"]) == (200, [])


def test_others_are_served_while_many_say_nothing(patient: RunningServer) -> None:
    silent = [connect(patient) for _ in range(10)]
    try:
        assert patient.ask("GET", "/nope").status == 404
    finally:
        for peer in silent:
            peer.close()


def test_garbage_is_refused(patient: RunningServer) -> None:
    with closing(connect(patient)) as peer:
        peer.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10)
        assert rest(peer).startswith(b"HTTP/1.1 400 ")


# -- with a clock of our own ----------------------------------------------------------------------


class Clock(asyncio.SelectorEventLoop):
    """A loop in which time passes when it is told to."""

    now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def pass_time(self, wait_s: float) -> None:
        self.now_s += wait_s
        for _ in range(5):  # timers first, then what they began
            self.run_until_complete(asyncio.sleep(0))


class Wire(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = self.is_paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Upload:
    """A connection on which a PUT has begun, to a store that reads when it is told to."""

    def __init__(self, size_bytes: int) -> None:
        self.clock = Clock()
        self.wire = Wire()
        self.store_reads = asyncio.Event()
        self.store_reads.set()
        limits = replace(PATIENT, header_wait_s=SOON_S, body_wait_s=SOON_S)
        settings = uvicorn.Config(self._store, interface="asgi3", ws="none", log_config=None)
        self._peer = protocol_class(limits)(settings, ServerState(), {}, self.clock)
        self._peer.connection_made(self.wire)
        self.send(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size_bytes)

    async def _store(self, _scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            await self.store_reads.wait()
            more = (await receive())["more_body"]
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def send(self, data: bytes, wait_s: float = 0) -> None:
        """Let bytes come, then time pass."""
        self._peer.data_received(data)
        self.clock.pass_time(wait_s)

    def end(self) -> bytes:
        """What the peer has been told."""
        self._peer.connection_lost(None)
        self.clock.pass_time(0)
        self.clock.close()
        return self.wire.written


def test_a_slow_body_that_keeps_the_pace_is_taken() -> None:
    upload = Upload(6000)
    for _ in range(20):
        upload.send(bytes(300), SOON_S / 2)
    assert upload.end().startswith(b"HTTP/1.1 204 ")


def test_a_body_that_falls_behind_is_cut_off() -> None:
    upload = Upload(6000)
    for _ in range(20):
        upload.send(bytes(100), SOON_S / 2)
        if upload.wire.is_closed:
            break
    assert upload.end().startswith(b"HTTP/1.1 408 ")


def test_a_slow_store_is_not_held_against_the_sender() -> None:
    upload = Upload(200_000)
    upload.store_reads.clear()
    upload.send(bytes(100_000), SOON_S)
    assert upload.wire.is_paused
    upload.clock.pass_time(100 * SOON_S)
    upload.store_reads.set()
    upload.clock.pass_time(0)
    assert not upload.wire.is_paused
    upload.clock.pass_time(SOON_S / 2)
    upload.send(bytes(100_000))
    assert upload.end().startswith(b"HTTP/1.1 204 ")
