"""The line that `./pk bench line` measures on: what it claims to be, and that work gets through."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.bench import line as bench
from tests.proxy import Line, line_to

DELAY_S = 0.05


@pytest.fixture
def echoing() -> Iterator[Line]:
    """A line to a server that sends back what it gets."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, suppress(ConnectionError):  # the line ends by a reset
                while data := connection.recv(65536):
                    connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        port = server.getsockname()[1]
        with line_to(f"http://127.0.0.1:{port}", delay_s=DELAY_S, rate=2e7) as line:
            yield line
        thread.join()


def test_the_line_is_never_shorter_than_it_says(echoing: Line) -> None:
    with socket.create_connection(("127.0.0.1", echoing.port)) as connection:
        for _ in range(5):
            began = time.monotonic()
            connection.sendall(b"x")
            connection.recv(1)
            assert time.monotonic() - began >= 2 * DELAY_S


def test_put_and_get_over_a_long_line(tmp_path: Path) -> None:
    found = bench.measure(tmp_path, 8_000_000, 2e7, 2 * DELAY_S)
    assert 0 < found.put_share <= 1
    assert 0 < found.get_share <= 1
    assert found.read_s >= 2 * DELAY_S
