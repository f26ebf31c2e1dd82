"""Peers that are slow or silent are cut off; those that are not, are not."""

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.server.config.record import Limits

from .running import RunningServer, running_server

SOON = Limits(
    header_wait_s=0.4,
    idle_wait_s=0.4,
    body_wait_s=0.4,
    write_wait_s=0.4,
    body_bytes_per_s=1000,
    header_bytes=4096,
    connections=20,
)
PATIENCE_S = 10
ESTABLISHED = "01"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("limits"), limits=SOON) as running:
        yield running


def connect(server: RunningServer) -> socket.socket:
    host, _, port = server.host.partition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


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


def test_who_says_nothing_is_cut_off(server: RunningServer) -> None:
    with closing(connect(server)) as peer:
        assert b"408" in rest(peer)


def test_half_a_header_is_cut_off(server: RunningServer) -> None:
    with closing(connect(server)) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert rest(peer).startswith(b"HTTP/1.1 408 ")


def test_a_header_that_drips_in_is_cut_off(server: RunningServer) -> None:
    with closing(connect(server)) as peer:
        peer.settimeout(0.05)
        answer = b""
        deadline = time.monotonic() + PATIENCE_S
        while not answer and time.monotonic() < deadline:
            try:
                peer.sendall(b"G")
                answer = peer.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() < deadline


def test_half_a_header_after_a_good_request_is_cut_off(server: RunningServer) -> None:
    with closing(connect(server)) as peer:
        peer.sendall(b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\nGET /nope HTT")
        assert rest(peer).startswith(b"HTTP/1.1 404 ")


def test_half_a_body_is_cut_off(server: RunningServer) -> None:
    ref = Ref.of(b"never whole")
    with closing(connect(server)) as peer:
        head = f"PUT /bs/camli/{ref} HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n".encode()
        peer.sendall(head + credentials(server) + b"\r\nnever")
        assert rest(peer).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_drips_in_is_cut_off(server: RunningServer) -> None:
    ref = Ref.of(b"x" * 100_000)
    with closing(connect(server)) as peer:
        head = f"PUT /bs/camli/{ref} HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n".encode()
        peer.sendall(head + credentials(server) + b"\r\n")
        peer.settimeout(0.05)
        deadline = time.monotonic() + PATIENCE_S
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


def test_who_does_not_read_his_answer_is_cut_off(server: RunningServer) -> None:
    data = bytes(16 * 1024 * 1024)
    server.upload("/bs/", data)
    with closing(connect(server)) as peer:
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
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        if not any(row[2].endswith(port) and row[3] == ESTABLISHED for row in rows):
            return
        time.sleep(0.05)
    raise AssertionError("still connected")


def test_a_header_that_is_too_large_is_refused(server: RunningServer) -> None:
    with closing(connect(server)) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 5000)
        assert rest(peer).startswith(b"HTTP/1.1 431 ")


def test_a_kept_connection_is_closed_when_idle(server: RunningServer) -> None:
    with closing(connect(server)) as peer:
        peer.sendall(b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = rest(peer)
        assert answer.startswith(b"HTTP/1.1 404 ")
        assert b"408" not in answer


def test_more_connections_than_the_limit_are_refused(server: RunningServer) -> None:
    peers = [connect(server) for _ in range(SOON.connections + 5)]
    try:
        answers = [rest(peer) for peer in peers]
    finally:
        for peer in peers:
            peer.close()
    assert any(answer.startswith(b"HTTP/1.1 503 ") for answer in answers)


def test_a_long_poll_is_not_cut_off(server: RunningServer) -> None:
    fields = f"camliversion=1&maxwaitsec=2&blob1={Ref.of(b'absent')}"
    reply = server.form("/bs/camli/stat", fields)
    assert (reply.status, reply.json["stat"]) == (200, [])


def test_a_slow_body_that_keeps_the_pace_is_taken(server: RunningServer) -> None:
    data = bytes(6000)
    ref = Ref.of(data)
    with closing(connect(server)) as peer:
        head = f"PUT /bs/camli/{ref} HTTP/1.1\r\nHost: x\r\nContent-Length: 6000\r\n".encode()
        peer.sendall(head + credentials(server) + b"Connection: close\r\n\r\n")
        for start in range(0, 6000, 600):
            peer.sendall(data[start : start + 600])
            time.sleep(0.1)
        assert rest(peer).startswith(b"HTTP/1.1 204 ")


def test_a_slow_store_is_not_held_against_the_sender(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = server.service.world.topology.storage("/bs/").inner
    receive_many = store.receive_many

    def slowly(blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        time.sleep(3 * SOON.body_wait_s)
        return receive_many(blobs)

    monkeypatch.setattr(store, "receive_many", slowly)
    blobs = [bytes([number]) * (9 * 1024 * 1024) for number in range(4)]
    reply = server.upload("/bs/", *blobs)
    assert len(reply.json["received"]) == len(blobs)


def test_others_are_served_while_many_say_nothing(server: RunningServer) -> None:
    silent = [connect(server) for _ in range(10)]
    try:
        assert server.ask("GET", "/nope").status == 404
    finally:
        for peer in silent:
            peer.close()


def test_garbage_is_refused(server: RunningServer) -> None:
    with closing(connect(server)) as peer:
        peer.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10)
        assert rest(peer).startswith(b"HTTP/1.1 400 ")
