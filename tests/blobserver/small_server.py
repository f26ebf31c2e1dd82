"""A small server of the blob protocol, written from the protocol alone, with faults to order.

It answers as Perkeep does: an upload stops at the first bad blob, removal is refused. With
`multi_get` it also has `fetch-blobs`.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class SmallServer(ThreadingHTTPServer):
    """`blobs` is the store; `requests` records "METHOD path" of each request."""

    daemon_threads = True

    def __init__(self, multi_get: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.authorizations: list[str | None] = []
        self.multi_get = multi_get
        self.statuses: list[int] = []  # answers to give, one per request, before all else
        self.refuse: Callable[[bytes], bool] = lambda data: False  # as an index refuses
        self.cut_after: int | None = None  # frames of a multi-get after which to hang up
        self.closes_silently = False  # after an answer, without saying so
        self.password: str | None = None
        self.allows_remove = False
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, data: bytes) -> str:
        ref = "sha224-" + hashlib.sha224(data).hexdigest()
        self.blobs[ref] = data
        return ref


@contextmanager
def small_server(multi_get: bool = False) -> Iterator[SmallServer]:
    server = SmallServer(multi_get)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: SmallServer

    def log_message(self, *args: object) -> None: ...

    def do_GET(self) -> None:
        self.begin()
        parts = urlsplit(self.path)
        word = parts.path.rpartition("/camli/")[2]
        if self.early():
            return None
        if self.headers.get("Accept") == "text/x-camli-configuration":
            return self.json(200, {"blobRoot": "/bs/", "storageGeneration": "gen-1"})
        if word == "enumerate-blobs":
            return self.enumerate(parse_qs(parts.query))
        data = self.server.blobs.get(word)
        if data is None:
            return self.answer(404, f'Blob "{word}" not found'.encode())
        return self.answer(200, data)

    def do_POST(self) -> None:
        self.begin()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.early():
            return None
        operation = self.path.rpartition("/camli/")[2]
        if operation == "upload":
            return self.upload(body)
        if operation == "fetch-blobs" and self.server.multi_get:
            return self.fetch_blobs(body)
        form = parse_qs(body.decode())
        refs = [form[f"blob{i}"][0] for i in range(1, 1001) if f"blob{i}" in form]
        blobs = self.server.blobs
        if operation == "stat":
            there = [{"blobRef": r, "size": len(blobs[r])} for r in refs if r in blobs]
            return self.json(200, {"stat": there, "canLongPoll": True})
        if operation == "remove":
            if not self.server.allows_remove:
                return self.json(403, {"removed": None, "error": "does not permit deletes"})
            for ref in refs:
                blobs.pop(ref, None)
            return self.json(200, {"removed": refs, "error": ""})
        return self.answer(400, b"<h1>Bad Request</h1>")

    def begin(self) -> None:
        with self.server.lock:
            self.server.requests.append(f"{self.command} {self.path}")
            self.server.authorizations.append(self.headers.get("Authorization"))

    def early(self) -> bool:
        if self.server.password and self.headers.get("Authorization") != self.server.password:
            self.answer(401, b"<html><body><h1>Unauthorized</h1>")
            return True
        if self.server.statuses:
            self.answer(self.server.statuses.pop(0), b"as ordered")
            return True
        return False

    def upload(self, body: bytes) -> None:
        boundary = self.headers["Content-Type"].partition("boundary=")[2].encode()
        received, problem = [], None
        # Whole parts: names and bytes, in order.
        pieces = (b"\r\n" + body).split(b"\r\n--" + boundary)[1:-1]
        for piece in pieces:
            head, _, data = piece.partition(b"\r\n\r\n")
            ref = head.partition(b'name="')[2].partition(b'"')[0].decode()
            if self.server.refuse(data):
                problem = f"Error receiving blob {ref}: refused by the index\n"
                break
            hash_name, _, digest = ref.partition("-")
            if hashlib.new(hash_name, data).hexdigest() != digest:
                problem = f"Error receiving blob {ref}: corrupt blob; digest doesn't match\n"
                break
            self.server.blobs[ref] = data
            received.append({"blobRef": ref, "size": len(data)})
        self.json(200, {"received": received, **({"errorText": problem} if problem else {})})

    def fetch_blobs(self, body: bytes) -> None:
        answer, frames = b"", body.decode().split()
        cut, self.server.cut_after = self.server.cut_after, None
        for ref in frames[:cut]:
            data = self.server.blobs.get(ref)
            answer += f"{ref} {'-' if data is None else len(data)}\n".encode() + (data or b"")
        if cut is None:
            return self.answer(200, answer)
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer) + 1000))
        self.end_headers()
        self.wfile.write(answer + b"sha2")
        self.close_connection = True
        return None

    def enumerate(self, query: dict[str, list[str]]) -> None:
        after = query.get("after", [""])[0]
        limit = int(query["limit"][0])
        page = sorted(ref for ref in self.server.blobs if ref > after)[:limit]
        blobs = [{"blobRef": ref, "size": len(self.server.blobs[ref])} for ref in page]
        more = {"continueAfter": page[-1]} if len(page) == limit else {}
        self.json(200, {"blobs": blobs, **more, "canLongPoll": True})

    def json(self, status: int, members: object) -> None:
        self.answer(status, json.dumps(members).encode(), "text/javascript")

    def answer(self, status: int, body: bytes, media_type: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        if self.server.multi_get:
            self.send_header("X-Peatkeep", "fetch-blobs")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if self.server.closes_silently:
            self.close_connection = True
