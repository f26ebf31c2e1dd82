"""What the two machines promise, one thing at a time."""

import tracemalloc

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.wire import (
    BULK,
    INTERACTIVE,
    TOPIC_BLOBS,
    Code,
    Hello,
    Place,
    ProtocolViolation,
    Refusal,
    ServerMachine,
    Violation,
    Zstd,
    connection,
    events,
    frames,
    pack,
    unpack,
)
from peatkeep.blobserver.wire.window import Window
from peatkeep.errors import Corrupt, Invalid, TooLarge, Unavailable
from tests.blobserver.wire.simulation import BLOBS, MIB, Line, blob_bytes

SMALL = Ref.of(b"\2" * 300)
BIG = b"b" * (8 * MIB)


@pytest.fixture
def line() -> Line:
    made = Line()
    made.settle()
    made.client_events.clear()
    made.server_events.clear()
    return made


def test_hellos_tell_the_limits() -> None:
    line = Line(Hello(window=2 * MIB, name="s"))
    line.settle()
    assert [e.hello.name for e in line.client_events] == ["s"]
    assert line.client.peer.window == 2 * MIB


def test_a_client_may_send_before_the_hello_of_the_server() -> None:
    line = Line()
    line.client.put(SMALL, BLOBS[SMALL])
    while line.send("client"):
        line.deliver("client")
    assert [put.ref for put in line.take(events.Put)] == [SMALL]


def test_a_blob_larger_than_the_window_waits_for_the_hello() -> None:
    line = Line()
    line.client.put(Ref.of(BIG), BIG)
    while line.send("client"):
        line.deliver("client")
    assert not line.server._unfinished
    line.settle()
    (put,) = line.take(events.Put)
    assert put.data == BIG


def test_many_uploads_are_acknowledged_by_one_frame(line: Line) -> None:
    numbers = [line.client.put(SMALL, BLOBS[SMALL], no_rush=True) for _ in range(50)]
    line.settle()
    assert all(put.no_rush for put in line.server_events)
    line.server.ack(numbers)
    line.settle()
    assert line.client_events == [events.Stored(tuple(numbers))]
    assert line.client.pending() == []


def test_no_more_than_a_window_of_uploads_is_unanswered(line: Line) -> None:
    data = b"x" * 100_000
    for _ in range(40):
        line.client.put(Ref.of(data), data)
    line.settle()
    puts = line.take(events.Put)
    assert len(puts) == MIB // (100_000 + 256)
    line.server.ack([puts[0].request])
    line.settle()
    assert len(line.take(events.Put)) == 1


def test_put_refuses_when_too_much_waits(line: Line) -> None:
    while line.client.room > 0:
        line.client.put(SMALL, BLOBS[SMALL])
    with pytest.raises(Unavailable):
        line.client.put(SMALL, BLOBS[SMALL])


def test_an_interactive_read_overtakes_within_a_bulk_blob(line: Line) -> None:
    bulk = line.client.fetch([Ref.of(BIG)], priority=BULK)
    line.settle()
    line.server.send_blob(bulk, 0, BIG)
    line.server.done(bulk)
    line.send("server")
    line.deliver("server")
    urgent = line.client.fetch([SMALL], priority=INTERACTIVE)
    while line.send("client"):
        line.deliver("client")
    line.server.send_blob(urgent, 0, BLOBS[SMALL])
    line.server.done(urgent)
    line.send("server")
    line.deliver("server")
    assert [type(e) for e in line.client_events] == [events.Blob, events.Done]
    line.settle()
    assert line.take(events.Blob)[-1].data == BIG


def test_bulk_without_credit_does_not_stop_an_interactive_read(line: Line) -> None:
    bulk = line.client.fetch([Ref.of(BIG)] * 2, priority=BULK)
    urgent = line.client.fetch([SMALL], priority=INTERACTIVE)
    line.settle()
    line.server.send_blob(bulk, 0, BIG)
    line.server.send_blob(bulk, 1, BIG)
    line.settle()
    assert line.server.has_output
    line.server.send_blob(urgent, 0, BLOBS[SMALL])
    line.settle()
    assert line.take(events.Blob)[-1].request == urgent


def test_after_stop_no_piece_of_the_request_leaves(line: Line) -> None:
    request = line.client.fetch([Ref.of(BIG), SMALL])
    line.settle()
    line.server.send_blob(request, 0, BIG)
    line.send("server")
    line.client.stop(request)
    line.send("client")
    line.deliver("client")
    assert line.take(events.Stop) == [events.Stop(request, [])]
    assert not line.server.send_blob(request, 1, BLOBS[SMALL])
    before = len(line.wire)
    line.settle()
    assert sum(blob_bytes(m) for end, m in line.wire[before:] if end == "server") == 0
    assert line.take(events.Done) == [events.Done(request, True)]


def test_one_item_is_stopped_and_the_others_come(line: Line) -> None:
    request = line.client.fetch([Ref.of(BIG), SMALL, Ref.of(BIG)])
    line.settle()
    line.server.send_blob(request, 0, BIG)
    line.send("server")
    line.client.stop(request, [Ref.of(BIG)])
    line.settle()
    line.server.send_blob(request, 1, BLOBS[SMALL])
    assert not line.server.send_blob(request, 2, BIG)
    line.server.done(request)
    line.settle()
    assert {(e.item, e.code) for e in line.take(events.Failed)} == {(0, 499), (2, 499)}
    assert [blob.item for blob in line.take(events.Blob)] == [1]
    assert line.take(events.Done) == [events.Done(request, False)]


def test_stop_also_ends_what_the_server_had_answered_but_not_sent(line: Line) -> None:
    request = line.client.fetch([Ref.of(BIG)] * 2)
    line.settle()
    for item in range(2):
        line.server.send_blob(request, item, BIG)
    line.server.done(request)
    line.send("server")
    line.client.stop_all()
    line.settle()
    assert line.take(events.Done) == [events.Done(request, True)]
    assert line.client.can_ask
    assert not line.server.has_output


def test_stop_and_done_may_cross(line: Line) -> None:
    request = line.client.fetch([SMALL])
    line.settle()
    line.server.send_blob(request, 0, BLOBS[SMALL])
    line.server.done(request)
    line.send("server")
    line.client.stop(request)
    line.settle()
    assert line.take(events.Done) == [events.Done(request, False)]


def test_an_upload_that_is_refused_early_is_not_sent_to_its_end() -> None:
    line = Line(Hello(window=MIB))
    line.server = ServerMachine(line.server.hello, 0.0, refusal=Refusal(403, "read only"))
    line.settle()
    request = line.client.put(Ref.of(BIG), BIG)
    for end in ("client", "server"):
        line.send(end)
        line.deliver(end)
    line.settle()
    (failed,) = line.take(events.Failed)
    assert failed == events.Failed(request, None, 403, "read only")
    assert sum(len(m) for end, m in line.wire if end == "client") < MIB
    assert not line.server._unfinished


def test_a_withdrawn_upload_is_answered_as_stopped(line: Line) -> None:
    request = line.client.put(Ref.of(BIG), BIG)
    line.send("client")
    assert not line.client.withdraw(request)
    line.settle()
    assert [failed.code for failed in line.take(events.Failed)] == [499]
    waiting = line.client.put(SMALL, BLOBS[SMALL])
    assert line.client.withdraw(waiting)
    assert line.client.pending() == []


def test_sizes_come_in_the_order_asked(line: Line) -> None:
    request = line.client.stat([SMALL, Ref.of(BIG)])
    line.settle()
    line.server.sizes(request, [300])
    line.server.sizes(request, [None])
    line.settle()
    assert line.take(events.Sizes) == [
        events.Sizes(request, 0, [300], False),
        events.Sizes(request, 1, [None], True),
    ]


def test_a_file_comes_as_chunks_and_holes_in_order(line: Line) -> None:
    request = line.client.read_file(SMALL, 10, names_only=False, with_schema=True)
    line.settle()
    (asked,) = line.take(events.ReadFile)
    assert (asked.ref, asked.offset, asked.length, asked.with_schema) == (SMALL, 10, None, True)
    line.server.send_blob(request, 0, b"{}", ref=SMALL, is_schema=True)
    line.server.send_blob(request, 1, b"abc", ref=Ref.of(b"abc"), place=Place(10, 1, 2))
    line.server.send_hole(request, 12, 5)
    line.server.send_name(request, 2, SizedRef(SMALL, 300), Place(17, 0, 300))
    line.server.error(request, 409, "damaged")
    line.settle()
    schema, chunk, hole, name, failed = line.client_events
    assert (schema.is_schema, schema.place, schema.data) == (True, None, b"{}")
    assert (chunk.ref, chunk.place) == (Ref.of(b"abc"), Place(10, 1, 2))
    assert hole == events.Hole(request, 12, 5)
    assert (name.size, name.data, name.place) == (300, b"", Place(17, 0, 300))
    assert failed == events.Failed(request, None, 409, "damaged")


def test_a_subscription_goes_on_until_goodbye(line: Line) -> None:
    request = line.client.subscribe(TOPIC_BLOBS, b"c0")
    line.settle()
    assert line.take(events.Subscribe) == [events.Subscribe(request, TOPIC_BLOBS, b"c0")]
    line.server.arrived(request, b"c1", [])
    line.server.arrived(request, b"c2", [SizedRef(SMALL, 300)])
    line.server.changed(request, b"c3", b"{}")
    line.server.goodbye(0, "restart")
    line.settle()
    assert line.client_events == [
        events.Arrived(request, b"c1", []),
        events.Arrived(request, b"c2", [SizedRef(SMALL, 300)]),
        events.Changed(request, b"c3", b"{}"),
        events.Leaving(0, "restart"),
        events.Done(request, False),
    ]
    assert line.client.is_finished
    assert line.server.is_finished


def test_a_goodbye_of_the_server_finishes_what_has_begun_and_refuses_the_rest(line: Line) -> None:
    data = b"x" * 600_000
    first = line.client.put(Ref.of(data), data)
    second = line.client.put(Ref.of(data), data)
    line.send("client", 10_000)
    line.deliver("client")
    asked = line.client.stat([SMALL])
    line.server.goodbye()
    line.settle()
    (put,) = line.take(events.Put)
    assert put.request == first
    assert {(e.request, e.code) for e in line.take(events.Failed)} == {(second, 503), (asked, 503)}
    assert not line.server.is_finished
    line.server.ack([first])
    line.settle()
    assert line.client.is_finished
    assert line.server.is_finished
    with pytest.raises(Unavailable):
        line.client.put(SMALL, BLOBS[SMALL])


def test_heartbeats_keep_an_idle_line_and_find_a_dead_one(line: Line) -> None:
    for second in range(200):
        line.now = float(second)
        line.client.tick(line.now)
        line.server.tick(line.now)
        line.settle()
    with pytest.raises(ProtocolViolation) as caught:
        line.server.tick(line.now + 61)
    assert caught.value.close_code == Violation.SILENCE


def test_acknowledgements_that_never_come_end_the_patience(line: Line) -> None:
    line.client.put(SMALL, BLOBS[SMALL])
    for second in range(120):
        line.now = float(second)
        line.client.tick(line.now)
        line.server.tick(line.now)
        line.settle()
    line.server.tick(121)
    line.settle()
    with pytest.raises(ProtocolViolation) as caught:
        line.client.tick(121)
    assert caught.value.close_code == Violation.SILENCE


def pass_time(line: Line, start: int, end: int) -> None:
    """Heartbeats go on; nothing else happens."""
    for second in range(start, end):
        line.now = float(second)
        line.client.tick(line.now)
        line.server.tick(line.now)
        line.settle()


def test_a_question_that_is_never_answered_ends_the_patience(line: Line) -> None:
    line.client.stat([SMALL])
    pass_time(line, 0, 120)
    line.now = 121.0
    line.server.tick(line.now)
    line.settle()
    with pytest.raises(ProtocolViolation, match="no question answered") as caught:
        line.client.tick(line.now)
    assert caught.value.close_code == Violation.SILENCE


def test_a_subscription_may_be_silent_for_ever(line: Line) -> None:
    line.client.subscribe(TOPIC_BLOBS)
    pass_time(line, 0, 1000)


def test_an_answer_to_one_question_is_patience_for_the_others(line: Line) -> None:
    first, second = line.client.stat([SMALL]), line.client.stat([SMALL])
    pass_time(line, 0, 100)
    line.server.sizes(first, [None])
    line.settle()
    pass_time(line, 101, 200)
    line.server.sizes(second, [None])
    line.settle()
    assert [event.request for event in line.client_events] == [first, second]


def test_a_reader_who_holds_what_came_is_no_reason_to_give_the_server_up(line: Line) -> None:
    request = line.client.fetch([SMALL, Ref.of(b"another")])
    line.settle()
    line.server.send_blob(request, 0, BLOBS[SMALL])
    line.settle()
    pass_time(line, 0, 500)
    (came,) = [event for event in line.client_events if isinstance(event, events.Blob)]
    line.client.release(came)
    pass_time(line, 501, 600)
    line.server.error(request, Code.NOT_FOUND, "not there", item=1)
    line.settle()
    assert isinstance(line.client_events[-1], events.Failed)


def test_tiny_pieces_cost_no_more_than_their_bytes(line: Line) -> None:
    data = bytes(200_000)
    filler = frames.frame(frames.STOP, 0, 99, frames.lines_body([SMALL] * 1000))
    tiny = frames.frame(frames.DATA, 0, 1, b"\0") * 10 + filler
    tracemalloc.start()
    line.server.receive(frames.put_head(1, 0, Ref.of(data), len(data), 0), 0.0)
    for _ in range(100):
        line.server.receive(bytes(bytearray(tiny)), 0.0)  # each time bytes of its own
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2 * MIB


def test_an_uploader_that_reads_no_acknowledgements_is_cut_off(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FLOOD_BYTES", 40_000)
    empty = Ref.of(b"")
    message = b"".join(frames.put_head(n, 4, empty, 0, 0) for n in range(1, 2001))
    with pytest.raises(ProtocolViolation) as caught:  # noqa: PT012 - it is the loop that ends so
        for _ in range(200):
            puts = line.server.receive(message, 0.0)
            line.server.ack([put.request for put in puts])
    assert caught.value.close_code == Violation.FLOOD


def test_a_peer_that_asks_without_reading_is_cut_off(line: Line) -> None:
    ping = frames.frame(frames.PING, 0, 0, bytes(8)) * 50_000
    line.server.receive(ping, 0.0)
    with pytest.raises(ProtocolViolation) as caught:
        line.server.receive(ping, 0.0)
    assert caught.value.close_code == Violation.FLOOD


def test_too_many_items_or_requests_are_not_sent(line: Line) -> None:
    with pytest.raises(TooLarge):
        line.client.stat([SMALL] * 1001)
    while line.client.can_ask:
        line.client.stat([SMALL])
    with pytest.raises(Unavailable):
        line.client.stat([SMALL])


def test_the_server_must_answer_each_item_once(line: Line) -> None:
    request = line.client.fetch([SMALL])
    line.settle()
    with pytest.raises(Invalid):
        line.server.done(request)
    line.server.send_blob(request, 0, BLOBS[SMALL])
    with pytest.raises(Invalid):
        line.server.send_blob(request, 0, BLOBS[SMALL])
    with pytest.raises(Invalid):
        line.server.ack([request])


def test_a_packed_blob_travels_packed(line: Line) -> None:
    codec = Zstd()
    data = b"peat" * 10_000
    packed = pack(codec, data)
    assert packed.packed
    line.client.put(Ref.of(data), packed.data, size=len(data), packed=True)
    line.settle()
    (put,) = line.take(events.Put)
    assert unpack(codec, put.data, put.size) == data
    with pytest.raises(Corrupt):
        unpack(codec, put.data, put.size - 1)
    with pytest.raises(Corrupt):
        unpack(codec, b"no frame", 5)


def test_what_does_not_shrink_stays_as_it_is() -> None:
    assert pack(Zstd(), b"a") == (b"a", False)
    assert pack(None, BIG) == (BIG, False)


def test_the_window_becomes_what_the_line_holds() -> None:
    window = Window(MIB, 16 * MIB)
    window.round_trip(0.1)
    now = 0.0
    for _ in range(2000):  # 20 MB/s for 10 s
        now += 0.005
        window.arrived(100_000, now)
    assert 2_000_000 <= window.target_bytes <= 3_000_000
