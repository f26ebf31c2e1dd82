"""The stream: what is put is there, what is asked comes, and what breaks the rules is told."""

import os
import random
import threading
from collections.abc import Iterator, Mapping, Sequence

import pytest
import zstandard
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect
from websockets.typing import Origin

from peatkeep.blob import Ref
from peatkeep.blobserver.storage import Storage
from peatkeep.blobserver.wire import (
    BULK,
    FEATURE_ZSTD,
    INTERACTIVE,
    ClientMachine,
    Code,
    Hello,
    Item,
    Violation,
    Zstd,
    events,
    pack,
    unpack,
)
from peatkeep.errors import StoreError
from peatkeep.schema.text import encode
from peatkeep.server import streamput
from peatkeep.server.streamput import CHECKED_AHEAD_BYTES
from peatkeep.server.uploads import receive_all
from tests.waiting import GUARD_S, wait_until

from .running import RunningServer
from .stored import file, put, store_of
from .streaming import PLACE, StreamClient, streaming


@pytest.fixture
def client(server: RunningServer) -> Iterator[StreamClient]:
    with streaming(server) as client:
        yield client


def test_blobs_are_acknowledged_and_are_there_by_plain_http(
    server: RunningServer, client: StreamClient
) -> None:
    blobs = [os.urandom(1000 + number) for number in range(30)]
    assert set(client.settle(client.put(*blobs)).values()) == {None}
    for data in blobs:
        assert server.ask("GET", f"/bs/camli/{Ref.of(data)}").body == data


def test_a_blob_without_hurry_is_acknowledged_after_a_moment(client: StreamClient) -> None:
    assert client.settle(client.put(os.urandom(100), no_rush=True)).popitem()[1] is None


def test_a_blob_of_the_largest_size_goes_in_and_out(client: StreamClient) -> None:
    data = os.urandom(16 * 1024 * 1024)
    client.settle(client.put(data))
    blob, done = client.answers(client.machine.fetch([Ref.of(data)]))
    assert isinstance(blob, events.Blob)
    assert blob.data == data
    assert done == events.Done(blob.request, stopped=False)


def test_wrong_bytes_are_refused_and_the_others_are_stored(client: StreamClient) -> None:
    good = client.put(b"good 1", b"good 2")
    bad = client.machine.put(Ref.of(b"what it says"), b"what it is")
    found = client.settle([*good, bad])
    assert [found[request] for request in good] == [None, None]
    failed = found[bad]
    assert failed is not None
    assert failed.code == Code.MISMATCH
    asked = client.machine.stat([Ref.of(b"good 1"), Ref.of(b"what it says"), Ref.of(b"good 2")])
    assert client.answers(asked) == [events.Sizes(asked, 0, [6, None, 6], True)]


def test_what_comes_while_a_batch_is_stored_is_checked_meanwhile(
    client: StreamClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, checked_ahead = threading.Event(), threading.Event()
    check = streamput.check_all
    stored: list[list[Ref]] = []

    def held_up(storage: Storage, blobs: Sequence[tuple[Ref, bytes]]) -> Mapping[Ref, StoreError]:
        stored.append([ref for ref, _ in blobs])
        goes_on.wait(GUARD_S)
        return receive_all(storage, blobs)

    def noted(puts: Sequence[events.Put]) -> streamput.Checked:
        checked = check(puts)
        if checked.refused:
            checked_ahead.set()
        return checked

    monkeypatch.setattr(streamput, "receive_all", held_up)
    monkeypatch.setattr(streamput, "check_all", noted)
    client.run(lambda event: isinstance(event, events.Welcome))
    first = client.put(b"a batch of its own")
    client.send()
    wait_until(lambda: bool(stored))
    large = [os.urandom(CHECKED_AHEAD_BYTES) for _ in range(2)]
    good = client.put(large[0], no_rush=True)
    bad = client.machine.put(Ref.of(b"what it says"), large[0], no_rush=True)
    good += client.put(large[1])
    client.send()
    assert checked_ahead.wait(GUARD_S)
    assert len(stored) == 1
    goes_on.set()
    found = client.settle([*first, *good, bad])
    assert [found[request] for request in (*first, *good)] == [None] * 3
    failed = found[bad]
    assert failed is not None
    assert failed.code == Code.MISMATCH
    assert [ref for batch in stored[1:] for ref in batch] == [Ref.of(data) for data in large]


def test_what_is_not_there_is_an_error_of_its_item_alone(client: StreamClient) -> None:
    client.settle(client.put(b"here"))
    refs = [Ref.of(b"missing"), Ref.of(b"here")]
    answers = client.answers(client.machine.fetch(refs))
    kinds = {type(answer) for answer in answers}
    assert kinds == {events.Failed, events.Blob, events.Done}
    failed = next(answer for answer in answers if isinstance(answer, events.Failed))
    assert (failed.item, failed.code) == (0, Code.NOT_FOUND)


def test_ranges_are_cut_at_the_end_of_the_blob(client: StreamClient) -> None:
    client.settle(client.put(b"0123456789"))
    ref = Ref.of(b"0123456789")
    items = [Item(ref, 2, 3), Item(ref, 8, 100), Item(ref, 10, 1), Item(ref, 11, 1), Item(ref)]
    answers = client.answers(client.machine.fetch(items))
    found = {answer.item: answer.data for answer in answers if isinstance(answer, events.Blob)}
    assert found == {0: b"234", 1: b"89", 2: b"", 4: b"0123456789"}
    failed = next(answer for answer in answers if isinstance(answer, events.Failed))
    assert (failed.item, failed.code) == (3, Code.MALFORMED)


# -- files ----------------------------------------------------------------------------------------


def read_back(answers: list[events.Event], size: int, begin: int = 0) -> bytes:
    """What the placed blobs and holes of an answer make of a file, from `begin` on."""
    content = bytearray(b"?" * size)
    for answer in answers:
        if isinstance(answer, events.Hole):
            content[answer.offset : answer.offset + answer.length] = bytes(answer.length)
        elif isinstance(answer, events.Blob) and answer.place is not None:
            offset, start, length = answer.place
            assert Ref.of(answer.data) == answer.ref
            content[offset : offset + length] = answer.data[start : start + length]
    return bytes(content[begin:])


@pytest.fixture(scope="module")
def large(server: RunningServer) -> tuple[Ref, bytes]:
    """A file of many chunks, in more than one level."""
    content = random.Random(3).randbytes(6_000_000)
    return file(store_of(server), "large", content), content


def test_a_file_comes_in_order_without_its_chunks_being_known(
    client: StreamClient, large: tuple[Ref, bytes]
) -> None:
    ref, content = large
    answers = client.answers(client.machine.read_file(ref))
    blobs = [answer for answer in answers if isinstance(answer, events.Blob)]
    assert [blob.item for blob in blobs] == list(range(len(blobs)))
    offsets = [blob.place.offset for blob in blobs if blob.place is not None]
    assert offsets == sorted(offsets)
    assert len(offsets) == len(blobs) > 50
    assert read_back(answers, len(content)) == content


def test_of_a_range_of_a_file_only_its_chunks_come(
    client: StreamClient, large: tuple[Ref, bytes]
) -> None:
    ref, content = large
    answers = client.answers(client.machine.read_file(ref, 1_000_000, 300_000))
    found = read_back(answers, 1_300_000, 1_000_000)
    assert found == content[1_000_000:1_300_000]
    assert sum(len(one.data) for one in answers if isinstance(one, events.Blob)) < 1_000_000


def test_names_come_without_bytes(client: StreamClient, large: tuple[Ref, bytes]) -> None:
    ref, content = large
    answers = client.answers(client.machine.read_file(ref, names_only=True))
    blobs = [answer for answer in answers if isinstance(answer, events.Blob)]
    assert {blob.data for blob in blobs} == {b""}
    assert sum(blob.size for blob in blobs) == len(content)


def test_schema_blobs_come_before_what_they_describe_the_root_first(
    client: StreamClient, large: tuple[Ref, bytes]
) -> None:
    ref, content = large
    answers = client.answers(client.machine.read_file(ref, with_schema=True))
    blobs = [answer for answer in answers if isinstance(answer, events.Blob)]
    assert (blobs[0].ref, blobs[0].is_schema) == (ref, True)
    described = b""
    for blob in blobs:
        assert blob.ref == ref or blob.ref.encode() in described
        described += blob.data if blob.is_schema else b""
    assert sum(blob.is_schema for blob in blobs) > 1
    assert read_back(answers, len(content)) == content


def test_a_hole_is_told_and_not_sent(server: RunningServer, client: StreamClient) -> None:
    chunk = put(store_of(server), b"bytes after it")
    parts = [{"size": 5000}, {"size": 5, "blobRef": chunk, "offset": 6}]
    ref = put(store_of(server), encode({"camliType": "file", "fileName": "f", "parts": parts}))
    hole, blob, _ = client.answers(client.machine.read_file(ref))
    assert hole == events.Hole(blob.request, 0, 5000)  # type: ignore[union-attr]
    assert isinstance(blob, events.Blob)
    assert blob.place == (5000, 6, 5)
    assert blob.data == b"bytes after it"


@pytest.mark.parametrize("names_only", [False, True])
def test_what_comes_before_a_missing_chunk_is_right(
    server: RunningServer, client: StreamClient, *, names_only: bool
) -> None:
    chunk = put(store_of(server), b"it is there")
    missing = Ref.of(b"it is not")
    parts = [{"size": 11, "blobRef": chunk}, {"size": 9, "blobRef": missing}]
    ref = put(store_of(server), encode({"camliType": "file", "fileName": "f", "parts": parts}))
    blob, failed = client.answers(client.machine.read_file(ref, names_only=names_only))
    assert isinstance(blob, events.Blob)
    assert blob.ref == chunk
    assert isinstance(failed, events.Failed)
    assert (failed.item, failed.code) == (None, Code.NOT_FOUND)


def test_a_chunk_shorter_than_the_file_says_is_damage(
    server: RunningServer, client: StreamClient
) -> None:
    chunk = put(store_of(server), b"short")
    parts = [{"size": 50, "blobRef": chunk}]
    # The index would refuse it.
    plain = server.service.world.topology.storage("/bs/")
    ref = put(plain, encode({"camliType": "file", "fileName": "f", "parts": parts}))
    (failed,) = client.answers(client.machine.read_file(ref))
    assert isinstance(failed, events.Failed)
    assert failed.code == Code.DAMAGED


def test_what_is_no_file_is_an_error_of_the_request(client: StreamClient) -> None:
    client.settle(client.put(b"no file"))
    (failed,) = client.answers(client.machine.read_file(Ref.of(b"no file")))
    assert isinstance(failed, events.Failed)
    assert failed.code == Code.MALFORMED


# -- compression ----------------------------------------------------------------------------------


def test_a_blob_that_shrinks_travels_compressed_to_who_can_unpack_it(
    server: RunningServer,
) -> None:
    text, noise = b"again and again " * 4000, os.urandom(64_000)
    with streaming(server, Hello(features=FEATURE_ZSTD)) as client:
        packed = pack(Zstd(), text)
        assert packed.packed
        ref = Ref.of(text)
        request = client.machine.put(ref, packed.data, size=len(text), packed=True)
        client.settle([request, *client.put(noise)])
        asked = client.machine.fetch([ref, Ref.of(noise)])
        shrunk, plain, _ = client.answers(asked)
    assert isinstance(shrunk, events.Blob)
    assert isinstance(plain, events.Blob)
    assert (shrunk.packed, plain.packed) == (True, False)
    assert len(shrunk.data) < 1000
    assert unpack(Zstd(), shrunk.data, shrunk.size) == text
    assert plain.data == noise


def packed(size: int, *, tells_size: bool = True) -> bytes:
    """One frame that unpacks to zeros."""
    made = zstandard.ZstdCompressor(write_content_size=tells_size)
    if tells_size:
        return made.compress(bytes(size))
    open_end = made.compressobj()
    return open_end.compress(bytes(size)) + open_end.flush()


@pytest.mark.parametrize(
    "data",
    [
        b"no zstd",
        packed(100_000)[:-1],
        packed(99_999),
        packed(99_999, tells_size=False),
        packed(100_001, tells_size=False),
        packed(200_000_000),  # which nobody may unpack to find out
        packed(200_000_000, tells_size=False),
        packed(50_000) + packed(50_000),
        packed(100_000) + b"more",
    ],
    ids=len,
)
def test_compressed_bytes_that_are_not_what_they_say_are_refused(
    client: StreamClient, data: bytes
) -> None:
    request = client.machine.put(Ref.of(bytes(100_000)), data, size=100_000, packed=True)
    failed = client.settle([request])[request]
    assert failed is not None
    assert failed.code == Code.MISMATCH


# -- order ----------------------------------------------------------------------------------------


def test_an_interactive_read_overtakes_a_bulk_fetch(
    server: RunningServer, large: tuple[Ref, bytes]
) -> None:
    small = put(store_of(server), b"wanted at once")
    with streaming(server, Hello(window=4 * 1024 * 1024)) as client:
        bulk = client.machine.read_file(large[0], priority=BULK)
        client.send()
        urgent = client.machine.fetch([small], priority=INTERACTIVE)
        came = client.answers(urgent)
        assert len(came) == 2
        before = [e for e in client.events if isinstance(e, events.Blob) and e.request == bulk]
        assert sum(len(blob.data) for blob in before) < len(large[1])
        client.answers(bulk)


def test_a_stopped_request_ends_at_once(server: RunningServer, large: tuple[Ref, bytes]) -> None:
    with streaming(server, Hello(window=1024 * 1024)) as client:
        request = client.machine.read_file(large[0])
        client.run(lambda event: isinstance(event, events.Blob))
        client.machine.stop(request)
        answers = client.answers(request)
        assert answers == [events.Done(request, stopped=True)]
        # The connection goes on.
        assert isinstance(client.answers(client.machine.stat([large[0]]))[0], events.Sizes)


def test_a_stopped_item_is_answered_so_and_the_others_come(server: RunningServer) -> None:
    store = store_of(server)
    blobs = [os.urandom(200_000) for _ in range(20)]
    refs = [put(store, data) for data in blobs]
    with streaming(server, Hello(window=1024 * 1024)) as client:
        request = client.machine.fetch(refs)
        client.send()
        client.machine.stop(request, refs[10:])
        answers = client.answers(request)
        stopped = {a.item for a in answers if isinstance(a, events.Failed)}
        found = {a.item: a.data for a in answers if isinstance(a, events.Blob)}
        assert stopped == set(range(10, 20))
        assert found == dict(enumerate(blobs[:10]))


def test_many_questions_at_a_time_all_have_their_answers(server: RunningServer) -> None:
    store = store_of(server)
    blobs = [os.urandom(random.Random(n).randint(0, 3000)) for n in range(300)]
    refs = [put(store, data) for data in blobs]
    with streaming(server) as client:
        client.run(lambda event: isinstance(event, events.Welcome))
        asked = {}
        for begin in range(0, 300, 5):
            items = refs[begin : begin + 5]
            asked[client.machine.fetch(items, priority=begin % 3)] = blobs[begin : begin + 5]
        ended: set[int] = set()

        def all_ended(event: events.Event) -> bool:
            if isinstance(event, events.Done):
                ended.add(event.request)
            return len(ended) == len(asked)

        came = client.run(all_ended)
    for request, expected in asked.items():
        mine = [e for e in came if isinstance(e, events.Blob) and e.request == request]
        assert [blob.data for blob in sorted(mine, key=lambda blob: blob.item)] == expected


# -- rights ---------------------------------------------------------------------------------------


def test_a_page_of_another_site_can_not_open_a_stream(server: RunningServer) -> None:
    with (
        pytest.raises(InvalidStatus) as refused,
        connect(
            f"ws://{server.host}{PLACE}",
            additional_headers=server.headers,
            origin=Origin("https://evil.example"),
            proxy=None,
        ),
    ):
        pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("auth", ["", "alice:wrong"])
def test_nobody_opens_a_stream_without_the_password(server: RunningServer, auth: str) -> None:
    with pytest.raises(InvalidStatus) as refused, streaming(server, auth=auth):
        pass
    assert refused.value.response.status_code == 401


def test_what_is_no_handshake_is_told_so(server: RunningServer) -> None:
    reply = server.ask("GET", PLACE)
    assert reply.status == 400
    assert b"Not a websocket handshake" in reply.body


def test_the_restricted_password_uploads_and_reads_but_subscribes_to_nothing(
    server: RunningServer,
) -> None:
    with streaming(server, auth="alice:vivpass") as client:
        assert set(client.settle(client.put(b"restricted")).values()) == {None}
        request = client.machine.subscribe(1)
        (failed,) = client.answers(request)
        assert isinstance(failed, events.Failed)
        assert failed.code == Code.FORBIDDEN


# -- what breaks the rules ------------------------------------------------------------------------


HELLO_FRAME = ClientMachine(0.0).next_message()
assert HELLO_FRAME is not None
STOP_UNKNOWN = b"\x15\x00" + bytes(4) + b"\x00\x00\x00\x03abc"


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([b""], Violation.MALFORMED),
        ([b"\xff" * 10], Violation.MALFORMED),
        ([HELLO_FRAME[:-1]], Violation.MALFORMED),
        ([STOP_UNKNOWN], Violation.ORDER),
        ([HELLO_FRAME, HELLO_FRAME], Violation.ORDER),
        ([HELLO_FRAME, b"\x20\x00" + bytes(8)], Violation.ORDER),
        ([HELLO_FRAME, bytes(1024 * 1024)], Violation.MALFORMED),
        ([HELLO_FRAME, bytes(1024 * 1024 + 1)], 1009),
        ([HELLO_FRAME.replace(b"pkst\0\x01\0\x01", b"pkst\0\x02\0\x03")], Violation.VERSION),
    ],
    ids=["empty", "junk", "cut", "no hello", "two hellos", "no client's", "zeros", "long", "new"],
)
def test_a_violation_closes_the_stream_with_its_code(
    server: RunningServer, messages: list[bytes], code: int
) -> None:
    with streaming(server) as client:
        for message in messages:
            client.socket.send(message)
        assert client.closed() == code


def test_a_text_message_is_not_understood(client: StreamClient) -> None:
    client.socket.send("hello")
    assert client.closed() == 1003


def test_a_message_in_fragments_is_one_message(client: StreamClient) -> None:
    assert HELLO_FRAME is not None
    client.socket.send([HELLO_FRAME[:5], HELLO_FRAME[5:]])
    client.socket.send(b"\x02\x00" + bytes(4) + b"\0\0\0\x08" + b"12345678")
    frames = b""
    while b"12345678" not in frames:
        message = client.socket.recv(timeout=GUARD_S)
        assert isinstance(message, bytes)
        frames += message


def test_a_message_that_comes_in_parts_is_whole_whatever_others_send_between(
    server: RunningServer, client: StreamClient
) -> None:
    client.settle(client.put(b"the handshake is over"))
    requests = client.put(*(os.urandom(size) for size in (70_000, 90_000, 100)))
    message = client.machine.next_message()
    assert message is not None
    wire = Frame(Opcode.BINARY, message).serialize(mask=True)
    with streaming(server) as other:
        for begin in range(0, len(wire), 40_001):
            client.socket.socket.sendall(wire[begin : begin + 40_001])
            sent = other.put(os.urandom(60_000), os.urandom(300))
            assert set(other.settle(sent).values()) == {None}
    assert set(client.settle(requests).values()) == {None}


def test_an_upload_beyond_the_window_is_a_violation(client: StreamClient) -> None:
    assert HELLO_FRAME is not None
    client.socket.send(HELLO_FRAME)
    ref = Ref.of(b"x").encode()
    head = (3_000_000).to_bytes(4, "big") + len(ref).to_bytes(2, "big") + ref
    for request in (1, 2):
        # Two begun blobs, in different classes.
        frame = bytes((0x10, request)) + request.to_bytes(4, "big")
        client.socket.send(frame + (len(head) + 1).to_bytes(4, "big") + head + b"x")
    assert client.closed() == Violation.LIMIT


def test_after_a_goodbye_what_has_begun_is_answered(server: RunningServer) -> None:
    with streaming(server) as client:
        requests = client.put(b"before the goodbye", os.urandom(500_000), no_rush=True)
        asked = client.machine.stat([Ref.of(b"nothing")])
        client.send()
        client.machine.goodbye()
        client.send()
        assert client.closed() == 1000
    stored = {r for e in client.events if isinstance(e, events.Stored) for r in e.requests}
    assert stored == set(requests)
    assert any(isinstance(e, events.Sizes) and e.request == asked for e in client.events)
