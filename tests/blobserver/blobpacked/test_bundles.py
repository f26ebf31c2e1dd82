"""Small files of one directory, together in zips."""

import random
from pathlib import Path

from peatkeep.blob import Ref
from peatkeep.blobserver.blobpacked import BlobPacked
from peatkeep.blobserver.memory import Memory
from peatkeep.schema.directory import static_set_blobs
from peatkeep.schema.filewriter import write_file
from peatkeep.sorted.kv import Batch
from peatkeep.sorted.memory import MemoryKeyValue
from tests.blobserver.blobpacked.opening import open_store
from tests.independent import blobpacked as independent


def directory(sizes: list[int]) -> dict[Ref, bytes]:
    """The blobs of files of these sizes, and of the set that holds them; its blobs come last."""
    blobs: dict[Ref, bytes] = {}
    members = []
    for seed, size in enumerate(sizes):
        data = random.Random(seed).randbytes(size)
        written = write_file(blobs.__setitem__, [data], {"fileName": f"{seed}.txt"})
        members.append(written.ref)
    blobs.update(static_set_blobs(members))
    return blobs


def test_small_files_of_a_directory_become_one_zip_that_others_read(tmp_path: Path) -> None:
    blobs = directory([20_000 + number for number in range(60)] + [0, 20_000, 300_000])
    with open_store(tmp_path) as store:
        store.receive_many(blobs.items())
        assert store.bundle_loose() == 62
        assert {ref: store.fetch(ref) for ref, _ in store.enumerate()} == blobs
        assert {blob.ref for blob in store.stream()} == blobs.keys()
        assert list(store.check()) == []
        assert store.bundle_loose() == 0
    assert independent.read_all(tmp_path) == blobs
    rows, possible = independent.rows(tmp_path), independent.rows_from_zips(tmp_path)
    assert rows.keys() == possible.keys()
    assert all(rows[key] in possible[key] for key in rows)
    assert len(independent.whole_files(tmp_path)) == 1
    assert len(dict(independent.files(tmp_path))) < 5


def test_many_small_files_become_several_zips() -> None:
    small, large = Memory(), Memory()
    store = BlobPacked(small, large, MemoryKeyValue())
    blobs = directory([400_000 + number for number in range(50)])
    store.receive_many(blobs.items())
    assert store.bundle_loose() == 50
    assert len(list(large.enumerate())) == 2
    again = BlobPacked(small, large, MemoryKeyValue())
    assert {ref: again.fetch(ref) for ref, _ in again.enumerate()} == blobs
    assert list(again.check()) == []


def test_a_small_directory_stays_loose() -> None:
    small, large = Memory(), Memory()
    store = BlobPacked(small, large, MemoryKeyValue())
    store.receive_many(directory([1000, 2000, 3000]).items())
    assert store.bundle_loose() == 0
    assert not list(large.enumerate())


def test_a_file_of_a_bundle_that_is_removed_goes_and_the_others_stay() -> None:
    small, large = Memory(), Memory()
    store = BlobPacked(small, large, MemoryKeyValue())
    blobs = directory([300_000 + number for number in range(4)])
    store.receive_many(blobs.items())
    assert store.bundle_loose() == 4
    victim = next(iter(blobs))
    store.remove([victim])
    assert store.settle(30)
    assert not list(large.enumerate())
    del blobs[victim]
    assert {ref: store.fetch(ref) for ref, _ in store.enumerate()} == blobs


def test_a_crash_before_the_last_row_of_a_bundle_is_mended() -> None:
    small, large, rows = Memory(), Memory(), MemoryKeyValue()
    store = BlobPacked(small, large, rows)
    blobs = directory([300_000 + number for number in range(4)])
    store.receive_many(blobs.items())
    assert store.bundle_loose() == 4
    before = dict(rows.find())
    batch = Batch()
    batch.delete(next(key for key in before if key.startswith(b"w:") and key.count(b":") == 1))
    rows.commit(batch)
    again = BlobPacked(small, large, rows)
    assert again.settle(30)
    assert dict(rows.find()) == before
