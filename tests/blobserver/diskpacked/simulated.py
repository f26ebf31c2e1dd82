"""Packs and index on a machine that tests can switch off at any call."""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

from peatkeep.blobserver.diskpacked import DiskPacked
from peatkeep.blobserver.diskpacked.files import PackFileSystem
from peatkeep.errors import Unavailable
from peatkeep.sorted.kv import Batch
from peatkeep.sorted.memory import MemoryKeyValue
from tests.blobserver.powercut import _INODES, File, Folder, SimulatedFiles

ROOT = Path("/store")

_FAR = 20
"""Changed bytes so far from each other do not reach the medium together."""


class SimulatedPackFiles(SimulatedFiles, PackFileSystem):
    """As SimulatedFiles, with the calls that packs need."""

    def cut_power(self, luck: object = None) -> None:
        super().cut_power(luck)  # type: ignore[arg-type]
        self.start_again()

    def start_again(self) -> None:
        """As if another process came: nothing that the last one held is held."""
        self._open.clear()
        self.before = lambda _operation, _path: None
        folder = self._node("/store")
        assert isinstance(folder, Folder)
        for node in folder.entries.values():
            node.inode = next(_INODES)

    @staticmethod
    def _torn(node: File, luck: random.Random) -> bytes:
        """What may be left of changes that nobody synced.

        Each overwritten stretch is old or new: headers are shorter than a sector. What was
        appended may have arrived in any parts.
        """
        old, new = node.durable, node.data
        if len(new) < len(old):
            return luck.choice([old, new])
        kept = bytearray(new[: len(old)])
        changed = [place for place in range(len(old)) if old[place] != new[place]]
        while changed:
            end = 1
            while end < len(changed) and changed[end] - changed[end - 1] < _FAR:
                end += 1
            if luck.random() < 0.5:
                kept[changed[0] : changed[end - 1] + 1] = old[changed[0] : changed[end - 1] + 1]
            del changed[:end]
        added = bytearray(new[len(old) : luck.randint(len(old), len(new))])
        for begin in range(0, len(added), 32):
            if luck.random() < 0.2:
                added[begin : begin + 32] = bytes(len(added[begin : begin + 32]))
        return bytes(kept + added)

    def open_write(self, path: str) -> int:
        self._call("open_write", path)
        return self._descriptor(self._node(path))

    def open_lock(self, path: str) -> int:
        self._call("open_lock", path)
        try:
            return self._descriptor(self._node(path))
        except FileNotFoundError:
            return super().open_new(path)

    def lock(self, descriptor: int) -> None:
        self._call("lock", "")

    def read_at(self, descriptor: int, size: int, offset: int) -> bytes:
        self._call("read_at", "")
        return self._file(descriptor).data[offset : offset + size]

    def write_at(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        node = self._file(descriptor)
        part = bytes(data[: self.bytes_per_write])
        try:
            self._call("write_at", "")
        except OSError:
            part = part[: len(part) // 2]  # a full disk takes what fits
            raise
        finally:
            head = node.data[:offset].ljust(offset, b"\0")
            node.data = head + part + node.data[offset + len(part) :]
            node.changed_ns = self._tick()
        return len(part)

    def sync_data(self, descriptor: int) -> None:
        self._call("sync_data", "")
        self._make_durable(self._open[descriptor][0])

    def truncate(self, descriptor: int, size: int) -> None:
        self._call("truncate", "")
        node = self._file(descriptor)
        node.data = node.data[:size]
        node.changed_ns = self._tick()

    def punch(self, descriptor: int, offset: int, size: int) -> bool:
        self._call("punch", "")
        node = self._file(descriptor)
        node.data = node.data[:offset] + bytes(size) + node.data[offset + size :]
        node.changed_ns = self._tick()
        return True

    def _file(self, descriptor: int) -> File:
        node = self._open[descriptor][0]
        assert isinstance(node, File)
        return node


class SimulatedRows(MemoryKeyValue):
    """An index that outlives its stores. Every commit is durable, or did not happen."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def commit(self, batch: Batch, durable: bool = True) -> None:
        assert durable
        self.before()
        super().commit(batch, durable)
        self.after()

    def close(self) -> None:
        pass


class Machine:
    """A simulated disk and index, and the store that runs on them."""

    def __init__(self, max_file_size: int = 300) -> None:
        self.files = SimulatedPackFiles()
        self.rows = SimulatedRows()
        self.max_file_size = max_file_size
        self.store = self.open()

    def open(self) -> DiskPacked:
        self.store = DiskPacked(ROOT, self.rows, self.max_file_size, self.files)
        return self.store

    def watch(self, before: Callable[[str, str], None]) -> None:
        """Call `before` ahead of every call of the file system, and around every commit."""
        self.files.before = before
        self.rows.before = lambda: before("commit", "")
        self.rows.after = lambda: before("committed", "")

    def leave_alone(self) -> None:
        self.watch(lambda _operation, _path: None)

    def fail(self, operation: str, number: int = errno.EIO, after: int = 0) -> list[str]:
        """Let calls of an operation fail; returns a list that grows with each that did."""
        failed: list[str] = []
        calls = 0

        def before(name: str, path: str) -> None:
            nonlocal calls
            if name != operation:
                return
            calls += 1
            if calls > after:
                failed.append(path)
                if name == "commit":
                    raise Unavailable("write", "index", os.strerror(number))
                raise OSError(number, os.strerror(number), path)

        self.watch(before)
        return failed

    def packs(self) -> dict[str, bytes]:
        return {name: data for name, data in self.files.files().items() if name.endswith(".blobs")}

    def save(self, folder: Path) -> Path:
        """Write the packs to a real folder, for readers of another kind."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.packs().items():
            (folder / name).write_bytes(data)
        return folder
