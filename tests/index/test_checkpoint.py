"""Checkpoints of an index: whole, or refused."""

import gzip
from collections.abc import Iterator

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.errors import Corrupt, Unavailable
from peatkeep.index.checkpoint import MAGIC, export_rows, import_rows
from peatkeep.index.index import Index
from peatkeep.index.rows import IN_USE, STATE_KEY, have_key
from peatkeep.sorted.kv import Batch
from peatkeep.sorted.memory import MemoryKeyValue


def filled(count: int) -> MemoryKeyValue:
    rows, batch = MemoryKeyValue(), Batch()
    batch.set(b"schemaversion", b"5")
    for number in range(count):
        batch.set(b"row|%07d" % number, b"v" * (number % 300))
    rows.commit(batch)
    return rows


def test_rows_come_back_as_they_were() -> None:
    rows, copy = filled(25_000), MemoryKeyValue()
    assert import_rows(export_rows(rows), copy) == 25_001
    assert dict(copy.find()) == dict(rows.find()) | {STATE_KEY: IN_USE}


@pytest.mark.parametrize("piece_size", [1, 7, 4096])
def test_pieces_may_be_of_any_size(piece_size: int) -> None:
    rows, copy = filled(200), MemoryKeyValue()
    whole = b"".join(export_rows(rows))
    pieces = (whole[at : at + piece_size] for at in range(0, len(whole), piece_size))
    assert import_rows(pieces, copy) == 201


def test_a_checkpoint_is_of_one_moment() -> None:
    rows, copy = filled(200_000), MemoryKeyValue()
    pieces = export_rows(rows)
    first = [next(pieces), next(pieces)]
    rows.set(b"row|z", b"later")
    import_rows([*first, *pieces], copy)
    assert copy.get(b"row|z") is None


def damaged() -> Iterator[tuple[str, bytes]]:
    whole = b"".join(export_rows(filled(1000)))
    for cut in (0, 5, len(MAGIC), 20, len(whole) // 2, len(whole) - 1):
        yield f"cut at {cut}", whole[:cut]
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    yield "flipped", bytes(flipped)
    yield "longer", whole + b"x"
    yield "another format", b"pkindex9" + whole[8:]
    end = b"\0" * 8 + (1).to_bytes(8, "big")
    yield "a row is missing", MAGIC + gzip.compress(end)
    yield "no end", MAGIC + gzip.compress(b"\0\0\0\1\0\0\0\1kv")
    yield "over the limits", MAGIC + gzip.compress(b"\0\1\0\0" * 2 + b"x" * 70000)
    yield "no index", MAGIC + gzip.compress(b"\0\0\0\1\0\0\0\1kv" + end)
    yield "rows behind the end", MAGIC + gzip.compress(end[:8] + b"\0" * 8 + b"x" * 2_000_000)


@pytest.mark.parametrize(("name", "whole"), list(damaged()), ids=dict(damaged()))
def test_a_damaged_checkpoint_is_refused_and_leaves_no_rows(name: str, whole: bytes) -> None:
    rows = MemoryKeyValue()
    with pytest.raises(Corrupt, match="import checkpoint"):
        import_rows([whole], rows)
    assert list(rows.find()) == []


def test_a_source_that_fails_leaves_no_rows() -> None:
    def failing() -> Iterator[bytes]:
        yield next(iter(export_rows(filled(10))))
        raise Unavailable("fetch", "checkpoint")

    rows = MemoryKeyValue()
    with pytest.raises(Unavailable):
        import_rows(failing(), rows)
    assert list(rows.find()) == []


def test_an_index_from_a_checkpoint_indexes_what_came_after_it() -> None:
    blobs, rows, copy = Memory(), MemoryKeyValue(), MemoryKeyValue()
    early, late = Ref.of(b"early"), Ref.of(b"late")
    index = Index(rows, blobs)
    blobs.receive(early, b"early")
    index.receive([(early, b"early")])
    pieces = list(export_rows(rows))
    blobs.receive(late, b"late")
    import_rows(pieces, copy)
    assert copy.get(have_key(early)) is not None
    Index(copy, blobs)
    assert copy.get(have_key(late)) is not None
