"""Rows in a LevelDB directory, the same that Perkeep keeps its index in."""

import errno
import fcntl
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import plyvel

from ..errors import Corrupt, ReadOnly, StoreError, Unavailable
from .folders import make_folder
from .kv import Batch, KeyValue
from .options import Options

_WIPE_PAGE: Final = 10_000
"""Rows deleted in one write batch, so that a wipe needs little memory."""

_CUT_TABLE: Final = re.compile(r"\.(ldb|sst): Invalid argument")


class LevelDBKeyValue(KeyValue):
    """LevelDB through plyvel: bytewise order, Bloom filter of 10 bits, checksums verified.

    The directory is locked against every kind of opener (pkg/sorted/README.md, "LevelDB").
    Commits with `durable` sync LevelDB's log; after a failed sync LevelDB refuses all writes.
    """

    def __init__(self, folder: Path) -> None:
        """Open or create. Raises Unavailable when it is in use, Corrupt when it is damaged."""
        self._folder = folder
        self._lock = _FolderLock(folder)
        try:
            with self._translated("open"):
                self._db = plyvel.DB(str(folder), create_if_missing=True, bloom_filter_bits=10)
        except BaseException:
            self._lock.release()
            raise

    @classmethod
    def from_config(cls, args: Mapping[str, object]) -> Self:
        with Options("leveldb", args) as options:
            folder = Path(options.string("file"))
        return cls(folder)

    def get(self, key: bytes) -> bytes | None:
        # Without the context manager, which costs as much as the read itself.
        try:
            value: bytes | None = self._db.get(key, verify_checksums=True)
        except (plyvel.Error, RuntimeError) as error:
            raise self._translate("read", error) from error
        return value

    def find(self, start: bytes = b"", end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        if end and start >= end:
            return
        with (
            self._translated("read"),
            self._db.iterator(start=start or None, stop=end or None, verify_checksums=True) as rows,
        ):
            yield from rows

    def commit(self, batch: Batch, durable: bool = True) -> None:
        with (
            self._translated("write"),
            self._db.write_batch(transaction=True, sync=durable) as out,
        ):
            for key, value in batch.operations:
                if value is None:
                    out.delete(key)
                else:
                    out.put(key, value)

    def wipe(self) -> None:
        page = Batch()
        for key, _ in self.find():
            page.delete(key)
            if len(page) >= _WIPE_PAGE:
                self.commit(page, durable=False)
                page = Batch()
        self.commit(page)

    def close(self) -> None:
        self._db.close()
        # Last: closing any descriptor of LOCK also drops the lock that LevelDB holds on it.
        self._lock.release()

    @contextmanager
    def _translated(self, operation: str) -> Iterator[None]:
        try:
            yield
        except (plyvel.Error, RuntimeError) as error:
            raise self._translate(operation, error) from error

    def _translate(self, operation: str, error: Exception) -> StoreError:
        """A RuntimeError is plyvel's word for "closed".

        A table that ends too early is EINVAL to LevelDB, of which plyvel hands on the text only.
        """
        is_cut = isinstance(error, plyvel.IOError) and _CUT_TABLE.search(str(error)) is not None
        kind = Corrupt if is_cut or isinstance(error, plyvel.CorruptionError) else Unavailable
        return kind(operation, self._folder, str(error))


class _FolderLock:
    """Holds LOCK of a LevelDB directory by flock.

    LevelDB for C++ locks it by fcntl, LevelDB for Go by flock, and neither sees the other: both
    could open the directory at once and destroy it. plyvel takes the first kind, this the second.
    """

    _held: Final[set[tuple[int, int]]] = set()
    _held_guard: Final = threading.Lock()

    def __init__(self, folder: Path) -> None:
        path = folder / "LOCK"
        try:
            make_folder(folder)
            with self._held_guard:
                # Not opened where this process holds it: closing a second descriptor of it
                # would drop the fcntl lock of the first.
                if path.exists() and _identity(path.stat()) in self._held:
                    raise self._in_use(path)
                self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                self._take(path)
                self._key = _identity(os.fstat(self._descriptor))
                self._held.add(self._key)
        except OSError as error:
            raise _os_error(error, folder) from error

    def _take(self, path: Path) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise self._in_use(path) from None

    @staticmethod
    def _in_use(path: Path) -> Unavailable:
        return Unavailable("lock", path, "the database is in use by another program or store")

    def release(self) -> None:
        with self._held_guard:
            if self._key in self._held:
                self._held.remove(self._key)
                os.close(self._descriptor)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _os_error(error: OSError, folder: Path) -> StoreError:
    kind = ReadOnly if error.errno == errno.EROFS else Unavailable
    return kind("open", error.filename or folder, os.strerror(error.errno or 0))
