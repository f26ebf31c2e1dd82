"""Rows that rotted in an index without checksums: named, never listed wrong, healed."""

from pathlib import Path

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.conformance import sample
from peatkeep.blobserver.diskpacked import DiskPacked
from peatkeep.blobserver.diskpacked.files import PackFileSystem
from peatkeep.blobserver.diskpacked.listing import listed
from peatkeep.blobserver.diskpacked.packs import Packs
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.replica import Replica
from peatkeep.errors import Corrupt, NotFound
from peatkeep.sorted.kv import Batch
from peatkeep.sorted.memory import MemoryKeyValue
from peatkeep.sorted.sqlite import SQLiteKeyValue

BLOBS = sample(12)
SIZES = sorted(SizedRef(ref, len(data)) for ref, data in BLOBS.items())
MIDDLE = SIZES[6].ref
NO_REF = b'sha224-"' + MIDDLE.encode()[8:]
ROW_COUNT = 5000
PLACES = [1, 30, 31, 32, 33, 95, 96, 2143, 2144, ROW_COUNT - 2]
"""Some at the edges of the pages of a listing."""


def opened(folder: Path) -> DiskPacked:
    rows = {"type": "sqlite", "file": str(folder / "rows.sqlite")}
    args = {"path": str(folder), "metaIndex": rows}
    store = open_storage("diskpacked", args, lambda _: Memory())
    assert isinstance(store, DiskPacked)
    return store


def change_rows(folder: Path, changes: dict[bytes, bytes | None]) -> None:
    rows = SQLiteKeyValue(folder / "rows.sqlite")
    batch = Batch()
    for key, value in changes.items():
        if value is None:
            batch.delete(key)
        else:
            batch.set(key, value)
    rows.commit(batch)
    rows.close()


def rename_in_file(folder: Path, old: bytes, new: bytes) -> None:
    """As rot does it: nothing else in the file changes."""
    file = folder / "rows.sqlite"
    data = file.read_bytes()
    assert old in data
    file.write_bytes(data.replace(old, new))


def names(store: DiskPacked) -> set[Ref | None]:
    return {found.ref for found in store.check() if not found.is_readable}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with opened(tmp_path) as store:
        store.receive_many(BLOBS.items())
    return tmp_path


@pytest.mark.parametrize("ref", [found.ref for found in SIZES])
def test_a_blob_that_lost_its_row_is_named_and_healed_by_storing_it(folder: Path, ref: Ref) -> None:
    with opened(folder) as store:
        change_rows(folder, {ref.encode(): None})
        with pytest.raises(NotFound):
            store.fetch(ref)
        assert names(store) == {ref}
        store.receive_many(BLOBS.items())
        assert names(store) == set()
        assert store.fetch(ref) == BLOBS[ref]
        assert list(store.enumerate()) == SIZES


def test_reindexing_gives_a_blob_its_row_back(folder: Path) -> None:
    with opened(folder) as store:
        change_rows(folder, {MIDDLE.encode(): None})
        found = store.reindex()
        assert (found.rows_set, found.damaged) == (1, [])
        assert store.fetch(MIDDLE) == BLOBS[MIDDLE]


def test_a_blob_that_waits_for_its_row_is_not_named(folder: Path) -> None:
    with opened(folder) as store:
        store.write_many([(Ref.of(b"new"), b"new")])
        assert names(store) == set()


def test_removed_blobs_are_not_named(folder: Path) -> None:
    with opened(folder) as store:
        store.remove([MIDDLE])
        assert names(store) == set()


@pytest.mark.parametrize("ref", [found.ref for found in SIZES])
def test_a_row_under_a_wrong_name_is_named_with_the_blob_that_lost_it(
    folder: Path, ref: Ref
) -> None:
    wrong = Ref(ref[:-1] + ("0" if ref[-1] != "0" else "1"))
    rename_in_file(folder, ref.encode(), wrong.encode())
    with opened(folder) as store:
        for absent in (ref, wrong):
            with pytest.raises((Corrupt, NotFound)):
                store.fetch(absent)
        assert names(store) == {ref, wrong}
        good = Memory()
        good.receive_many(BLOBS.items())
        Replica([store, good], min_writes=1).repair()
        assert {ref: store.fetch(ref) for ref in BLOBS} == BLOBS


def test_a_row_under_no_ref_is_named_and_not_listed(folder: Path) -> None:
    with opened(folder) as store:
        change_rows(folder, {NO_REF: b"0 100 10"})
        assert list(store.enumerate()) == SIZES
        assert names(store) == {None}


def test_closing_and_streaming_get_past_rows_under_no_refs(folder: Path) -> None:
    change_rows(folder, {NO_REF: b"0 100 10"})
    rename_in_file(folder, NO_REF, b"\xff" * len(NO_REF))
    with opened(folder) as store:
        pack = folder / "pack-00000.blobs"
        pack.write_bytes(pack.read_bytes().replace(MIDDLE.encode(), b"?" * len(MIDDLE)))
        assert {blob.ref: blob.data for blob in store.stream()} == BLOBS
    with opened(folder) as store:
        assert list(store.enumerate()) == SIZES


@pytest.mark.parametrize("letter", [b"\x01", b"~"])
@pytest.mark.parametrize("number", range(1, 11))
def test_an_index_out_of_order_is_set_aside_and_made_anew(
    folder: Path, number: int, letter: bytes
) -> None:
    key = SIZES[number].ref.encode()
    rename_in_file(folder, key, letter + key[1:])
    with opened(folder) as store:
        assert any("keys are out of order" in remark for remark in store.remarks)
        assert list(store.enumerate()) == SIZES
        assert {ref: store.fetch(ref) for ref in BLOBS} == BLOBS
        assert names(store) == set()


@pytest.fixture(scope="module")
def rows() -> list[tuple[bytes, bytes]]:
    refs = sorted(Ref.of(b"%d" % number) for number in range(ROW_COUNT))
    return [(ref.encode(), b"0 %d 5" % number) for number, ref in enumerate(refs)]


def listing(folder: Path, rows: list[tuple[bytes, bytes]], after: bytes = b"") -> list[bytes]:
    packs = Packs(str(folder), PackFileSystem())
    packs.set_end(0, 1 << 20)
    return [ref.encode() for ref, _ in listed(packs, MemoryKeyValue(), rows, after)]


def test_sound_rows_are_all_listed(tmp_path: Path, rows: list[tuple[bytes, bytes]]) -> None:
    old = [(f"sha1-{number:040x}".encode(), b"0 0 5") for number in range(100)]
    assert listing(tmp_path, old + rows) == [key for key, _ in old + rows]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:20] + b'"' + key[21:],
        lambda key: key[:20] + b"\n" + key[21:],
        lambda key: key[:20] + b"A" + key[21:],
        lambda key: key[:20] + b"\xb1" + key[21:],
        lambda key: b"sha22-" + key[6:],
        lambda key: key[:-1],
        lambda key: key + b"0",
        lambda key: b"",
    ],
)
def test_a_key_that_is_no_ref_is_left_out(
    tmp_path: Path, rows: list[tuple[bytes, bytes]], place: int, change: object
) -> None:
    assert callable(change)
    key, value = rows[place]
    rotten = [*rows[:place], (change(key), value), *rows[place + 1 :]]
    assert listing(tmp_path, rotten) == [key for key, _ in rows[:place] + rows[place + 1 :]]


@pytest.mark.parametrize("place", PLACES)
def test_a_listing_out_of_order_ends_with_a_refusal(
    tmp_path: Path, rows: list[tuple[bytes, bytes]], place: int
) -> None:
    swapped = [*rows[:place], rows[place + 1], rows[place], *rows[place + 2 :]]
    doubled = [*rows[:place], rows[place - 1], *rows[place:]]
    for rotten in (swapped, doubled):
        with pytest.raises(Corrupt, match="out of order"):
            listing(tmp_path, rotten)
    with pytest.raises(Corrupt, match="out of order"):
        listing(tmp_path, rows[place:], after=rows[place][0])
