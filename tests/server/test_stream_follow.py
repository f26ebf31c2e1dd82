"""Subscriptions by the stream: what arrives is told, and nothing is lost by a cut."""

import os
from collections.abc import Iterator

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.wire import TOPIC_BLOBS, TOPIC_CHANGES, Code, events
from peatkeep.server.streamfollow import NO_TOPIC, refusal
from peatkeep.server.streamlog import Log, Logs

from .running import RunningServer
from .stored import claim, own_key, store_of
from .streaming import StreamClient, streaming


@pytest.fixture
def client(server: RunningServer) -> Iterator[StreamClient]:
    with streaming(server) as client:
        yield client


def first(client: StreamClient, topics: int, cursor: bytes = b"") -> tuple[int, events.Arrived]:
    """Subscribe; the request and the first answer."""
    request = client.machine.subscribe(topics, cursor)
    came = client.run(lambda event: isinstance(event, events.Arrived))
    return request, next(event for event in came if isinstance(event, events.Arrived))


def arrivals(client: StreamClient, wanted: set[Ref]) -> list[events.Arrived]:
    """What is told until all of these have been."""
    left = set(wanted)
    told: list[events.Arrived] = []

    def all_told(event: events.Event) -> bool:
        if isinstance(event, events.Arrived):
            told.append(event)
            left.difference_update(found.ref for found in event.blobs)
        return not left

    client.run(all_told)
    return told


def put(server: RunningServer, count: int, prefix: str = "/bs/") -> dict[Ref, bytes]:
    blobs = [os.urandom(100 + number) for number in range(count)]
    server.upload(prefix, *blobs)
    return {Ref.of(data): data for data in blobs}


def test_the_first_answer_is_the_cursor_of_now(client: StreamClient) -> None:
    _, welcome = first(client, TOPIC_BLOBS)
    assert welcome.blobs == []
    assert welcome.cursor


def test_a_blob_that_arrives_is_told_by_whatever_way_it_came(
    server: RunningServer, client: StreamClient
) -> None:
    first(client, TOPIC_BLOBS)
    blobs = put(server, 20) | put(server, 20, "/bs-and-maybe-also-index/")
    told = [found for each in arrivals(client, set(blobs)) for found in each.blobs]
    # The server's own blobs, such as its key, may still arrive, too.
    assert {r: len(d) for r, d in blobs.items()}.items() <= dict(told).items()


def test_many_arrivals_come_in_several_messages(
    server: RunningServer, client: StreamClient
) -> None:
    first(client, TOPIC_BLOBS)
    blobs = put(server, 1000)
    told = arrivals(client, set(blobs))
    assert len(told) > 2


def test_after_a_cut_a_subscriber_goes_on_where_it_was(server: RunningServer) -> None:
    """Nothing is missed; what came shortly before the cut may be told again (STREAM.md)."""
    with streaming(server) as client:
        first(client, TOPIC_BLOBS)
        seen = put(server, 5)
        cursor = arrivals(client, set(seen))[-1].cursor
    missed = put(server, 5)
    with streaming(server) as client:
        _, welcome = first(client, TOPIC_BLOBS, cursor)
        assert welcome.cursor == cursor
        later = put(server, 1)
        told = arrivals(client, set(missed | later))
        refs = {found.ref for each in told for found in each.blobs}
        assert set(missed | later) <= refs


@pytest.mark.parametrize("cursor", [b"x", b"n" * 24, b"n" * 1000])
def test_a_cursor_of_another_time_is_gone(client: StreamClient, cursor: bytes) -> None:
    (failed,) = client.answers(client.machine.subscribe(TOPIC_BLOBS, cursor))
    assert isinstance(failed, events.Failed)
    assert failed.code == Code.GONE


def test_without_an_index_there_are_no_changes_to_subscribe_to() -> None:
    logs = Logs([], None)
    assert refusal(TOPIC_CHANGES, logs, may_enumerate=True) == NO_TOPIC
    assert refusal(TOPIC_BLOBS | TOPIC_CHANGES, logs, may_enumerate=True) == NO_TOPIC
    assert refusal(TOPIC_BLOBS, logs, may_enumerate=True) is None


def test_changes_of_the_index_are_told(server: RunningServer, client: StreamClient) -> None:
    first(client, TOPIC_CHANGES)
    permanode = claim(store_of(server), own_key(server), {"camliType": "permanode", "random": "1"})
    came = client.run(
        lambda event: isinstance(event, events.Changed) and permanode.encode() in event.change
    )
    changed = [event for event in came if isinstance(event, events.Changed)]
    assert all(event.change.startswith(b'{"indexed":["sha224-') for event in changed)


def test_a_stopped_subscription_ends_and_another_goes_on(
    server: RunningServer, client: StreamClient
) -> None:
    request, _ = first(client, TOPIC_BLOBS)
    other, _ = first(client, TOPIC_BLOBS)
    client.machine.stop(request)
    assert client.answers(request)[-1] == events.Done(request, stopped=True)
    told = arrivals(client, set(put(server, 3)))
    assert {each.request for each in told} == {other}


# -- the log --------------------------------------------------------------------------------------


def refs(*names: str) -> list[Ref]:
    return [Ref.of(name.encode()) for name in names]


def test_the_log_tells_what_came_after_a_position() -> None:
    log = Log()
    log.add(refs("a", "b"))
    here = log.end
    log.add(refs("c"))
    assert log.after(here) == (refs("c"), here + 1)
    assert log.after(0, 1) == (refs("a"), 1)
    assert log.after(log.end) == ([], log.end)


def test_what_comes_again_is_told_at_its_last_place_alone() -> None:
    log = Log()
    log.add(refs("a", "b", "a"))
    assert log.after(0) == (refs("b", "a"), 3)


def test_a_forgotten_position_is_told_apart_from_an_empty_page() -> None:
    log = Log(kept=3)
    log.add(refs(*"abcdefgh"))
    assert log.after(0) is None
    assert log.after(99) is None
    assert log.after(log.end - 3) == (refs("f", "g", "h"), log.end)


def test_the_log_forgets_what_is_old() -> None:
    log = Log(kept=3)
    for number in range(100):
        log.add(refs(f"{number % 7}"))
    assert len(log._latest) <= 6
    assert len(log._refs) < 6
