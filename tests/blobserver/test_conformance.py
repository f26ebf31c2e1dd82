"""The suite against every built-in storage."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from peatkeep.blobserver.cond import Cond
from peatkeep.blobserver.conformance import StorageSuite
from peatkeep.blobserver.encrypt.sealing import Sealer
from peatkeep.blobserver.encrypt.store import Encrypt
from peatkeep.blobserver.filesystem import FileSystem
from peatkeep.blobserver.forward import Forward
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import BUILTIN, open_storage
from peatkeep.blobserver.replica import Replica
from peatkeep.blobserver.storage import Storage
from peatkeep.sorted.memory import MemoryKeyValue
from tests.blobserver.combinators import OVER, Make
from tests.blobserver.encrypt.stores import TEST_ONLY_IDENTITY
from tests.blobserver.small_server import small_server


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


def encrypt(_: Path) -> Storage:
    return Encrypt(Sealer(TEST_ONLY_IDENTITY), Memory(), Memory(), MemoryKeyValue())


class OfAServer(Forward):
    """A remote store of a server that ends with it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        server = self._stack.enter_context(small_server())
        server.allows_remove = True
        args = {"url": server.url, "auth": "none"}
        store = open_storage("remote", args, lambda _: Memory())
        super().__init__(self._stack.enter_context(store))

    def close(self) -> None:
        self._stack.close()


def over_memory(combine: Callable[[Make], Storage]) -> Callable[[Path], Storage]:
    return lambda _: combine(Memory)


EMPTY_STORES: dict[str, Callable[[Path], Storage]] = {
    **{name: over_memory(combine) for name, combine in OVER.items()},
    "blobpacked": blobpacked,
    "cond": cond,
    "diskpacked": diskpacked,
    "encrypt": encrypt,
    "localdisk": LocalDisk,
    "memory": lambda _: Memory(),
    "remote": lambda _: OfAServer(),
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


IN_A_BUCKET = frozenset({"azure", "googlecloudstorage", "s3"})
"""Run in tests/blobserver/objects, beside the servers that they need."""


def test_every_builtin_backend_is_tested() -> None:
    assert EMPTY_STORES.keys() | IN_A_BUCKET == BUILTIN.keys()
