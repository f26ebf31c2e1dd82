"""A server between a program and the real one: keeps what was asked, answers some things itself."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from tests.waiting import GUARD_S


class Request(NamedTuple):
    method: str
    path: str
    body: bytes

    @property
    def kind(self) -> str:
        """The request without what differs between two stores: refs, positions, tokens.

        Fetching many blobs at once is another way to GET them one by one.
        """
        method, parts = self.method, urlsplit(self.path)
        bare = re.sub(r"sha\d+-[0-9a-f]+", "REF", parts.path)
        if bare.endswith("/camli/fetch-blobs"):
            method, bare = "GET", bare.replace("fetch-blobs", "REF")
        names = sorted(name for name, _ in parse_qsl(parts.query, keep_blank_values=True))
        return " ".join([method, bare, *names])


class Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str = "text/javascript"


class Recorder:
    """What was asked since the last `clear`. answers: kind of a request -> what to answer."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Request] = []
        self.answers: dict[str, Answer] = {}

    @property
    def kinds(self) -> set[str]:
        return {request.kind for request in self.requests}

    def clear(self) -> None:
        self.requests.clear()
        self.answers.clear()


@contextmanager
def recording(upstream: str) -> Iterator[Recorder]:
    """Serve on a free port, and pass on to the server at `upstream` (host:port)."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            request = Request(self.command, self.path, self.rfile.read(length))
            recorder.requests.append(request)
            answer = recorder.answers.get(request.kind)
            if answer is not None:
                headers = {"Content-Type": answer.content_type}
                self.answer(answer.status, headers, answer.body)
                return
            connection = HTTPConnection(upstream, timeout=GUARD_S)
            headers = {name: value for name, value in self.headers.items() if name != "Host"}
            connection.request(self.command, self.path, request.body or None, headers)
            with connection.getresponse() as given:
                hop = ("transfer-encoding", "connection", "content-length", "date", "server")
                kept = {n: v for n, v in given.getheaders() if n.lower() not in hop}
                self.answer(given.status, kept, given.read())
            connection.close()

        do_GET = do_HEAD = do_POST = do_PUT = handle_any  # noqa: N815 - the base class looks for these

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        recorder = Recorder(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join()
