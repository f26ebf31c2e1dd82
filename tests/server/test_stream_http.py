"""What the stream does for its clients, by plain HTTP: chunks of a file, compressed bytes."""

import random

import pytest
import zstandard
from starlette.requests import Request

from peatkeep.blob import Ref
from peatkeep.blobserver import framing
from peatkeep.schema.text import encode
from peatkeep.server.encoding import takes_zstd

from .running import RunningServer
from .stored import file, put, store_of

ROOT = "/bs-and-maybe-also-index/camli"


def unpacked(data: bytes) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        return reader.read()


@pytest.fixture(scope="module")
def large(server: RunningServer) -> tuple[Ref, bytes]:
    content = random.Random(4).randbytes(3_000_000)
    return file(store_of(server), "large", content), content


def test_the_chunks_of_a_file_are_told_in_order(
    server: RunningServer, large: tuple[Ref, bytes]
) -> None:
    ref, content = large
    reply = server.ask("GET", f"{ROOT}/file-chunks/{ref}")
    assert reply.headers["content-type"] == "text/javascript"
    assert reply.json["size"] == len(content)
    found = b""
    for chunk in reply.json["chunks"]:
        assert chunk["offset"] == len(found)
        blob = store_of(server).fetch(Ref(chunk["blobRef"]))
        found += blob[chunk["start"] : chunk["start"] + chunk["length"]]
    assert found == content


def test_of_a_range_only_its_chunks_are_told(
    server: RunningServer, large: tuple[Ref, bytes]
) -> None:
    query = "?offset=1000001&length=70000"
    chunks = server.ask("GET", f"{ROOT}/file-chunks/{large[0]}{query}").json["chunks"]
    assert chunks[0]["offset"] == 1_000_001
    assert chunks[0]["start"] > 0
    assert sum(chunk["length"] for chunk in chunks) == 70_000


def test_a_hole_has_no_blob(server: RunningServer) -> None:
    ref = put(store_of(server), encode({"camliType": "file", "parts": [{"size": 70}]}))
    reply = server.ask("GET", f"{ROOT}/file-chunks/{ref}")
    assert reply.json == {"size": 70, "chunks": [{"offset": 0, "length": 70}]}


def test_an_empty_file_has_no_chunks(server: RunningServer) -> None:
    ref = file(store_of(server), "empty", b"")
    reply = server.ask("GET", f"{ROOT}/file-chunks/{ref}")
    assert reply.json == {"size": 0, "chunks": []}


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        (str(Ref.of(b"missing")), 404),
        (str(Ref.of(b"not a file")), 400),
        ("no-ref", 400),
        ("", 400),
        (f"{Ref.of(b'not a file')}?offset=-1", 400),
        (f"{Ref.of(b'not a file')}?length=x", 400),
    ],
)
def test_what_has_no_chunks_is_told_so(server: RunningServer, rest: str, status: int) -> None:
    put(store_of(server), b"not a file")
    assert server.ask("GET", f"{ROOT}/file-chunks/{rest}").status == status


def test_a_head_of_the_chunks_has_no_body(server: RunningServer, large: tuple[Ref, bytes]) -> None:
    reply = server.ask("HEAD", f"{ROOT}/file-chunks/{large[0]}")
    assert (reply.status, reply.body) == (200, b"")


def test_a_blob_that_shrinks_comes_compressed_to_who_asks_so(server: RunningServer) -> None:
    text = b"a line like all others\n" * 5000
    path = f"{ROOT}/{put(store_of(server), text)}"
    reply = server.ask("GET", path, Accept_Encoding="gzip, zstd")
    assert reply.headers["content-encoding"] == "zstd"
    assert reply.headers["vary"] == "Accept-Encoding"
    assert len(reply.body) < 1000
    assert unpacked(reply.body) == text
    for others in ("gzip", "zstd;q=0", "*", "identity"):
        plain = server.ask("GET", path, Accept_Encoding=others)
        assert "content-encoding" not in plain.headers
        assert plain.body == text


@pytest.mark.parametrize(
    "data", [b"", b"short " * 10, random.Random(1).randbytes(5000)], ids=["empty", "short", "noise"]
)
def test_a_blob_that_does_not_shrink_comes_as_it_is(server: RunningServer, data: bytes) -> None:
    reply = server.ask("GET", f"{ROOT}/{put(store_of(server), data)}", Accept_Encoding="zstd")
    assert "content-encoding" not in reply.headers
    assert reply.body == data


def test_a_range_is_never_compressed(server: RunningServer) -> None:
    path = f"{ROOT}/{put(store_of(server), b'0123456789' * 1000)}"
    reply = server.ask("GET", path, Accept_Encoding="zstd", Range="bytes=10-14")
    assert "content-encoding" not in reply.headers
    assert reply.body == b"01234"


def test_many_blobs_come_in_one_compressed_answer(server: RunningServer) -> None:
    blobs = [b"%d again " % number * 30_000 for number in range(40)]
    refs = [put(store_of(server), data) for data in blobs]
    asked = framing.request_body(refs)
    packed = server.ask("POST", f"{ROOT}/fetch-blobs", asked, Accept_Encoding="zstd")
    plain = server.ask("POST", f"{ROOT}/fetch-blobs", asked)
    assert packed.headers["content-encoding"] == "zstd"
    assert "content-encoding" not in plain.headers
    assert len(packed.body) * 100 < len(plain.body)
    assert unpacked(packed.body) == plain.body


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("zstd", True),
        ("gzip, deflate, br, zstd", True),
        ("gzip;q=1.0, ZSTD; q=0.5", True),
        ("zstd;q=0", False),
        ("zstd; q=0.000", False),
        ("zstdx", False),
        ("", False),
    ],
)
def test_zstd_is_taken_by_whom_names_it(header: str, *, takes: bool) -> None:
    scope = {"type": "http", "headers": [(b"accept-encoding", header.encode())]}
    assert takes_zstd(Request(scope)) is takes
