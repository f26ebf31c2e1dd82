"""A damaged index never stops the start: it is set aside, and made anew from the zips."""

from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.blobpacked import BlobPacked
from peatkeep.blobserver.memory import Memory
from peatkeep.sorted.kv import Batch
from peatkeep.sorted.memory import MemoryKeyValue
from tests.blobserver.blobpacked.test_model import file_blobs
from tests.blobserver.powercut import PowerCut
from tests.reliability.stores import opened


@pytest.mark.parametrize("damage", [b"", b"wrong\n", b"MANIFEST-999999\n"])
def test_a_store_with_a_damaged_index_opens_and_serves_everything(
    damage: bytes, tmp_path: Path
) -> None:
    blobs = file_blobs([0, 1, 2])
    with opened("blobpacked", tmp_path) as storage:
        assert isinstance(storage, BlobPacked)
        storage.receive_many(blobs.items())
        assert storage.settle()
    (tmp_path / "blobs/packed/packindex.leveldb/CURRENT").write_bytes(damage)
    with opened("blobpacked", tmp_path) as storage:
        assert isinstance(storage, BlobPacked)
        assert "set aside" in " ".join(storage.remarks)
        assert dict(storage.fetch_many(blobs)) == blobs
        assert next(iter(storage.enumerate())).ref == min(blobs)


class LosesPower(MemoryKeyValue):
    """The power goes at the commit that gives a pack its rows."""

    is_lost = True

    def commit(self, batch: Batch, durable: bool = True) -> None:
        if self.is_lost and any(key.startswith(b"b:") and value for key, value in batch.operations):
            raise PowerCut
        super().commit(batch, durable)


def test_what_was_removed_while_its_pack_was_made_stays_removed_after_a_crash() -> None:
    blobs = file_blobs([0, 1, 2])
    *_, last = blobs
    gone = next(iter(blobs))
    rows = LosesPower()

    class RemovesMeanwhile(Memory):
        """Somebody removes a blob when another one of its file is read for the pack."""

        def fetch(self, ref: Ref) -> bytes:
            if ref == list(blobs)[2]:
                store.remove([gone])
            return super().fetch(ref)

    small, large = RemovesMeanwhile(), Memory()
    store = BlobPacked(small, large, rows, in_background=False)
    store.receive_many(blobs.items())
    with pytest.raises(PowerCut):
        store.pack(last)
    assert list(large.enumerate())
    rows.is_lost = False
    again = BlobPacked(small, large, rows, in_background=False)
    assert {ref for ref, _ in again.enumerate()} == blobs.keys() - {gone}
    assert {ref for ref, _ in again.stat(blobs)} == blobs.keys() - {gone}
