"""A file system in memory that forgets, at a power cut, what was not synced.

It is as strict as the rules allow: syncing a file does not make its name durable, syncing a
folder does not make what lies in a new folder below it durable.
"""

import errno
import itertools
import os
import random
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from peatkeep.blobserver.filesystem import FileSystem

_INODES = itertools.count(1000)


@dataclass(eq=False)
class File:
    data: bytes = b""
    durable: bytes = b""
    mode: int = 0o600
    changed_ns: int = 0
    inode: int = field(default_factory=lambda: next(_INODES))


@dataclass(eq=False)
class Folder:
    entries: "dict[str, Node]" = field(default_factory=dict)
    durable: "dict[str, Node]" = field(default_factory=dict)
    mode: int = 0o700
    changed_ns: int = 0
    inode: int = field(default_factory=lambda: next(_INODES))


Node = File | Folder


class PowerCut(BaseException):
    """Raised by the call during which the power goes."""


class SimulatedFiles(FileSystem):
    """`root` is the folder "/store". Set `before` to make calls fail: it is given their name."""

    def __init__(self, can_sync_all: bool = True) -> None:
        self._can_sync_all = can_sync_all
        self._root = Folder({"store": Folder()})
        self._root.durable = dict(self._root.entries)
        self._open: dict[int, list[Node | int]] = {}
        self._descriptors = itertools.count(3)
        self._now_ns = 1_700_000_000_000_000_000
        self.calls: list[str] = []
        self.before: Callable[[str, str], None] = lambda _operation, _path: None
        self.bytes_per_write = 1 << 30

    # -- power ----------------------------------------------------------------------------------

    def cut_power(self, luck: random.Random | None = None) -> None:
        """Go back to what is durable; with luck, some of the rest survived as well, or half."""
        self._open.clear()
        self._restore(self._root, luck)
        self.work_again()

    def _restore(self, folder: Folder, luck: random.Random | None) -> None:
        names = folder.durable.keys() | folder.entries.keys()
        for name in sorted(names):
            kept = folder.durable.get(name)
            if luck is not None and luck.random() < 0.5:
                kept = folder.entries.get(name)
            if kept is None:
                folder.entries.pop(name, None)
            else:
                folder.entries[name] = kept
        folder.durable = dict(folder.entries)
        for node in folder.entries.values():
            if isinstance(node, Folder):
                self._restore(node, luck)
            elif node.data != node.durable:
                node.data = node.durable if luck is None else self._torn(node, luck)
                node.durable = node.data

    @staticmethod
    def _torn(node: File, luck: random.Random) -> bytes:
        cut = luck.randrange(len(node.data) + 1)
        return luck.choice([node.durable, node.data[:cut], bytes(len(node.data)), node.data])

    # -- failures -------------------------------------------------------------------------------

    def fail(self, operation: str, number: int, path_end: str = "") -> list[int]:
        """Make calls of an operation fail; returns a list that grows by one at each failure."""
        failed: list[int] = []

        def before(name: str, path: str) -> None:
            if name == operation and path.endswith(path_end):
                failed.append(number)
                raise OSError(number, os.strerror(number), path)

        self.before = before
        return failed

    def work_again(self) -> None:
        self.before = lambda _operation, _path: None

    # -- for tests ------------------------------------------------------------------------------

    @property
    def open_count(self) -> int:
        return len(self._open)

    def files(self) -> dict[str, bytes]:
        """Path below the root -> content, as seen now."""
        found: dict[str, bytes] = {}

        def walk(folder: Folder, path: str) -> None:
            for name, node in folder.entries.items():
                if isinstance(node, Folder):
                    walk(node, f"{path}/{name}")
                else:
                    found[f"{path}/{name}"[len("/store/") :]] = node.data

        walk(self._root, "")
        return found

    def damage(self, path: str, data: bytes) -> None:
        """Change a file's content under the store, also on the medium."""
        node = self._node(f"/store/{path}")
        assert isinstance(node, File)
        node.data = node.durable = data
        node.changed_ns = self._tick()

    # -- the calls ------------------------------------------------------------------------------

    def open_new(self, path: str, mode: int = 0o600) -> int:
        self._call("open_new", path)
        folder, name = self._place(path)
        if name in folder.entries:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        folder.entries[name] = node = File(mode=mode, changed_ns=self._tick())
        return self._descriptor(node)

    def open_read(self, path: str) -> int:
        self._call("open_read", path)
        return self._descriptor(self._node(path))

    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)  # none is open after a power cut

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        self._call("write", "")
        node = self._open[descriptor][0]
        assert isinstance(node, File)
        part = bytes(data[: self.bytes_per_write])
        node.data += part
        node.changed_ns = self._tick()
        return len(part)

    def read(self, descriptor: int, size: int) -> bytes:
        self._call("read", "")
        node, position = self._open[descriptor]
        if not isinstance(node, File):
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
        assert isinstance(position, int)
        data = node.data[position : position + size]
        self._open[descriptor][1] = position + len(data)
        return data

    def seek(self, descriptor: int, offset: int) -> None:
        self._open[descriptor][1] = offset

    def fsync(self, descriptor: int) -> None:
        self._call("fsync", "")
        self._make_durable(self._open[descriptor][0])

    @property
    def can_sync_all(self) -> bool:
        return self._can_sync_all

    def sync_all(self, descriptor: int) -> None:
        self._call("sync_all", "")

        def walk(folder: Folder) -> None:
            self._make_durable(folder)
            for node in folder.entries.values():
                if isinstance(node, Folder):
                    walk(node)
                else:
                    self._make_durable(node)

        walk(self._root)

    def rename(self, source: str, target: str) -> None:
        self._call("rename", target)
        folder, name = self._place(source)
        if name not in folder.entries:
            raise FileNotFoundError(errno.ENOENT, "No such file", source)
        into, new_name = self._place(target)
        if isinstance(into.entries.get(new_name), Folder):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", target)
        into.entries[new_name] = folder.entries.pop(name)

    def unlink(self, path: str) -> None:
        self._call("unlink", path)
        folder, name = self._place(path)
        if name not in folder.entries:
            raise FileNotFoundError(errno.ENOENT, "No such file", path)
        del folder.entries[name]

    def make_folder(self, path: str) -> None:
        self._call("make_folder", path)
        parent, name = self._place(path)
        if name in parent.entries:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        parent.entries[name] = Folder()

    def remove_folder(self, path: str) -> None:
        self._call("remove_folder", path)
        parent, name = self._place(path)
        node = parent.entries.get(name)
        if not isinstance(node, Folder) or node.entries:
            raise OSError(errno.ENOTEMPTY, "Directory not empty", path)
        del parent.entries[name]

    def list_folder(self, path: str) -> list[str]:
        self._call("list_folder", path)
        node = self._node(path)
        if not isinstance(node, Folder):
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", path)
        return list(node.entries)

    def status(self, path: str) -> os.stat_result:
        self._call("status", path)
        return self._status(self._node(path))

    def status_of(self, descriptor: int) -> os.stat_result:
        node = self._open[descriptor][0]
        assert not isinstance(node, int)
        return self._status(node)

    def now_ns(self) -> int:
        return self._tick()

    # -- inside ---------------------------------------------------------------------------------

    def _call(self, operation: str, path: str) -> None:
        self.calls.append(operation)
        self.before(operation, path)

    def _tick(self) -> int:
        self._now_ns += 1_000_000_000
        return self._now_ns

    def _descriptor(self, node: Node) -> int:
        descriptor = next(self._descriptors)
        self._open[descriptor] = [node, 0]
        return descriptor

    def _make_durable(self, node: Node | int) -> None:
        if isinstance(node, Folder):
            node.durable = dict(node.entries)
        elif isinstance(node, File):
            node.durable = node.data

    def _node(self, path: str) -> Node:
        node: Node = self._root
        for part in path.strip("/").split("/"):
            if part == ".":
                continue
            if not isinstance(node, Folder):
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", path)
            if part not in node.entries:
                raise FileNotFoundError(errno.ENOENT, "No such file", path)
            node = node.entries[part]
        return node

    def _place(self, path: str) -> tuple[Folder, str]:
        parent, _, name = path.rpartition("/")
        node = self._node(parent)
        if not isinstance(node, Folder):
            raise NotADirectoryError(errno.ENOTDIR, "Not a directory", path)
        return node, name

    @staticmethod
    def _status(node: Node) -> os.stat_result:
        is_file = isinstance(node, File)
        kind = stat.S_IFREG if is_file else stat.S_IFDIR
        size = len(node.data) if isinstance(node, File) else 4096
        seconds = node.changed_ns // 1_000_000_000
        return os.stat_result(
            (kind | node.mode, node.inode, 1, 1, 0, 0, size, seconds, seconds, seconds),
            {"st_mtime_ns": node.changed_ns, "st_ctime_ns": node.changed_ns},
        )
