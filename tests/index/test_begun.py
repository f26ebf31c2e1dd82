"""Digests of files that were begun while their chunks arrived."""

import hashlib
import random
from collections.abc import Iterable
from itertools import islice

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.receive import receive_many
from peatkeep.index import begun
from peatkeep.index.begun import MARKED_CHUNKS, MOST_PASSED, Begun
from peatkeep.index.index import Index
from peatkeep.schema.chunker import FIRST_CHUNK_SIZE
from peatkeep.schema.filereader import Leaf
from peatkeep.schema.filewriter import write_file
from peatkeep.schema.parse import is_schema
from peatkeep.sorted.memory import MemoryKeyValue

Chunk = tuple[Ref, bytes]


def chunks(count: int, seed: int = 1) -> list[Chunk]:
    """As of a file: the first one is of the length that all writers give it."""
    dice = random.Random(seed)
    made = [dice.randbytes(FIRST_CHUNK_SIZE), *(dice.randbytes(100) for _ in range(count - 1))]
    return [(Ref.of(data), data) for data in made]


def leaves(file: Iterable[Chunk]) -> list[Leaf]:
    return [Leaf(ref, 0, len(data), 0) for ref, data in file]


def known_of(store: Begun, file: list[Chunk]) -> int:
    """How many chunks of the file are in the digest that was begun; it is right."""
    left = iter(leaves(file))
    digest, taken = store.digest(left)
    rest = [*taken, *left]
    data = dict(file)
    for leaf in rest:
        assert leaf.ref is not None
        digest.update(data[leaf.ref])
    assert digest.hexdigest() == hashlib.sha224(b"".join(d for _, d in file)).hexdigest()
    return len(file) - len(rest)


def met(*files: Iterable[Chunk]) -> Begun:
    store = Begun()
    for file in files:
        for chunk in file:
            store.add(*chunk)
    return store


def test_a_file_is_known_up_to_the_last_mark() -> None:
    file = chunks(3 * MARKED_CHUNKS + 7)
    assert known_of(met(file), file) == 3 * MARKED_CHUNKS


def test_the_file_may_go_on() -> None:
    file = chunks(3 * MARKED_CHUNKS)
    assert known_of(met(file[: MARKED_CHUNKS + 9]), file) == MARKED_CHUNKS


@pytest.mark.parametrize("place", [0, 1, 70, 2 * MARKED_CHUNKS - 1])
def test_what_is_another_file_from_some_chunk_on_is_not_taken_for_it(place: int) -> None:
    file = chunks(2 * MARKED_CHUNKS)
    other = [*file[:place], chunks(2, seed=2)[1], *file[place + 1 :]]
    assert known_of(met(file), other) == place // MARKED_CHUNKS * MARKED_CHUNKS


def test_a_part_of_a_chunk_is_not_the_chunk() -> None:
    file = chunks(MARKED_CHUNKS)
    store = met(file)
    whole = leaves(file)
    for cut in (whole[5]._replace(offset=1), whole[5]._replace(length=99), Leaf(None, 0, 100, 0)):
        left = iter([*whole[:5], cut, *whole[6:]])
        digest, taken = store.digest(left)
        assert digest.hexdigest() == hashlib.sha224().hexdigest()
        assert [*taken, *left] == [*whole[:5], cut, *whole[6:]]


def test_what_begins_as_no_long_file_does_is_not_digested() -> None:
    file = chunks(2 * MARKED_CHUNKS)[1:]
    assert known_of(met(file), file) == 0


def test_files_one_after_the_other_are_known_while_each_is_asked_for() -> None:
    store = Begun()
    for seed in range(3):
        file = chunks(MARKED_CHUNKS, seed)
        for chunk in file:
            store.add(*chunk)
        assert known_of(store, file) == MARKED_CHUNKS


def test_files_that_nobody_asks_for_are_left_alone_more_and_more() -> None:
    store = Begun()
    known = []
    for seed in range(40):
        file = chunks(MARKED_CHUNKS, seed)
        for chunk in file:
            store.add(*chunk)
        known.append(store._run is not None)
    begun_at = [number for number, is_begun in enumerate(known) if is_begun]
    assert begun_at == [0, 2, 6, 14, 14 + MOST_PASSED]


def test_the_marks_of_a_very_long_file_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begun, "MARKED_CHUNKS", 2)
    monkeypatch.setattr(begun, "MOST_MARKS", 8)
    file = chunks(1000)
    store = met(file)
    assert store._run is not None
    assert len(store._run.marks) <= 9
    assert known_of(store, file) >= 850


class Read(Memory):
    """Counts what is read of it, in bytes."""

    read_bytes = 0

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        self.read_bytes += length
        return super().read_range(ref, offset, length)


def test_an_index_digests_a_long_file_as_it_arrives() -> None:
    data = random.Random(5).randbytes(24 * 1024 * 1024)
    stored = Read()
    rows = MemoryKeyValue()
    index = Index(rows, stored, recent_bytes=4 * 1024 * 1024)
    blobs: list[Chunk] = []
    written = write_file(lambda ref, blob: blobs.append((ref, blob)), [data], {"fileName": "long"})
    left = iter(blobs)
    while batch := list(islice(left, 20)):
        receive_many(stored, batch)
        index.receive(batch)
    # Some chunks begin as schema blobs do.
    assert any(blob[:1] == b"{" and not is_schema(blob) for _, blob in blobs)
    run = index._recent.begun._run
    assert run is not None
    assert run.was_used
    assert stored.read_bytes < 8 * 1024 * 1024  # from the last mark to what is kept
    assert rows.get(f"wholetofile|{written.whole_ref}|{written.ref}".encode()) == b"1"
