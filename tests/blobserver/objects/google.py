"""A double of Google's XML interface for tests: gcp-storage-emulator has the JSON one only, which
obstore does not speak. As much of it as blobs need, from the documentation: objects with ranges and
conditions, listings in pages, uploads in parts.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET: Final = "bucket"
PAGE: Final = 50


class Objects:
    """The one bucket. Counts uploads by number."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}

    def listing(self, query: dict[str, str]) -> bytes:
        after = query.get("continuation-token") or query.get("start-after", "")
        prefix = query.get("prefix", "")
        with self.lock:
            keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
            page = [(key, len(self.objects[key])) for key in keys[:PAGE]]
        rows = "".join(
            f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f'<ETag>"x"</ETag><Size>{size}</Size></Contents>'
            for key, size in page
        )
        more = f"<NextContinuationToken>{page[-1][0]}</NextContinuationToken>" if page else ""
        more = more if len(keys) > PAGE else ""
        return f"<ListBucketResult>{rows}{more}</ListBucketResult>".encode()


@contextmanager
def google() -> Iterator[str]:
    """Serve an empty bucket; yields the URL."""
    store = Objects()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
            bucket, _, key = unquote(parts.path).strip("/").partition("/")
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if bucket != BUCKET:
                self.reply(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            elif not key:
                self.reply(200, store.listing(query))
            elif self.command == "POST":
                self.upload(key, query)
            elif self.command == "PUT":
                self.put(key, query, body)
            else:
                self.read_or_delete(key)

        do_PUT = do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815 - as the library has it

        def put(self, key: str, query: dict[str, str], body: bytes) -> None:
            with store.lock:
                if "uploadId" in query:
                    store.uploads[query["uploadId"]][int(query["partNumber"])] = body
                elif self.headers.get("x-goog-if-generation-match") == "0" and key in store.objects:
                    self.reply(412)
                    return
                else:
                    store.objects[key] = body
            self.reply(200, tag=body)

        def upload(self, key: str, query: dict[str, str]) -> None:
            with store.lock:
                if "uploadId" not in query:
                    number = str(len(store.uploads))
                    store.uploads[number] = {}
                    text = f"<R><UploadId>{number}</UploadId></R>"
                else:
                    parts = sorted(store.uploads[query["uploadId"]].items())
                    store.objects[key] = b"".join(part for _, part in parts)
                    text = "<R><ETag>x</ETag></R>"
            self.reply(200, text.encode())

        def read_or_delete(self, key: str) -> None:
            with store.lock:
                data = store.objects.get(key)
                if self.command == "DELETE":
                    store.objects.pop(key, None)
            if data is None:
                self.reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
            elif self.command == "DELETE":
                self.reply(204)
            elif found := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
                start, end = int(found[1]), min(int(found[2]), len(data) - 1)
                if start >= len(data):
                    self.reply(416)
                else:
                    span = f"bytes {start}-{end}/{len(data)}"
                    self.reply(206, data[start : end + 1], data, span)
            else:
                self.reply(200, data, data)

        def reply(self, status: int, body: bytes = b"", tag: bytes = b"", span: str = "") -> None:
            self.send_response(status)
            self.send_header("ETag", f'"{hashlib.sha256(tag).hexdigest()}"')
            self.send_header("x-goog-generation", "1")
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            if span:
                self.send_header("Content-Range", span)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
