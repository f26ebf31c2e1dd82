"""Opening blobpacked stores in the way Perkeep's configuration does."""

from pathlib import Path

from peatkeep.blobserver.blobpacked import BlobPacked
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.sorted.kv import KeyValue
from peatkeep.sorted.leveldb import LevelDBKeyValue


def open_store(blobs: Path, rows: KeyValue | None = None) -> BlobPacked:
    """The store whose loose blobs lie in this folder, with zips and LevelDB index in `packed`."""
    blobs.mkdir(parents=True, exist_ok=True)
    small, large = LocalDisk(blobs), LocalDisk(blobs / "packed")
    return BlobPacked(small, large, rows or LevelDBKeyValue(blobs / "packed/packindex.leveldb"))
