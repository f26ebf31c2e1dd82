"""The stream's client against our server: it keeps the promises of a storage, also after cuts."""

import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.conformance import StorageSuite
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.remote import Line, Remote, Transport, discover
from peatkeep.blobserver.remote.stream import Stream
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import (
    Forbidden,
    Invalid,
    NotFound,
    StoreError,
    Unavailable,
    Unsupported,
)
from peatkeep.schema.filewriter import write_file
from peatkeep.server.auth import Auth, Right
from peatkeep.server.config import load
from tests.proxy import Line as Cable
from tests.server.running import RunningServer, serving

from .remotes import Blob, blobs, remote_to, stream_of


def fetched(stream: Stream, sent: list[Blob]) -> Iterator[object]:
    return stream.fetch_many([ref for ref, _ in sent])


class TestRemoteOverTheStream(StorageSuite):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[Storage]:
        values = {
            "handlerConfig": True,
            "auth": "userpass:alice:secret",
            "listen": "127.0.0.1:0",
            "prefixes": {
                "/": {"handler": "root", "handlerArgs": {"blobRoot": "/bs/"}},
                "/bs/": {"handler": "storage-memory", "deletable": True},
            },
        }
        environ = {"HOME": str(tmp_path), "USER": "u"}
        config = load.from_values(values, environ)
        bound = socket.create_server(("127.0.0.1", 0))
        with (
            serving(config, tmp_path, environ, bound) as server,
            remote_to(server.url, "userpass:alice:secret") as remote,
        ):
            assert remote.has_stream
            yield remote


def test_blobs_come_back_in_the_order_asked_for(remote: Remote) -> None:
    sent = [*blobs(300, 3_000), *blobs(3, 1_000_000, seed=2), (Ref.of(b""), b"")]
    assert [found.ref for found in remote.receive_many(sent)] == [ref for ref, _ in sent]
    random.Random(3).shuffle(sent)
    assert list(remote.fetch_many(ref for ref, _ in sent)) == sent


def test_readers_that_pause_do_not_hold_up_others(remote: Remote) -> None:
    sent = blobs(120, 100_000)
    remote.receive_many(sent)
    stream = stream_of(remote)
    paused = stream.fetch_many([ref for ref, _ in sent])
    assert next(paused) == sent[0]
    for _ in range(2):
        assert list(stream.fetch_many([ref for ref, _ in sent])) == sent
    assert [*paused] == sent[1:]


def test_a_reader_may_go_away(remote: Remote) -> None:
    sent = blobs(120, 100_000)
    remote.receive_many(sent)
    stream = stream_of(remote)
    for _ in range(20):
        leaving = stream.fetch_many([ref for ref, _ in sent])
        assert next(leaving) == sent[0]
        del leaving
    assert list(stream.fetch_many([ref for ref, _ in sent])) == sent


def test_an_absent_blob_is_its_error_among_others(remote: Remote) -> None:
    sent = blobs(30, 10)
    remote.receive_many(sent)
    absent = Ref.of(b"nobody has this")
    refs = [ref for ref, _ in sent]
    found = dict(stream_of(remote).fetch_many([*refs[:9], absent, *refs[9:]]))
    assert isinstance(found.pop(absent), NotFound)
    assert found == dict(sent)
    with pytest.raises(NotFound):
        stream_of(remote).fetch(absent)


def test_bytes_that_do_not_match_are_refused_and_the_others_stored(remote: Remote) -> None:
    sent = blobs(20, 100)
    wrong = Ref.of(b"other bytes")
    answers = stream_of(remote).put_many([*sent[:7], (wrong, b"wrong"), *sent[7:]])
    errors = {found.ref: error for found, error in answers if error is not None}
    assert list(errors) == [wrong]
    assert isinstance(errors[wrong], Invalid)
    assert len(list(stream_of(remote).stat([wrong, *(ref for ref, _ in sent)]))) == 20


def test_a_file_is_read_in_order_from_any_byte(remote: Remote) -> None:
    content = random.Random(5).randbytes(3_000_000)
    made: list[Blob] = []
    ref = write_file(lambda ref, data: made.append((ref, data)), [content], {}).ref
    remote.receive_many(made)
    for offset, length in [(0, None), (1_234_567, None), (500_000, 777), (3_000_000, None)]:
        end = None if length is None else offset + length
        position, came = offset, b""
        for chunk in stream_of(remote).read_file(ref, offset, length):
            assert chunk.offset == position
            assert chunk.data is not None
            came += chunk.data
            position += chunk.length
        assert came == content[offset:end]
    with pytest.raises(NotFound):
        list(stream_of(remote).read_file(Ref.of(b"no file")))


def test_compressed_on_the_way_and_whole_at_both_ends(server: RunningServer, line: Cable) -> None:
    text = [(Ref.of(data), data) for data in (b"%d " % n * 50_000 for n in range(40))]
    sent = text + blobs(10, 100_000, seed=7)
    with remote_to(line.url, server.auth, compress=3) as remote:
        remote.receive_many(sent)
        up_bytes = line.up_bytes
        assert list(remote.fetch_many([ref for ref, _ in sent])) == sent
    size = sum(len(data) for _, data in sent)
    assert 1_000_000 < up_bytes < size / 2
    assert 1_000_000 < line.down_bytes < size / 2


def test_without_the_right_to_upload_every_blob_is_refused(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Auth, "allows", lambda _, __, needed: needed != Right.UPLOAD)
    with remote_to(server.url, server.auth) as remote, pytest.raises(Forbidden):
        remote.receive_many(blobs(3, 10))


def test_wrong_credentials_open_nothing(server: RunningServer) -> None:
    transport = Transport(server.url, "userpass:alice:wrong")
    with pytest.raises(Forbidden):
        Stream(transport, "/bs/camli/stream").open()


def test_no_stream_there_is_unsupported(server: RunningServer) -> None:
    transport = Transport(server.url, server.auth)
    with pytest.raises(Unsupported):
        Stream(transport, "/nothing/camli/stream").open()


def test_where_no_websocket_gets_through_requests_do_it(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Stream) -> None:
        raise Unsupported("open stream to", self, "426 Upgrade Required")

    monkeypatch.setattr(Stream, "open", refused)
    sent = blobs(40, 100, seed=11)
    with remote_to(server.url, server.auth) as remote:
        remote.receive_many(sent)
        assert list(remote.fetch_many([ref for ref, _ in sent])) == sent
        assert not remote.has_stream


def test_after_cuts_everything_goes_on_where_it_was(remote: Remote, line: Cable) -> None:
    sent = blobs(400, 50_000, seed=8)
    dice = random.Random(9)
    line.on_cut = lambda: line.up_bytes + line.down_bytes + dice.randint(100_000, 5_000_000)
    line.cut_after = 1_500_000
    stream = stream_of(remote)
    assert [error for _, error in stream.put_many(sent) if error is not None] == []
    up_bytes, cuts = line.up_bytes, stream.connections - 1
    assert all(found == blob for found, blob in zip(fetched(stream, sent), sent, strict=True))
    line.cut_after = None
    assert cuts >= 3
    assert stream.connections - 1 - cuts >= 3
    assert up_bytes < 400 * 50_000 + (cuts + 1) * 4_300_000


def test_a_server_that_is_gone_is_unavailable_and_one_that_returns_is_used(
    remote: Remote, line: Cable
) -> None:
    sent = blobs(20, 1000, seed=12)
    stream = stream_of(remote)
    stream.put_many(sent)
    line.refuse()
    with pytest.raises(Unavailable):
        stream.fetch(sent[0][0])
    line.accept()
    assert stream.fetch(sent[0][0]) == sent[0][1]


def test_a_line_that_dies_silently_is_given_up(
    server: RunningServer, line: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half open: nothing comes, and nobody says so. The heartbeat tells."""
    monkeypatch.setattr("peatkeep.blobserver.wire.connection.SILENT_BEATS", 0.02)
    monkeypatch.setattr("peatkeep.blobserver.remote.link.TICK_S", 0.05)
    with remote_to(line.url, server.auth) as remote:
        stream = stream_of(remote)
        sent = blobs(20, 1000, seed=13)
        line.silence()
        threading.Timer(0.6, line.accept).start()
        assert [error for _, error in stream.put_many(sent)] == [None] * 20
        assert stream.connections > 1


def test_uploads_that_nobody_answers_end(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server lives, answers pings, and acknowledges nothing."""
    for name in ("go", "_keep_the_rest"):
        monkeypatch.setattr(f"peatkeep.server.streamput.Putting.{name}", lambda _: None)
    monkeypatch.setattr("peatkeep.blobserver.remote.link.TICK_S", 0.05)
    with remote_to(server.url, server.auth, patience_s=0.2) as remote:
        answers = stream_of(remote).put_many(blobs(3, 1000, seed=14))
    assert [type(error) for _, error in answers] == [Unavailable] * 3


def test_close_ends_what_runs(remote: Remote, line: Cable) -> None:
    stream = stream_of(remote)
    remote.receive_many(blobs(3, 1000, seed=15))
    line.silence()
    waiting = threading.Timer(0.1, stream.close)
    waiting.start()
    with pytest.raises(Unavailable):
        stream.fetch(Ref.of(b"whatever"))
    waiting.join()


def test_a_limit_is_kept_both_ways(server: RunningServer, line: Cable) -> None:
    sent = blobs(6, 50_000, seed=16)
    waits_s: list[float] = []
    with remote_to(line.url, server.auth, up_bytes_s=400_000, down_bytes_s=400_000) as remote:
        stream = stream_of(remote)
        for work in (
            lambda: stream.put_many(sent),
            lambda: list(stream.fetch_many([ref for ref, _ in sent])),
        ):
            began = time.monotonic()
            work()
            waits_s.append(time.monotonic() - began)
    # 300 kB at 400 kB/s, a burst and what the system holds apart. Never too slow to pass.
    assert min(waits_s) > 0.35


def test_a_limit_is_kept_by_requests_of_all_threads_together(server: RunningServer) -> None:
    sent = blobs(6, 50_000, seed=19)
    wanted = Line(up_bytes_s=400_000, down_bytes_s=400_000, over_stream=False)
    transport = Transport(server.url, server.auth, line=wanted)
    refs = [ref for ref, _ in sent]
    with Remote.on(transport, discover(transport), line=wanted) as remote:
        assert not remote.has_stream
        for work in (
            lambda: remote.receive_many(sent),
            lambda: list(remote.fetch_many(refs)),  # in one answer
            lambda: list(ThreadPoolExecutor(3).map(remote.fetch, refs)),
        ):
            began = time.monotonic()
            work()
            # As above: never too slow to pass.
            assert time.monotonic() - began > 0.35


def test_a_store_of_a_configuration_uses_the_stream_where_there_is_one(
    server: RunningServer,
) -> None:
    for path in ("", "/bs-and-maybe-also-index/", "/sto-nowhere/"):
        args = {"url": server.url + path, "auth": server.auth, "skipStartupCheck": True}
        with open_storage("storage-remote", args, lambda _: Memory()) as store:
            assert isinstance(store, Remote)
            asked: list[str] = []
            store.transport.on_request = lambda _, path, asked=asked: asked.append(path)
            if path == "/sto-nowhere/":
                with pytest.raises(StoreError):
                    store.receive_many(blobs(20, 100, seed=20))
                continue
            sent = blobs(20, 100, seed=21)
            store.receive_many(sent)
            assert list(store.fetch_many([ref for ref, _ in sent])) == sent
            assert len(asked) == 1  # discovery
            assert store.has_stream
