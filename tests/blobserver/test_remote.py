"""The HTTP protocol's client side, against a small server with faults to order."""

import random
import socket
from collections.abc import Iterator

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.remote import Discovery, Remote, Transport, discover
from peatkeep.blobserver.remote.address import authorization, parse_url, proxy_for
from peatkeep.blobserver.remote.multipart import upload_body
from peatkeep.errors import (
    ConfigError,
    Corrupt,
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
    Unavailable,
    Unsupported,
)

from .small_server import SmallServer, small_server

NO_WAITS = (0.0, 0.0, 0.0)


@pytest.fixture(params=[False, True], ids=["perkeep", "multi-get"])
def server(request: pytest.FixtureRequest) -> Iterator[SmallServer]:
    with small_server(request.param) as running:
        yield running


@pytest.fixture
def remote(server: SmallServer) -> Iterator[Remote]:
    with open_remote(server) as storage:
        yield storage


def open_remote(server: SmallServer) -> Remote:
    transport = Transport(server.url, retry_waits_s=NO_WAITS)
    return Remote(transport, "/bs/", has_multi_get=server.multi_get)


def some_blobs(count: int, seed: int = 1, largest: int = 3000) -> list[tuple[Ref, bytes]]:
    rng = random.Random(seed)
    return [(Ref.of(d), d) for d in (rng.randbytes(rng.randrange(largest)) for _ in range(count))]


def test_blobs_go_there_and_come_back(remote: Remote) -> None:
    blobs = some_blobs(1200)
    assert remote.receive_many(blobs) == [SizedRef(ref, len(data)) for ref, data in blobs]
    assert list(remote.fetch_many(ref for ref, _ in blobs)) == blobs
    assert remote.fetch(blobs[7][0]) == blobs[7][1]
    assert sorted(remote.enumerate()) == sorted({SizedRef(r, len(d)) for r, d in blobs})
    assert len(list(remote.stat(ref for ref, _ in blobs))) == len(set(blobs))


def test_many_blobs_travel_in_few_requests(server: SmallServer, remote: Remote) -> None:
    blobs = some_blobs(1000)
    remote.receive_many(blobs)
    assert len(server.requests) == 2
    list(remote.stat(ref for ref, _ in blobs))
    assert len(server.requests) == 3


def test_a_missing_blob_is_not_found(remote: Remote) -> None:
    there, missing = Ref.of(b"there"), Ref.of(b"missing")
    remote.receive(there, b"there")
    with pytest.raises(NotFound, match=missing):
        remote.fetch(missing)
    ((_, first), (_, second)) = remote.fetch_many([missing, there])
    assert isinstance(first, NotFound)
    assert second == b"there"


def test_bytes_that_do_not_match_are_corrupt(server: SmallServer, remote: Remote) -> None:
    ref = Ref.of(b"right")
    server.blobs[ref] = b"wrong"
    with pytest.raises(Corrupt, match=r"127\.0\.0\.1"):
        remote.fetch(ref)
    ((_, found),) = remote.fetch_many([ref])
    assert isinstance(found, Corrupt)


def test_a_refused_blob_does_not_keep_the_others_out(server: SmallServer, remote: Remote) -> None:
    blobs = some_blobs(30)
    bad = {blobs[4][0], blobs[20][0]}
    server.refuse = lambda data: Ref.of(data) in bad
    outcome = remote.upload(blobs)
    assert [ref for ref, _ in outcome.refused] == [blobs[4][0], blobs[20][0]]
    assert len(outcome.received) == 28
    assert "refused by the index" in str(outcome.refused[0][1])
    with pytest.raises(Invalid, match=blobs[4][0]):
        remote.receive_many(blobs)


def test_a_busy_server_is_asked_again(server: SmallServer, remote: Remote) -> None:
    ref = Ref(server.put(b"data"))
    server.statuses = [503, 502]
    assert remote.fetch(ref) == b"data"
    server.statuses = [503] * 9
    with pytest.raises(Unavailable, match="503"):
        remote.fetch(ref)
    assert len(server.statuses) == 5


def test_a_kept_connection_that_was_closed_is_replaced(server: SmallServer) -> None:
    ref = Ref(server.put(b"data"))
    server.closes_silently = True
    with Remote(Transport(server.url, retry_waits_s=()), "/bs/") as remote:
        for _ in range(3):
            assert remote.fetch(ref) == b"data"


def test_a_multi_get_goes_on_where_the_connection_broke() -> None:
    with small_server(multi_get=True) as server, open_remote(server) as remote:
        blobs = some_blobs(50)
        remote.receive_many(blobs)
        server.cut_after = 20
        assert list(remote.fetch_many(ref for ref, _ in blobs)) == blobs
        assert server.requests.count("POST /bs/camli/fetch-blobs") == 2


def test_a_generator_that_is_given_up_leaves_the_store_usable(remote: Remote) -> None:
    blobs = some_blobs(50, largest=100_000)
    remote.receive_many(blobs)
    found = remote.fetch_many(ref for ref, _ in blobs)
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert remote.fetch(blobs[0][0]) == blobs[0][1]


def test_a_dead_server_is_unavailable_and_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"127.0.0.1:{port}"):
            discover(Transport(f"http://127.0.0.1:{port}"))


def test_a_wrong_password_is_forbidden_and_not_repeated(server: SmallServer) -> None:
    server.password = "Basic dTpw"
    with pytest.raises(Forbidden, match="credentials"):
        discover(Transport(server.url, "userpass:u:wrong"))
    assert len(server.requests) == 1
    assert discover(Transport(server.url, "userpass:u:p")).blob_root == "/bs/"


def test_discovery_tells_generation_and_features(server: SmallServer) -> None:
    found = discover(Transport(server.url))
    assert found.generation is not None
    assert found.generation.token == "gen-1"
    assert found.has_multi_get == server.multi_get


def test_what_is_no_discovery_document_is_refused(server: SmallServer) -> None:
    server.statuses = [200]
    with pytest.raises((Corrupt, Forbidden)):
        discover(Transport(server.url))


def test_removal_is_refused_or_done(server: SmallServer, remote: Remote) -> None:
    ref = Ref(server.put(b"x"))
    with pytest.raises(Forbidden, match="does not permit deletes"):
        remote.remove([ref])
    server.allows_remove = True
    remote.remove([ref, Ref.of(b"absent")])
    assert server.blobs == {}


def test_an_answer_over_the_blob_limit_is_refused(server: SmallServer, remote: Remote) -> None:
    data = bytes(16 * 1024 * 1024 + 1)
    ref = Ref(server.put(data))
    with pytest.raises(TooLarge):
        remote.fetch(ref)


def test_credentials_stay_on_their_server() -> None:
    transport = Transport("http://127.0.0.1:3179/x", "userpass:u:p")
    assert transport.path_of("/bs/") == "/bs/"
    assert transport.path_of("http://127.0.0.1:3179/bs/") == "/bs/"
    with pytest.raises(Unsupported):
        transport.path_of("http://evil.example/bs/")


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ("userpass:alice:secret:vivify=x", "Basic YWxpY2U6c2VjcmV0"),
        ("basic:alice:secret", "Basic YWxpY2U6c2VjcmV0"),
        ("token:abc", "Token abc"),
        ("devauth:pw", "Basic OnB3"),
        ("none", ""),
        ("localhost", ""),
        ("", ""),
    ],
)
def test_an_auth_string_becomes_a_header(auth: str, header: str) -> None:
    assert authorization(auth) == header


def test_an_unusable_auth_string_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        authorization("userpass:geheim")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://h", "h:80", "http://", "http://u:pw@h/", "http://h:x"])
def test_an_unusable_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert "pw" not in str(caught.value)


def test_proxies_are_used_but_not_for_loopback_or_no_proxy() -> None:
    settings = {
        "HTTP_PROXY": "http://u:p@proxy:8080",
        "no_proxy": "example.org, .corp:81,10.0.0.0/8",
    }
    assert proxy_for(parse_url("http://far.example"), settings) == (
        "proxy",
        8080,
        "Basic dTpw",
    )
    for direct in ("localhost:1", "127.0.0.9", "example.org", "a.example.org", "a.corp:81"):
        assert proxy_for(parse_url(f"http://{direct}"), settings) is None
    assert proxy_for(parse_url("http://10.1.2.3"), settings) is None
    assert proxy_for(parse_url("http://a.corp:82"), settings) is not None
    assert proxy_for(parse_url("https://far.example"), settings) is None


def test_requests_go_through_a_proxy_in_absolute_form(server: SmallServer) -> None:
    transport = Transport("http://far.example:99", proxies={"http_proxy": server.url})
    assert isinstance(discover(transport), Discovery)
    assert server.requests == ["GET http://far.example:99/"]


def test_large_blobs_are_not_copied_into_the_body() -> None:
    large = bytes(100_000)
    pieces, _ = upload_body([(Ref.of(b"a"), b"a"), (Ref.of(large), large), (Ref.of(b"b"), b"b")])
    assert len(pieces) == 3
    assert pieces[1] is large


def test_an_upload_body_is_multipart() -> None:
    ref = Ref.of(b"hello")
    pieces, content_type = upload_body([(ref, b"hello")])
    body = b"".join(pieces)
    boundary = content_type.removeprefix("multipart/form-data; boundary=")
    assert (
        body
        == (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{ref}"; filename="{ref}"\r\n'
            f"Content-Type: application/octet-stream\r\n\r\nhello\r\n--{boundary}--\r\n"
        ).encode()
    )


def test_a_server_that_takes_nothing_is_given_up_on(server: SmallServer, remote: Remote) -> None:
    server.refuse = lambda data: True
    with pytest.raises(Unavailable, match="refused by the index"):
        remote.upload(some_blobs(200))
    assert len(server.requests) == 3


def test_a_blob_that_the_server_can_not_read_is_corrupt(server: SmallServer) -> None:
    ref = Ref(server.put(b"data"))
    server.statuses = [500]
    with Remote(Transport(server.url, retry_waits_s=()), "/bs/") as perkeep, pytest.raises(Corrupt):
        perkeep.fetch(ref)
