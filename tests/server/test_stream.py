"""The stream: what is put is there, what is asked comes, and what breaks the rules is told."""

import os
from collections.abc import Iterator

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.wire import Code, Item, events

from .running import RunningServer
from .streaming import StreamClient, streaming


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
