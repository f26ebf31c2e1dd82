"""The server as a process: its socket, signals, and end."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.errors import ConfigError, Unavailable
from peatkeep.server.serve import address_text, listen_on
from tests.waiting import GUARD_S, free_port, wait_until

from .running import high_level

PROGRAM = """
import json, os, sys
from peatkeep.server import blobs, serve
from peatkeep.server.config import load
from peatkeep.server.config.prepare import make_folders
blobs.MAX_WAIT_S = 3600
serve.SHUTDOWN_WAIT_S = float(sys.argv[2])
config = load.from_values(json.loads(sys.argv[1]), os.environ)
make_folders(config)
sys.exit(serve.serve(config, ready=lambda url: print(url, flush=True)))
"""


@contextmanager
def program(
    folder: Path, shutdown_wait_s: float = 2, **changes: object
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The server as a program of its own, and its URL."""
    values = json.dumps(high_level(folder, **changes))
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, values, str(shutdown_wait_s)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "USER": "tester"},
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def connect(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(url.removeprefix("http://"), timeout=GUARD_S)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_in_order(tmp_path: Path, number: int) -> None:
    with program(tmp_path) as (process, url):
        connection = connect(url)
        connection.request("GET", "/nope")
        assert connection.getresponse().status == 404
        process.send_signal(number)
        assert process.wait(GUARD_S) == 0


def under_way(url: str, request: bytes) -> socket.socket:
    """A connection whose request a handler has begun to read."""
    connection = socket.create_connection(address_of(url), timeout=GUARD_S)
    connection.sendall(request + b"Host: x\r\nExpect: 100-continue\r\n\r\n")
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
    return connection


def address_of(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").partition(":")
    return host, int(port)


def takes_connections(url: str) -> bool:
    try:
        socket.create_connection(address_of(url), timeout=GUARD_S).close()
    except OSError:
        return False
    return True


def test_a_request_that_waits_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with program(tmp_path, auth="none") as (process, url):
        form = f"camliversion=1&maxwaitsec=3600&blob1={Ref.of(b'x')}".encode()
        head = "POST /bs/camli/stat HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        request = head.encode() + b"Content-Length: %d\r\n" % len(form)
        with under_way(url, request) as connection:
            connection.sendall(form)
            process.terminate()
            assert process.wait(GUARD_S) == 0


def test_what_runs_is_finished_before_the_end(tmp_path: Path) -> None:
    data = b"finished"
    with program(tmp_path, shutdown_wait_s=GUARD_S, auth="none") as (process, url):
        request = f"PUT /bs/camli/{Ref.of(data)} HTTP/1.1\r\nContent-Length: {len(data)}\r\n"
        with under_way(url, request.encode()) as connection:
            connection.sendall(data[:4])
            process.terminate()
            wait_until(lambda: not takes_connections(url))
            connection.sendall(data[4:])
            assert connection.recv(1000).startswith(b"HTTP/1.1 204 ")
        assert process.wait(GUARD_S) == 0


def test_a_hang_up_starts_the_program_anew(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    with program(tmp_path, listen=listen) as (process, url):
        assert url == f"http://{listen}"
        process.send_signal(signal.SIGHUP)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == url
        connection = connect(url)
        connection.request("GET", "/nope")
        assert connection.getresponse().status == 404


def test_the_status_page_starts_the_program_anew(tmp_path: Path) -> None:
    with program(tmp_path, auth="none") as (process, url):
        connection = connect(url)
        connection.request("POST", "/status/restart", b"")
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("location")) == (302, "/status/")
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")


def test_a_port_in_use_is_a_clear_error() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(Unavailable, match="is another server running there"),
    ):
        listen_on(address_text(taken))


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1", "127.0.0.1:x", ":99999", "no.such.host.invalid:1"]
)
def test_a_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        listen_on(text)


def test_a_place_without_host_is_every_address() -> None:
    with listen_on(":0") as bound:
        bound.listen()
        port = bound.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=GUARD_S):
            pass
        assert address_text(bound) == f"localhost:{port}"


def test_the_blobs_are_there_after_a_kill(tmp_path: Path) -> None:
    data = b"acknowledged"
    with program(tmp_path, auth="none") as (process, url):
        connection = connect(url)
        connection.request("PUT", f"/bs-and-maybe-also-index/camli/{Ref.of(data)}", data)
        assert connection.getresponse().status == 204
        process.kill()
        process.wait()
    with program(tmp_path, auth="none") as (_, url):
        connection = connect(url)
        connection.request("GET", f"/bs/camli/{Ref.of(data)}")
        assert connection.getresponse().read() == data
