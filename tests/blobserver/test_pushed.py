"""Blobs that a server sends before they are asked for: nothing of them is believed."""

import random
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.remote import FREE_LINE, Remote, Transport
from peatkeep.blobserver.remote.pushed import Arrival, Pushed
from peatkeep.errors import Corrupt, NotFound
from peatkeep.schema.filereader import FileReader
from peatkeep.schema.filewriter import write_file
from tests.proxy import line_to
from tests.server.running import running_server

SCHEMA = [b"schema %d" % n for n in range(3)]
CHUNKS = [b"chunk %d" % n for n in range(5)]


class Others(Memory):
    """A store that notes what is fetched of it alone."""

    def __init__(self, blobs: Iterable[bytes] = ()) -> None:
        super().__init__()
        self.receive_many([(Ref.of(data), data) for data in blobs])
        self.asked: list[Ref] = []

    def fetch(self, ref: Ref) -> bytes:
        self.asked.append(ref)
        return super().fetch(ref)


def arrivals(blobs: Iterable[bytes], ended: list[bool] | None = None) -> Generator[Arrival]:
    try:
        for data in blobs:
            yield Arrival(Ref.of(data), data, data in SCHEMA)
    finally:
        if ended is not None:
            ended.append(True)


def chunks(pushed: Pushed, wanted: Iterable[bytes]) -> Iterator[object]:
    return (found for _, found in pushed.fetch_many(Ref.of(data) for data in wanted))


def test_what_comes_in_order_is_asked_for_by_nobody() -> None:
    others = Others()
    pushed = Pushed(arrivals([SCHEMA[0], SCHEMA[1], *CHUNKS[:2], SCHEMA[2], *CHUNKS[2:]]), others)

    def refs() -> Iterator[Ref]:
        for describing, described in ((0, CHUNKS[:2]), (1, []), (2, CHUNKS[2:])):
            assert pushed.fetch(Ref.of(SCHEMA[describing])) == SCHEMA[describing]
            yield from map(Ref.of, described)

    assert [found for _, found in pushed.fetch_many(refs())] == CHUNKS
    assert others.asked == []


def test_what_nobody_asked_for_is_passed_over() -> None:
    pushed = Pushed(arrivals([*CHUNKS[:2], SCHEMA[0], *CHUNKS[2:]]), Others())
    assert list(chunks(pushed, [CHUNKS[1], CHUNKS[4]])) == [CHUNKS[1], CHUNKS[4]]
    assert pushed.fetch(Ref.of(SCHEMA[0])) == SCHEMA[0]


def test_what_does_not_come_is_fetched() -> None:
    others = Others([SCHEMA[0], CHUNKS[0], CHUNKS[3]])
    pushed = Pushed(arrivals([CHUNKS[1]]), others)
    assert pushed.fetch(Ref.of(SCHEMA[0])) == SCHEMA[0]
    assert list(chunks(pushed, [CHUNKS[1], CHUNKS[0]])) == [CHUNKS[1], CHUNKS[0]]
    assert others.asked == [Ref.of(SCHEMA[0]), Ref.of(CHUNKS[0])]
    (missing,) = chunks(pushed, [CHUNKS[2]])
    assert isinstance(missing, NotFound)
    with pytest.raises(NotFound):
        pushed.fetch(Ref.of(SCHEMA[1]))


def test_damage_is_told_to_who_asks_for_the_blob() -> None:
    damaged = [Ref.of(SCHEMA[0]), Ref.of(CHUNKS[0])]

    def some() -> Generator[Arrival]:
        yield Arrival(damaged[0], Corrupt("fetch", damaged[0]), True)
        yield Arrival(damaged[1], Corrupt("fetch", damaged[1]), False)
        yield Arrival(Ref.of(CHUNKS[1]), CHUNKS[1], False)

    pushed = Pushed(some(), Others())
    with pytest.raises(Corrupt):
        pushed.fetch(damaged[0])
    found, last = chunks(pushed, CHUNKS[:2])
    assert isinstance(found, Corrupt)
    assert last == CHUNKS[1]


def test_who_stops_reading_ends_what_comes() -> None:
    ended: list[bool] = []
    with Pushed(arrivals(CHUNKS, ended), Others()) as pushed:
        assert next(chunks(pushed, CHUNKS)) == CHUNKS[0]
    assert ended == [True]


def test_a_stretch_of_a_file_comes_through_cuts_by_one_question_each(tmp_path: Path) -> None:
    content = random.Random(5).randbytes(6_000_000)
    made: list[tuple[Ref, bytes]] = []
    ref = write_file(lambda ref, data: made.append((ref, data)), [content], {}).ref
    with running_server(tmp_path) as server, line_to(server.url, delay_s=0.03) as line:
        transport = Transport(server.url, server.auth)
        Remote(transport).receive_many(made)
        transport = Transport(line.url, server.auth, retry_waits_s=(0.01, 0.1, 0.5))
        requests: list[str] = []
        transport.on_request = lambda _, path: requests.append(path)
        with Remote(transport, line=FREE_LINE) as remote:
            line.on_cut = lambda: line.down_bytes + line.up_bytes + 1_300_000
            line.cut_after = 1_300_000
            pushed = remote.push_file(ref, 500_000, 5_000_000)
            assert pushed is not None
            with pushed:
                leaves = FileReader(pushed, ref).chunks(500_000, 5_000_000)
                refs = (leaf.ref for leaf in leaves if leaf.ref is not None)
                found = list(pushed.fetch_many(refs))
            line.cut_after = None
            assert line.connections > 2
    whole = dict(made)
    assert found == [(ref, whole[ref]) for ref, _ in found]
    assert sum(len(whole[ref]) for ref, _ in found) >= 5_000_000
    assert not [path for path in requests if "sha224" in path]
