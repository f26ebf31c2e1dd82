"""The suite against every built-in storage."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peatkeep.blobserver.cond import Cond
from peatkeep.blobserver.conformance import StorageSuite
from peatkeep.blobserver.filesystem import FileSystem
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import BUILTIN, open_storage
from peatkeep.blobserver.replica import Replica
from peatkeep.blobserver.storage import Storage
from tests.blobserver.combinators import OVER, Make


def cond(_: Path) -> Storage:
    everything, schemas = Memory(), Memory()
    return Cond(everything, Replica([everything, schemas]), everything, remove=everything)


def blobpacked(folder: Path) -> Storage:
    index = {"type": "leveldb", "file": str(folder / "packed" / "packindex.leveldb")}
    args = {"smallBlobs": "/small/", "largeBlobs": "/large/", "metaIndex": index}
    stores = {"/small/": LocalDisk(folder), "/large/": LocalDisk(folder / "packed")}
    return open_storage("blobpacked", args, stores.__getitem__)


def diskpacked(folder: Path) -> Storage:
    return open_storage("diskpacked", {"path": str(folder)}, lambda _: Memory())


def over_memory(combine: Callable[[Make], Storage]) -> Callable[[Path], Storage]:
    return lambda _: combine(Memory)


EMPTY_STORES: dict[str, Callable[[Path], Storage]] = {
    **{name: over_memory(combine) for name, combine in OVER.items()},
    "blobpacked": blobpacked,
    "cond": cond,
    "diskpacked": diskpacked,
    "localdisk": LocalDisk,
    "memory": lambda _: Memory(),
    "replica": lambda folder: Replica([LocalDisk(folder), Memory()]),
}


@pytest.fixture(params=sorted(EMPTY_STORES))
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    with EMPTY_STORES[request.param](tmp_path) as store:
        yield store


class TestStorage(StorageSuite): ...


class WithoutSyncfs(FileSystem):
    """As on kernels whose syncfs does not report failures."""

    @property
    def can_sync_all(self) -> bool:
        return False


class TestLocalDiskWithoutSyncfs(StorageSuite):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[Storage]:
        with LocalDisk(tmp_path, WithoutSyncfs()) as store:
            yield store


def test_every_builtin_backend_is_tested() -> None:
    assert EMPTY_STORES.keys() == BUILTIN.keys()
