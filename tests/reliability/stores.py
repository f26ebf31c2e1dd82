"""The stores that the programme tries, opened in a folder; and what is stored in them."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from peatkeep.blob import Ref
from peatkeep.blobserver.encrypt.store import AGREEMENT
from peatkeep.blobserver.filesystem import FileSystem
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.clients.client import Client
from peatkeep.schema.text import encode
from tests.blobserver.encrypt.stores import TEST_ONLY_IDENTITY
from tests.e2e.machine import Machine

MAX_PACK_BYTES = 300_000
"""Packs are small here, so that a run makes several."""

FILE_BYTES = 600_000
"""Enough for blobpacked to pack the file (512 KiB)."""

CHUNK_BYTES = 60_000

Blobs = dict[Ref, bytes]


Open = Callable[[Path, ExitStack], Storage]
"""Opens a store in a folder, or makes it; what must be closed goes onto the stack."""


class ForgetsFolders(FileSystem):
    """A planted bug: folders are never synced."""

    @property
    def can_sync_all(self) -> bool:
        return False

    def sync_folder(self, path: str) -> None: ...


class SwallowsErrors(FileSystem):
    """A planted bug: a failed write or rename counts as done."""

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        try:
            return super().write(descriptor, data)
        except OSError:
            return len(data)

    def rename(self, source: str, target: str) -> None:
        try:
            super().rename(source, target)
        except OSError:
            return


def _localdisk(folder: Path, stack: ExitStack, files: FileSystem | None = None) -> Storage:
    blobs = folder / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    return stack.enter_context(LocalDisk(blobs, files) if files else LocalDisk(blobs))


def _diskpacked(folder: Path, stack: ExitStack, index: str = "leveldb") -> Storage:
    packs = folder / "packs"
    packs.mkdir(parents=True, exist_ok=True)
    rows = {"type": index, "file": str(packs / f"index.{index}")}
    args = {"path": str(packs), "maxFileSize": MAX_PACK_BYTES, "metaIndex": rows}
    return stack.enter_context(open_storage("diskpacked", args, lambda _: Memory()))


def _server(folder: Path, stack: ExitStack) -> Storage:
    """What a server keeps in `folder`, as a first start lays it out."""
    blobs = folder / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    rows = {"type": "leveldb", "file": str(blobs / "diskpacked-index.leveldb")}
    args = {"path": str(blobs), "metaIndex": rows}
    return stack.enter_context(open_storage("diskpacked", args, lambda _: Memory()))


def _blobpacked(folder: Path, stack: ExitStack) -> Storage:
    small = _localdisk(folder, stack)
    large = stack.enter_context(LocalDisk(folder / "blobs" / "packed"))
    rows = {"type": "leveldb", "file": str(folder / "blobs" / "packed" / "packindex.leveldb")}
    stores = {"/small/": small, "/large/": large}
    args = {"smallBlobs": "/small/", "largeBlobs": "/large/", "metaIndex": rows}
    return stack.enter_context(open_storage("blobpacked", args, stores.__getitem__))


def _encrypt(folder: Path, stack: ExitStack) -> Storage:
    sealed, metas, key = folder / "sealed", folder / "metas", folder / "key"
    for place in (sealed, metas):
        place.mkdir(parents=True, exist_ok=True)
    if not key.exists():
        key.touch(0o600)
        key.write_text(TEST_ONLY_IDENTITY + "\n")
    args = {
        "I_AGREE": AGREEMENT,
        "keyFile": str(key),
        "blobs": "/sealed/",
        "meta": "/metas/",
        "metaIndex": {"type": "leveldb", "file": str(folder / "index.leveldb")},
    }
    stores = {"/sealed/": LocalDisk(sealed), "/metas/": LocalDisk(metas)}
    for store in stores.values():
        stack.enter_context(store)
    return stack.enter_context(open_storage("encrypt", args, stores.__getitem__))


STORES: dict[str, Open] = {
    "localdisk": _localdisk,
    "diskpacked": _diskpacked,
    "diskpacked-sqlite": lambda folder, stack: _diskpacked(folder, stack, "sqlite"),
    "blobpacked": _blobpacked,
    "encrypt": _encrypt,
}

PLANTED: dict[str, Open] = {
    "forgets-folders": lambda folder, stack: _localdisk(folder, stack, ForgetsFolders()),
    "swallows-errors": lambda folder, stack: _localdisk(folder, stack, SwallowsErrors()),
}


SERVED = "stream"
"""The store of a server that was fed over the stream."""


@contextmanager
def opened(name: str, folder: Path) -> Iterator[Storage]:
    """Open a store of STORES or PLANTED, or SERVED; at the end nothing of it is open any more."""
    with ExitStack() as stack:
        yield {**STORES, **PLANTED, SERVED: _server}[name](folder, stack)


@contextmanager
def served(home: Path, folder: Path) -> Iterator[Storage]:
    """A server that keeps its data in `folder`, as a store that is reached over the stream."""
    machine = Machine(home)
    with (
        machine.serving(f"--data={folder}"),
        closing(Client.from_environment(machine.environ)) as client,
    ):
        if client.storage.open_stream() is None:
            raise RuntimeError("the server offers no stream")
        yield client.storage


def small_batch(dice: random.Random, most_bytes: int = 20_000) -> Blobs:
    """One to eight blobs, of which none was there before (except the empty one)."""
    datas = [dice.randbytes(dice.randint(0, most_bytes)) for _ in range(dice.randint(1, 8))]
    return {Ref.of(data): data for data in datas}


def file_batch(dice: random.Random) -> Blobs:
    """A file in chunks, its schema blob last: blobpacked makes a zip of it."""
    chunks = [dice.randbytes(CHUNK_BYTES) for _ in range(FILE_BYTES // CHUNK_BYTES)]
    blobs = {Ref.of(chunk): chunk for chunk in chunks}
    parts = [{"blobRef": ref, "size": len(chunk)} for ref, chunk in blobs.items()]
    schema = encode({"camliVersion": 1, "camliType": "file", "fileName": "f", "parts": parts})
    return {**blobs, Ref.of(schema): schema}


def lost(storage: Storage, wanted: Blobs) -> list[str]:
    """What of these blobs is not served right."""
    found = []
    for ref, data in storage.fetch_many(wanted):
        if isinstance(data, Exception):
            found.append(f"{ref} is lost: {data}")
        elif data != wanted[ref]:
            found.append(f"{ref} came back changed")
    return found


def unserved(storage: Storage) -> list[str]:
    """What is listed and can't be read."""
    listed = [ref for ref, _ in storage.enumerate()]
    answers = storage.fetch_many(listed)
    return [f"{ref} is listed, not served: {x}" for ref, x in answers if isinstance(x, Exception)]
