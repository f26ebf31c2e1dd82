"""The stream's client against our server: it keeps the promises of a storage, also after cuts."""

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zstandard

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.conformance import StorageSuite
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.remote import FREE_LINE, Line, Remote, Transport, discover
from peatkeep.blobserver.remote.dialogue import Upload
from peatkeep.blobserver.remote.stream import Stream
from peatkeep.blobserver.storage import Storage
from peatkeep.blobserver.wire import TOPIC_BLOBS, TOPIC_CHANGES, events
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
from tests.e2e.machine import Machine
from tests.independent import stream as independent
from tests.independent.websocket import messages
from tests.proxy import Line as Cable
from tests.proxy import line_to
from tests.server.running import RunningServer, running_server, serving
from tests.server.streaming import PLACE
from tests.waiting import GUARD_S, wait_until

Blob = tuple[Ref, bytes]


def blobs(count: int, size: int, seed: int = 1) -> list[Blob]:
    dice = random.Random(seed)
    return [(Ref.of(data), data) for data in (dice.randbytes(size) for _ in range(count))]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def line(server: RunningServer) -> Iterator[Cable]:
    with line_to(server.url) as line:
        yield line


def remote_to(url: str, auth: str, **settings: object) -> Remote:
    transport = Transport(url, auth, retry_waits_s=(0.01, 0.1, 0.5))
    wanted = FREE_LINE._replace(**settings)  # type: ignore[arg-type]
    return Remote.on(transport, discover(transport), line=wanted)


@pytest.fixture
def remote(server: RunningServer, line: Cable) -> Iterator[Remote]:
    with remote_to(line.url, server.auth) as remote:
        yield remote


def fetched(stream: Stream, sent: list[Blob]) -> Iterator[object]:
    return stream.fetch_many([ref for ref, _ in sent])


def stream_of(remote: Remote) -> Stream:
    stream = remote.open_stream()
    assert stream is not None
    return stream


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


# -- subscriptions --------------------------------------------------------------------------------


def test_a_subscriber_hears_of_each_blob_also_after_a_cut(
    server: RunningServer, remote: Remote, line: Cable
) -> None:
    sent = dict(blobs(20, 100, seed=22))
    stream, heard, cursor = stream_of(remote), set[Ref](), b""
    arrivals = stream.watch()
    first = next(arrivals)
    assert isinstance(first, events.Arrived)
    assert first.blobs == []
    for number, (ref, data) in enumerate(sent.items()):
        if number == 10:
            line.cut()
        server.upload("/bs-and-maybe-also-index/", data)
        while ref not in heard:
            event = next(arrivals)
            assert isinstance(event, events.Arrived)
            heard |= {found.ref for found in event.blobs}
            cursor = cursor or event.cursor
    arrivals.close()
    assert stream.connections == 2
    # Another who has dealt with the first alone hears of all others.
    heard.clear()
    arrivals = stream.watch(cursor=cursor)
    while not heard >= set(list(sent)[1:]):
        event = next(arrivals)
        assert isinstance(event, events.Arrived)
        heard |= {found.ref for found in event.blobs}
    arrivals.close()


def test_who_watches_may_stop_and_others_go_on(server: RunningServer, remote: Remote) -> None:
    stream = stream_of(remote)
    leaving, staying = stream.watch(), stream.watch()
    assert next(leaving).cursor
    assert next(staying).cursor
    leaving.close()
    ((ref, data),) = blobs(1, 100, seed=23)
    server.upload("/bs-and-maybe-also-index/", data)
    event = next(staying)
    assert isinstance(event, events.Arrived)
    assert [found.ref for found in event.blobs] == [ref]
    staying.close()


def test_a_cursor_of_another_time_is_gone(remote: Remote) -> None:
    with pytest.raises(NotFound):
        next(stream_of(remote).watch(cursor=b"long ago"))


def test_changes_are_watched_where_there_is_an_index(remote: Remote) -> None:
    stream = stream_of(remote)
    changes = stream.watch(TOPIC_CHANGES)
    assert isinstance(next(changes), events.Arrived)
    made: list[Blob] = []
    ref = write_file(lambda ref, data: made.append((ref, data)), [b"a file"], {}).ref
    remote.receive_many(made)
    event = next(changes)
    assert isinstance(event, events.Changed)
    assert json.loads(event.change) == {"indexed": [ref]}
    changes.close()


# -- faults of servers ----------------------------------------------------------------------------


def test_a_server_that_stops_reading_costs_bounded_memory(
    remote: Remote, line: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peatkeep.blobserver.remote.stream.UNANSWERED_BYTES", 3_000_000)
    stream = stream_of(remote)
    assert [*stream.stat([Ref.of(b"nobody has this")])] == []
    line.silence()
    sent = blobs(80, 100_000, seed=24)
    putting = threading.Thread(target=stream.put_many, args=(sent,))
    putting.start()
    wait_until(lambda: stream._dialogue.unanswered_bytes > 3_000_000)
    assert stream._dialogue.unanswered_bytes <= 3_100_000
    line.cut()
    line.accept()
    putting.join(GUARD_S)
    assert len([*stream.stat(ref for ref, _ in sent)]) == len(sent)


def test_a_reader_that_rests_costs_bounded_memory(
    server: RunningServer, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peatkeep.blobserver.remote.questions.PILED_BYTES", 1_000_000)
    monkeypatch.setattr("peatkeep.blobserver.remote.questions.PILED_EVENTS", 3)
    content = random.Random(26).randbytes(8_000_000)
    made: list[Blob] = []
    ref = write_file(lambda ref, data: made.append((ref, data)), [content], {}).ref
    told = {*dict(made), *(Ref.of(b"an event %d" % number) for number in range(20))}
    stream = stream_of(remote)
    arrivals = stream.watch()
    next(arrivals)
    remote.receive_many(made)
    reading = stream.read_file(ref)
    first = next(reading)
    question = reading.gi_frame.f_locals["reading"]
    # Others wait for blobs all the time, for whom what lies there is released.
    while not question.is_paused:
        assert stream.fetch(made[0][0]) == made[0][1]
    assert sum(came.blob.size for came in question.came) < 1_500_000
    assert b"".join([first.data or b"", *(chunk.data or b"" for chunk in reading)]) == content
    for number in range(20):
        server.upload("/bs-and-maybe-also-index/", b"an event %d" % number)
    heard: set[Ref] = set()
    while not heard >= told:
        event = next(arrivals)
        assert isinstance(event, events.Arrived)
        heard |= {found.ref for found in event.blobs}
    arrivals.close()


def test_a_server_killed_in_the_middle_of_a_batch_is_returned_to(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    server = machine.start_server()
    config = machine.home / ".config" / "peatkeep" / "client-config.json"
    auth = next(iter(json.loads(config.read_text())["servers"].values()))["auth"]
    sent = blobs(150, 20_000, seed=25)
    answered = threading.Semaphore(0)
    uploads: list[Upload] = []

    def done(upload: Upload) -> None:
        uploads.append(upload)
        answered.release()

    transport = Transport(server.url, auth, retry_waits_s=(0.1,) * 300)
    with Remote.on(transport, discover(transport), line=FREE_LINE) as remote:
        stream = stream_of(remote)
        is_killed = threading.Event()

        def put_all() -> None:
            for number, (ref, data) in enumerate(sent):
                if number == len(sent) - 10:
                    # However quick the server is, it has not answered all when it ends.
                    assert is_killed.wait(GUARD_S)
                stream.put(ref, data, done, no_rush=True)

        putting = threading.Thread(target=put_all)
        putting.start()
        try:
            for _ in range(40):
                assert answered.acquire(timeout=GUARD_S)
            server.kill()
            is_killed.set()
            stored = {upload.ref for upload in uploads}
            server = machine.start_server()
            assert set(remote.stat(stored)) >= {SizedRef(ref, 20_000) for ref in stored}
            for _ in range(len(sent) - 40):
                assert answered.acquire(timeout=GUARD_S)
        finally:
            putting.join(GUARD_S)
            server.stop()
    assert [upload.error for upload in uploads] == [None] * len(sent)
    assert stream.connections > 1


# -- the wire -------------------------------------------------------------------------------------


def test_a_captured_session_decodes_by_the_page_alone(server: RunningServer, line: Cable) -> None:
    """What a proxy has seen between our programs, read by who knows the page alone: every kind of
    frame that clients and servers send by themselves."""
    line.captured = []
    text = [(Ref.of(data), data) for data in (b"%d shrinks " % n * 5_000 for n in range(3))]
    sent = [*blobs(30, 20_000, seed=17), *blobs(2, 700_000, seed=18), *text]
    made: list[Blob] = []
    file = write_file(lambda ref, data: made.append((ref, data)), [b"x" * 3_000_000], {}).ref
    absent = Ref.of(b"nobody has this")
    with remote_to(line.url, server.auth, compress=1) as remote:
        stream = stream_of(remote)
        arrivals = stream.watch(TOPIC_BLOBS | TOPIC_CHANGES)
        next(arrivals)
        remote.receive_many(sent + made)
        seen: set[type] = set()
        while not {events.Arrived, events.Changed} <= seen:
            seen.add(type(next(arrivals)))
        arrivals.close()
        assert list(remote.fetch_many([ref for ref, _ in sent])) == sent
        assert len(list(stream.stat([sent[0][0], absent]))) == 1
        assert b"".join(c.data or b"" for c in stream.read_file(file)) == b"x" * 3_000_000
        (_, refused), *_ = stream.put_many([(absent, b"other bytes")])
        assert isinstance(refused, Invalid)
        reading = stream.read_file(file)
        next(reading)
        reading.close()
        assert stream.fetch(sent[0][0]) == sent[0][1]  # so the end of what was stopped has come
    frames = {
        way: [
            frame
            for message in messages(b"".join(d for w, d in line.captured if w == way), PLACE)
            for frame in independent.decode(message)
        ]
        for way in ("up", "down")
    }
    names = {way: {str(frame["type"]) for frame in frames[way]} for way in frames}
    asked = {"STAT", "FETCH", "FILE", "SUBSCRIBE", "STOP", "CREDIT"}
    assert names["up"] >= {"HELLO", "PUT", "DATA", "GOODBYE", *asked}
    answered = {"ACK", "ERROR", "SIZES", "BLOB", "DONE", "ARRIVED", "CHANGED"}
    assert names["down"] >= {"HELLO", "DATA", *answered}
    # The bytes, put together by the page, are what was sent.
    for way, kind in (("up", "PUT"), ("down", "BLOB")):
        whole = set(independent_blobs(frames[way], kind))
        assert whole >= {data for _, data in sent}, way
        assert any(frame.get("zstd") for frame in frames[way])


def independent_blobs(frames: list[dict[str, object]], kind: str) -> Iterator[bytes]:
    """Blobs of a direction, put together as STREAM.md says."""
    begun: dict[object, dict[str, object]] = {}
    for frame in frames:
        if frame["type"] == kind:
            begun[frame["request"]] = {**frame, "bytes": b""}
        elif frame["type"] != "DATA":
            continue
        blob = begun[frame["request"]]
        blob["bytes"] += bytes.fromhex(str(frame["piece"]))  # type: ignore[operator]
        if frame["end"] and not frame.get("abort"):
            data = blob["bytes"]
            assert isinstance(data, bytes)
            yield zstandard.decompress(data) if blob["zstd"] else data
