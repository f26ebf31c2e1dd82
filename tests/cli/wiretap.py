"""A proxy that writes down what a client and a server say to each other."""

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.waiting import GUARD_S


@dataclass
class Recorded:
    """One request and the status of its answer."""

    method: str
    path: str
    headers: Message
    body: bytes
    status: int = 0

    def parts(self) -> list[tuple[str, bytes]]:
        """Name and bytes of each part of a multipart body."""
        boundary = self.headers["Content-Type"].partition("boundary=")[2].encode()
        found = []
        for piece in (b"\r\n" + self.body).split(b"\r\n--" + boundary)[1:-1]:
            head, _, data = piece.partition(b"\r\n\r\n")
            found.append((head.partition(b'name="')[2].partition(b'"')[0].decode(), data))
        return found


class Recorder(ThreadingHTTPServer):
    """Passes every request on to `upstream` (host:port). `recorded` is in order of arrival.

    While `gate` is closed, `open_for` more requests pass; the next ones set `waiting` and wait.
    """

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = upstream
        self.recorded: list[Recorded] = []
        self.gate = threading.Event()
        self.gate.set()
        self.open_for = 0
        self.waiting = threading.Event()
        self.under_way: set[int] = set()
        """Which threads pass a request on, also one whose client is gone."""

    def pass_gate(self) -> None:
        if not self.gate.is_set():
            self.open_for -= 1
            if self.open_for < 0:
                self.waiting.set()
                self.gate.wait(GUARD_S)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take(self) -> list[Recorded]:
        """What was recorded since the last call."""
        taken, self.recorded = self.recorded, []
        return taken


@contextmanager
def recording(upstream: str) -> Iterator[Recorder]:
    recorder = Recorder(upstream)
    thread = threading.Thread(target=recorder.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield recorder
    finally:
        recorder.shutdown()
        recorder.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Recorder

    def log_message(self, *args: object) -> None: ...

    def do_GET(self) -> None:
        self.pass_on()

    def do_HEAD(self) -> None:
        self.pass_on()

    def do_POST(self) -> None:
        self.pass_on()

    def pass_on(self) -> None:
        self.server.under_way.add(threading.get_ident())
        try:
            self._pass_on()
        finally:
            self.server.under_way.discard(threading.get_ident())

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.pass_gate()
        entry = Recorded(self.command, self.path, self.headers, body)
        self.server.recorded.append(entry)
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=GUARD_S)
        headers = {k: v for k, v in self.headers.items() if k not in ("Host", "Connection")}
        upstream.request(self.command, self.path, body or None, headers)
        answer = upstream.getresponse()
        data = answer.read()
        entry.status = answer.status
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = len(data)
        if self.command == "HEAD":
            length = int(answer.getheader("Content-Length") or 0)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)
        upstream.close()
