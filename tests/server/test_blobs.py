import hashlib
import http.client
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from peatkeep.blob import MAX_BLOB_SIZE, Ref
from peatkeep.blobserver import framing
from peatkeep.errors import Corrupt, NotFound
from peatkeep.schema.text import encode
from tests.waiting import GUARD_S

from .running import Reply, RunningServer, multipart_body, running_server

ROOT = "/bs-and-maybe-also-index/"


@pytest.fixture(scope="module")
def deletable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A plain store, through whose prefix blobs may be removed."""
    folder = tmp_path_factory.mktemp("deletable")
    (folder / "blobs").mkdir()
    prefixes = {
        "/bs/": {
            "handler": "storage-filesystem",
            "handlerArgs": {"path": str(folder / "blobs")},
            "deletable": True,
        },
        "/": {"handler": "root", "handlerArgs": {"blobRoot": "/bs/"}},
    }
    unwanted = dict.fromkeys(
        ("identity", "identitySecretRing", "blobPath", "levelDB", "shareHandler", "ownerName")
    )
    with running_server(folder, handlerConfig=True, prefixes=prefixes, **unwanted) as server:
        yield server


def ref_of(data: bytes) -> Ref:
    return Ref.of(data)


def stat(server: RunningServer, prefix: str, *refs: str, wait_s: int = 0) -> list[str]:
    fields = "".join(f"&blob{number}={ref}" for number, ref in enumerate(refs, 1))
    reply = server.form(f"{prefix}camli/stat", f"camliversion=1&maxwaitsec={wait_s}{fields}")
    assert reply.status == 200
    return [entry["blobRef"] for entry in reply.json["stat"]]


# -- reading --------------------------------------------------------------------------------------


def test_a_blob_comes_back_as_it_was_sent(server: RunningServer) -> None:
    data = bytes(range(256)) * 300
    server.upload(ROOT, data)
    reply = server.ask("GET", f"{ROOT}camli/{ref_of(data)}")
    assert (reply.status, reply.body) == (200, data)


def test_no_browser_takes_a_blob_for_a_page(server: RunningServer) -> None:
    data = b"<script>alert(1)</script>"
    server.upload(ROOT, data)
    headers = server.ask("GET", f"{ROOT}camli/{ref_of(data)}").headers
    assert headers["content-type"].startswith("text/plain")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox")


def test_several_ranges_come_as_parts(server: RunningServer) -> None:
    server.upload(ROOT, b"0123456789")
    path = f"{ROOT}camli/{ref_of(b'0123456789')}"
    reply = server.ask("GET", path, Range="bytes=0-1,8-")
    assert reply.status == 206
    assert b"Content-Range: bytes 0-1/10\r\n" in reply.body
    assert reply.body.count(b"\r\n\r\n01\r\n") == reply.body.count(b"\r\n\r\n89\r\n") == 1


def test_a_damaged_blob_is_an_error_and_not_its_bytes(server: RunningServer) -> None:
    data = b"to be damaged"
    server.upload("/bs/", data)
    ref = ref_of(data)
    path = next((server.data / "blobs").rglob(f"{ref}.dat"))
    path.write_bytes(b"to be DAMAGED")
    reply = server.ask("GET", f"/bs/camli/{ref}")
    assert reply.status == 500
    assert b"DAMAGED" not in reply.body


def test_the_cause_of_a_storage_error_is_not_told_to_strangers(server: RunningServer) -> None:
    data = b"to be damaged too"
    server.upload("/bs/", data)
    path = next((server.data / "blobs").rglob(f"{ref_of(data)}.dat"))
    path.write_bytes(b"x")
    reply = server.ask("GET", f"/bs/camli/{ref_of(data)}", Host="example.com")
    assert reply.body == b"An internal error occurred, sorry.\n"


def test_who_reads_json_gets_errors_as_json(server: RunningServer) -> None:
    reply = server.ask("POST", f"{ROOT}camli/stat", b"", Accept="application/json")
    assert reply.status == 400
    assert reply.json == {"error": "camliversion is missing", "errorType": "Bad Request"}
    reply = server.ask("GET", f"{ROOT}camli/{ref_of(b'none')}", Accept="application/json")
    assert (reply.status, reply.json["errorType"]) == (404, "Not Found")
    reply = server.ask("GET", f"{ROOT}camli/zzz", auth="", Accept="application/json")
    assert (reply.status, reply.json["errorType"]) == (401, "Unauthorized")
    assert "www-authenticate" in reply.headers
    reply = server.ask("GET", f"{ROOT}camli/zzz", Accept="application/json")
    assert reply.json == {"error": "Malformed GET URL.", "errorType": "Bad Request"}


def test_the_index_gives_no_blobs(server: RunningServer) -> None:
    assert server.ask("GET", f"/index/camli/{ref_of(b'x')}").status == 404


# -- fetch-blobs ----------------------------------------------------------------------------------


def fetch(server: RunningServer, refs: list[Ref], **options: str) -> Reply:
    body = framing.request_body(refs)
    return server.ask("POST", f"{ROOT}camli/fetch-blobs", body, **options)


def test_many_blobs_come_in_the_order_asked(server: RunningServer) -> None:
    blobs = [b"first", b"", b"third" * 100_000]
    server.upload(ROOT, *blobs)
    asked = [ref_of(blobs[2]), ref_of(b"absent"), ref_of(blobs[0]), ref_of(b""), ref_of(blobs[0])]
    reply = fetch(server, asked)
    assert reply.headers["content-type"] == framing.MEDIA_TYPE
    found = list(framing.read_frames(io.BytesIO(reply.body), asked))
    assert [ref for ref, _ in found] == asked
    assert [data for _, data in found if isinstance(data, bytes)] == [
        blobs[2],
        blobs[0],
        b"",
        blobs[0],
    ]
    assert isinstance(found[1][1], NotFound)


def test_a_damaged_blob_among_many_is_marked(server: RunningServer) -> None:
    data = b"damaged among many"
    server.upload("/bs/", data)
    next((server.data / "blobs").rglob(f"{ref_of(data)}.dat")).write_bytes(b"?")
    reply = fetch(server, [ref_of(data)])
    assert reply.body == f"{ref_of(data)} !\n".encode()
    ((_, found),) = framing.read_frames(io.BytesIO(reply.body), [ref_of(data)])
    assert isinstance(found, Corrupt)


def test_too_many_refs_or_none_are_refused(server: RunningServer) -> None:
    refs = [ref_of(str(number).encode()) for number in range(framing.MAX_REFS + 1)]
    assert fetch(server, refs).status == 413
    assert server.ask("POST", f"{ROOT}camli/fetch-blobs", b"zzz\n").status == 400
    assert fetch(server, []).body == b""


def test_many_blobs_take_the_right_to_get(server: RunningServer) -> None:
    assert fetch(server, [], auth="").status == 401
    assert fetch(server, [], auth="alice:vivpass").status == 200


def test_discovery_says_that_many_blobs_can_be_had(server: RunningServer) -> None:
    reply = server.ask("GET", "/", Accept="text/x-camli-configuration")
    assert reply.headers["x-peatkeep"].split(", ") == ["fetch-blobs", "stream-1"]


# -- waiting --------------------------------------------------------------------------------------


def while_waiting(
    server: RunningServer, prefix: str, ref: Ref, act: Callable[[], None]
) -> list[str]:
    """Stat with a long wait, and act once the server listens."""
    hub = server.service.world.topology.hubs(prefix)[0]
    before = len(hub._listeners)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stat, server, prefix, ref, wait_s=20)
        done = threading.Event()
        while len(hub._listeners) == before:
            done.wait(0.01)
        act()
        return answer.result(timeout=GUARD_S)


@pytest.mark.parametrize(
    ("waiting", "uploading"),
    [(ROOT, ROOT), ("/bs/", ROOT), (ROOT, "/bs/"), ("/bs-and-index/", "/bs/")],
)
def test_a_waiting_stat_is_woken_by_an_upload_through_another_prefix(
    server: RunningServer, waiting: str, uploading: str
) -> None:
    data = f"{waiting} {uploading}".encode()
    ref = ref_of(data)
    assert while_waiting(server, waiting, ref, lambda: server.upload(uploading, data) and None) == [
        ref
    ]


@pytest.mark.parametrize("hash_name", ["sha224", "sha256"])
def test_a_thousand_refs_can_be_asked_for_in_a_url(server: RunningServer, hash_name: str) -> None:
    data = b"asked for by a long url"
    ref = f"{hash_name}-{hashlib.new(hash_name, data).hexdigest()}"
    assert server.ask("PUT", f"{ROOT}camli/{ref}", data).status == 204
    refs = [f"{hash_name}-{hashlib.new(hash_name, b'%d' % n).hexdigest()}" for n in range(999)]
    fields = [f"&blob{number}={name}" for number, name in enumerate([*refs, ref], 1)]
    path = f"{ROOT}camli/stat?camliversion=1"
    found = server.ask("GET", path + "".join(fields))
    assert found.json["stat"] == [{"blobRef": ref, "size": len(data)}]
    assert server.ask("GET", path + "".join([*fields, f"&blob1001={ref}"])).status == 400


def test_a_waiting_enumeration_of_a_store_with_blobs_lists_them_at_once(
    server: RunningServer,
) -> None:
    server.upload("/bs/", b"listed at once")
    reply = server.ask("GET", "/bs/camli/enumerate-blobs?maxwaitsec=20")
    assert ref_of(b"listed at once") in reply.body.decode()


def test_an_enumeration_of_an_empty_store_waits_for_a_blob(deletable: RunningServer) -> None:
    server = deletable
    assert server.ask("GET", "/bs/camli/enumerate-blobs").json["blobs"] == []
    hub = server.service.world.topology.hubs("/bs/")[0]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.ask, "GET", "/bs/camli/enumerate-blobs?maxwaitsec=20")
        done = threading.Event()
        while not hub._listeners:
            done.wait(0.01)
        server.upload("/bs/", b"waited for")
        blobs = answer.result(timeout=GUARD_S).json["blobs"]
    assert [entry["blobRef"] for entry in blobs] == [ref_of(b"waited for")]
    server.form("/bs/camli/remove", f"blob1={ref_of(b'waited for')}")


# -- removing -------------------------------------------------------------------------------------


def test_blobs_can_be_removed_where_the_configuration_says_so(deletable: RunningServer) -> None:
    server = deletable
    server.upload("/bs/", b"gone soon", b"stays")
    refs = [ref_of(b"gone soon"), ref_of(b"never there")]
    reply = server.form("/bs/camli/remove", f"blob1={refs[0]}&blob2={refs[1]}")
    assert (reply.status, reply.json) == (200, {"removed": refs, "error": ""})
    assert stat(server, "/bs/", refs[0], ref_of(b"stays")) == [ref_of(b"stays")]


def test_a_removal_with_a_bad_ref_removes_nothing(deletable: RunningServer) -> None:
    server = deletable
    server.upload("/bs/", b"kept")
    assert server.form("/bs/camli/remove", f"blob1={ref_of(b'kept')}&blob2=zzz").status == 400
    assert stat(server, "/bs/", ref_of(b"kept")) == [ref_of(b"kept")]


def test_at_most_999_blobs_are_removed_at_once(deletable: RunningServer) -> None:
    def removal(count: int) -> int:
        refs = [ref_of(str(number).encode()) for number in range(count)]
        fields = "&".join(f"blob{number}={ref}" for number, ref in enumerate(refs, 1))
        return deletable.form("/bs/camli/remove", fields).status

    assert removal(999) == 200
    assert removal(1000) == 400


# -- writing --------------------------------------------------------------------------------------


def test_a_blob_over_the_limit_is_never_cut_to_fit(server: RunningServer) -> None:
    data = bytes(MAX_BLOB_SIZE)
    ref = ref_of(data)
    body = multipart_body([(ref, data + b"!")])
    kind = "multipart/form-data; boundary=xyzBOUNDARYxyz"
    reply = server.ask("POST", f"{ROOT}camli/upload", body, Content_Type=kind)
    assert reply.json["received"] == []
    assert server.ask("PUT", f"{ROOT}camli/{ref}", data + b"!").status == 400
    connection = http.client.HTTPConnection(server.host, timeout=GUARD_S)
    pieces = iter([data, b"!"])
    connection.request("PUT", f"{ROOT}camli/{ref}", pieces, server.headers, encode_chunked=True)
    assert connection.getresponse().status == 400
    connection.close()
    assert stat(server, ROOT, ref) == []


def test_the_index_does_not_take_a_blob_that_is_stored_nowhere(server: RunningServer) -> None:
    data = encode({"camliType": "keep", "target": ref_of(b"nothing")})
    reply = server.upload("/index/", data)
    assert reply.json["received"] == []
    assert "upload it to the blob root" in reply.json["errorText"]
    assert stat(server, "/index/", ref_of(data)) == []


def test_the_index_takes_a_blob_that_is_stored(server: RunningServer) -> None:
    data = encode({"camliType": "keep", "target": ref_of(b"something")})
    server.upload("/bs/", data)
    reply = server.upload("/index/", data)
    assert [entry["blobRef"] for entry in reply.json["received"]] == [ref_of(data)]
    assert stat(server, "/index/", ref_of(data)) == [ref_of(data)]


def test_a_schema_blob_is_indexed_before_the_answer(server: RunningServer) -> None:
    data = encode({"camliType": "keep", "target": ref_of(b"indexed")})
    server.upload(ROOT, data)
    assert stat(server, "/index/", ref_of(data)) == [ref_of(data)]


def test_an_acknowledged_blob_is_on_disk(server: RunningServer) -> None:
    data = b"on disk when acknowledged"
    server.upload(ROOT, data)
    path: Path = next((server.data / "blobs").rglob(f"{ref_of(data)}.dat"))
    assert path.read_bytes() == data


@pytest.mark.parametrize("name", ["sha1", "sha224", "sha256"])
def test_a_blob_can_be_put_under_each_known_hash(server: RunningServer, name: str) -> None:
    data = b"put under " + name.encode()
    ref = f"{name}-{hashlib.new(name, data).hexdigest()}"
    assert server.ask("PUT", f"{ROOT}camli/{ref}", data).status == 204
    assert server.ask("GET", f"{ROOT}camli/{ref}").body == data
