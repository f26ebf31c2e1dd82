"""The stream's client: subscriptions, servers that fail, and what is seen on the wire."""

import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from peatkeep.blob import Ref
from peatkeep.blobserver.remote import FREE_LINE, Remote, Transport, discover
from peatkeep.blobserver.remote.dialogue import Upload
from peatkeep.blobserver.remote.stream import Stream
from peatkeep.blobserver.wire import TOPIC_BLOBS, TOPIC_CHANGES, events
from peatkeep.errors import Invalid, NotFound, Unavailable
from peatkeep.schema.filewriter import write_file
from tests.e2e.machine import Machine
from tests.independent import stream as independent
from tests.independent.websocket import messages
from tests.proxy import Line as Cable
from tests.server.running import RunningServer
from tests.server.streaming import PLACE
from tests.waiting import GUARD_S, wait_until

from .remotes import Blob, blobs, remote_to, stream_of

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
    assert any(
        ref in {found.ref for found in event.blobs}
        for event in staying
        if isinstance(event, events.Arrived)
    )
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
    told = (event.change for event in changes if isinstance(event, events.Changed))
    assert any(ref in json.loads(change)["indexed"] for change in told)
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
    killed, answered = threading.Event(), threading.Semaphore(0)
    uploads: list[Upload] = []
    sent: list[Ref] = []

    def done(upload: Upload) -> None:
        uploads.append(upload)
        answered.release()

    def put_until_killed(stream: Stream) -> None:
        dice, last = random.Random(25), 20
        while last:
            last -= killed.is_set()
            data = dice.randbytes(20_000)
            sent.append(Ref.of(data))
            stream.put([(sent[-1], data)], done, no_rush=True)

    transport = Transport(server.url, auth, retry_waits_s=(0.1,) * 1200)
    with Remote.on(transport, discover(transport), line=FREE_LINE) as remote:
        stream = stream_of(remote)
        putting = threading.Thread(target=put_until_killed, args=(stream,))
        putting.start()
        try:
            for _ in range(40):
                assert answered.acquire(timeout=GUARD_S)
            server.kill()
            stored = {upload.ref for upload in uploads}
            killed.set()
            server = machine.start_server()
            assert {found.ref for found in remote.stat(stored)} == stored
            putting.join(GUARD_S)
            for _ in range(len(sent) - 40):
                assert answered.acquire(timeout=GUARD_S)
        finally:
            killed.set()
            putting.join(GUARD_S)
            server.stop()
    assert {upload.error for upload in uploads} == {None}
    assert {upload.ref for upload in uploads} == set(sent)
    assert stream.connections > 1


def test_what_is_put_while_the_stream_closes_is_answered(remote: Remote) -> None:
    stream = stream_of(remote)
    stream.close()
    told: list[Upload] = []
    stream._dialogue.put(Upload(Ref.of(b"x"), b"x", told.append))  # by who found it open before
    with pytest.raises(Unavailable):
        stream.open()
    assert [type(upload.error) for upload in told] == [Unavailable]


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
