"""What services answer when they can't, won't, or lie: errors that name bucket and key."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.objects import S3
from peatkeep.blobserver.registry import open_storage
from peatkeep.errors import Corrupt, Forbidden, StoreError, Unavailable
from tests.waiting import GUARD_S

HELLO = Ref.of(b"hello")
SECRET = "not/a+real=secret"

Answer = tuple[int, bytes]


class Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client may go before it has read all: nothing to print."""


class Service:
    """A service whose answers are planned: a function from method and path, or the usual ones."""

    def __init__(self) -> None:
        self.plan: Callable[[str, str], Answer | None] = lambda method, path: None
        self.asked: list[str] = []
        self.lost_bytes = 0  # of each body: the connection ends before them
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()

    def answer(self, method: str, path: str) -> Answer:
        with self.lock:
            self.asked.append(f"{method} {path}")
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            planned = self.plan(method, path)
        finally:
            with self.lock:
                self.at_once -= 1
        return planned or (200, listing([]) if "list-type" in path else b"hello")


def listing(keys: list[str], more: str = "") -> bytes:
    rows = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f'<ETag>"x"</ETag><Size>5</Size></Contents>'
        for key in keys
    )
    token = f"<NextContinuationToken>{more}</NextContinuationToken>" if more else ""
    cut = "true" if more else "false"
    return (
        f"<ListBucketResult><Name>b</Name><IsTruncated>{cut}</IsTruncated>{token}{rows}"
        "</ListBucketResult>"
    ).encode()


@contextmanager
def serving(service: Service) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(length)
            status, body = service.answer(self.command, self.path)
            is_part = status == 200 and "Range" in self.headers
            self.send_response(206 if is_part else status)
            if is_part:
                body = body[:2]
                self.send_header("Content-Range", "bytes 0-1/5")
            self.send_header("ETag", '"x"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body[: len(body) - service.lost_bytes])
            self.close_connection = service.lost_bytes > 0

        do_PUT = do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815 - as the library has it

        def log_message(self, *_: Any) -> None: ...

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def store(service: Service) -> Iterator[S3]:
    with serving(service) as url:
        args = {
            "bucket": "b/dir", "aws_access_key": "key", "aws_secret_access_key": SECRET,
            "endpoint": url, "retries": 2, "timeoutSeconds": 1, "maxRequests": 4,
        }  # fmt: skip
        opened = open_storage("s3", args, lambda _: Memory())
        assert isinstance(opened, S3)
        with opened:
            service.asked.clear()
            yield opened


WORKS: dict[str, Callable[[S3], object]] = {
    "fetch": lambda store: store.fetch(HELLO),
    "fetch many": lambda store: list(store.fetch_many([HELLO])),
    "range": lambda store: store.read_range(HELLO, 0, 2),
    "stat": lambda store: list(store.stat([HELLO])),
    "list": lambda store: list(store.enumerate()),
    "store": lambda store: store.receive(HELLO, b"hello"),
    "remove": lambda store: store.remove([HELLO]),
}
ERRORS: dict[int, type[StoreError]] = {
    401: Forbidden, 403: Forbidden, 429: Unavailable, 500: Unavailable, 503: Unavailable,
    400: Unavailable,
}  # fmt: skip


@pytest.mark.parametrize("status", ERRORS)
@pytest.mark.parametrize("work", WORKS)
def test_an_answer_becomes_its_error_with_bucket_and_key(
    service: Service, store: S3, work: str, status: int
) -> None:
    body = b"<Error><Code>SomeReason</Code><Message>secret: no</Message></Error>"
    service.plan = lambda method, path: (status, body)
    with pytest.raises(ERRORS[status]) as failed:
        WORKS[work](store)
    assert type(failed.value) is ERRORS[status]
    assert "s3://b/dir/" in str(failed.value)
    assert SECRET not in str(failed.value)
    if work != "list":
        assert HELLO in str(failed.value)


@pytest.mark.parametrize("work", WORKS)
def test_a_service_that_fails_once_is_asked_again(service: Service, store: S3, work: str) -> None:
    left = [503]

    def plan(method: str, path: str) -> Answer | None:
        if left:
            return left.pop(), b""
        if "delete" in path:
            return 200, b"<DeleteResult><Deleted><Key>k</Key></Deleted></DeleteResult>"
        return None

    service.plan = plan
    WORKS[work](store)
    assert len(service.asked) >= 2


def test_a_service_that_is_slow_is_unavailable(service: Service, store: S3) -> None:
    go_on = threading.Event()
    service.plan = lambda method, path: (200, b"hello") if go_on.wait(GUARD_S) else None
    try:
        with pytest.raises(Unavailable, match=f"s3://b/dir/{HELLO}"):
            store.fetch(HELLO)
    finally:
        go_on.set()


def test_a_listing_whose_second_page_fails_is_no_shorter_listing(
    service: Service, store: S3
) -> None:
    refs = sorted(Ref.of(b"%d" % number) for number in range(3))

    def plan(method: str, path: str) -> Answer | None:
        if "continuation-token" in path:
            return 500, b""
        return 200, listing([f"dir/{ref}" for ref in refs], "next")

    service.plan = plan
    listed: list[str] = []
    with pytest.raises(Unavailable, match="s3://b/dir/"):
        listed.extend(ref for ref, _ in store.enumerate())


@pytest.mark.parametrize("shuffle", [lambda refs: refs[::-1], lambda refs: [refs[0], *refs]])
def test_a_listing_out_of_order_is_refused(
    service: Service, store: S3, shuffle: Callable[[list[Ref]], list[Ref]]
) -> None:
    refs = shuffle(sorted(Ref.of(b"%d" % number) for number in range(3)))
    service.plan = lambda method, path: (200, listing([f"dir/{ref}" for ref in refs]))
    with pytest.raises(Corrupt, match=r"s3://b/dir/sha224-.*order"):
        list(store.enumerate())


def test_other_bytes_than_asked_for_are_corrupt(service: Service, store: S3) -> None:
    service.plan = lambda method, path: (200, b"jello")
    with pytest.raises(Corrupt, match=f"s3://b/dir/{HELLO}"):
        store.fetch(HELLO)
    assert [type(found) for _, found in store.fetch_many([HELLO])] == [Corrupt]


@pytest.mark.parametrize("size", [100_000, 5_000_000])
def test_a_body_that_breaks_off_is_no_shorter_blob(service: Service, store: S3, size: int) -> None:
    data = bytes(range(250)) * (size // 250)
    service.plan = lambda method, path: (200, data)
    assert store.fetch(Ref.of(data)) == data
    service.lost_bytes = 40_000
    with pytest.raises(Unavailable, match=f"s3://b/dir/{Ref.of(data)}"):
        store.fetch(Ref.of(data))


def test_no_more_requests_are_under_way_than_allowed(service: Service, store: S3) -> None:
    full = threading.Barrier(4)

    def plan(method: str, path: str) -> Answer | None:
        full.wait(GUARD_S)  # four at a time, neither more nor fewer
        return None

    service.plan = plan
    list(store.stat([Ref.of(b"%d" % number) for number in range(16)]))
    assert service.most_at_once == 4


def test_one_failed_upload_fails_the_batch(service: Service, store: S3) -> None:
    blobs = {Ref.of(b"%d" % number): b"%d" % number for number in range(10)}
    bad = sorted(blobs)[5]
    service.plan = lambda method, path: (403, b"") if bad in path else None
    with pytest.raises(Forbidden, match=bad):
        store.receive_many(blobs.items())
    store.write_many(blobs.items())
    with pytest.raises(Forbidden, match=bad):
        store.sync()
    service.plan = lambda method, path: None
    store.sync()  # what could not be stored was kept
    assert any(f"PUT /b/dir/{bad}" in asked for asked in service.asked)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bucket": ""}, "bucket"),
        ({"bucket": "b/../c"}, "name"),
        ({"endpoint": "http://example.com"}, "this machine"),
        ({"endpoint": "ftp://example.com"}, "URL"),
        ({"endpoint": "https://user:pw@example.com"}, "URL"),
        ({"hostname": "https://example.com"}, "without a scheme"),
        ({"hostname": "a", "endpoint": "https://b"}, "hostname"),
        ({"maxRequests": 0}, "from 1 to 256"),
        ({"timeoutSeconds": 0}, "too small"),
        ({"aws_secret_access_key": 5}, "string"),
        ({"colour": "red"}, "unknown"),
    ],
)
def test_a_wrong_configuration_is_named(change: dict[str, object], reason: str) -> None:
    args = {"bucket": "b", "aws_access_key": "key", "aws_secret_access_key": SECRET}
    with pytest.raises(StoreError, match=reason) as refused:
        open_storage("storage-s3", args | change, lambda _: Memory())
    assert SECRET not in str(refused.value)


def test_a_google_token_is_fetched_for_the_refresh_token() -> None:
    from peatkeep.blobserver.objects.google import token_source

    asked: list[str] = []

    def post(form: str) -> tuple[int, bytes]:
        asked.append(form)
        return 200, json.dumps({"access_token": "t", "expires_in": 3600}).encode()

    credential = token_source("id", "secret", "refresh", post)()
    assert credential["token"] == "t"
    assert "refresh_token=refresh&grant_type=refresh_token" in asked[0]
    for status, error in ((400, Forbidden), (500, Unavailable)):
        with pytest.raises(error):
            token_source("id", "secret", "refresh", lambda form, s=status: (s, b"{}"))()  # type: ignore[misc]
