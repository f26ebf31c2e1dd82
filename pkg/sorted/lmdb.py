"""Rows in an LMDB folder: the quickest to read, and many processes may open it at once."""

import errno
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import lmdb

from ..errors import Corrupt, ReadOnly, StoreError, Unavailable, Unsupported
from .folders import make_folder, sync_folder
from .kv import MAX_KEY_SIZE, Batch, KeyValue
from .options import Options

_FORMAT: Final = 1
"""LMDB 1.0: the first whose keys may be of MAX_KEY_SIZE; 0.9 ends at 511 bytes."""

_MAP_SIZES: Final = (1 << 40, 1 << 36, 1 << 32)
"""Bytes of address space to reserve, the first that is granted; the file itself grows by need."""

_MAX_READERS: Final = 1024
"""Finds and gets open at the same time, over all processes."""

_EMPTY_KEY: Final = b"\0"
"""Stands for the empty key, which LMDB does not take. No other key contains NUL."""


class LMDBKeyValue(KeyValue):
    """A memory-mapped B-tree, copied on write. Reads take no lock and no copy of the tree.

    Every commit syncs the pages that it wrote, so the folder is sound after a power cut; a
    durable one also syncs the page that makes them valid. After a failed sync no more writes are
    taken.
    """

    def __init__(self, folder: Path) -> None:
        """Open or create. Raises Corrupt, Unavailable, Unsupported (written by LMDB 0.9)."""
        self._folder = folder
        self._write_lock = threading.Lock()
        self._failure = ""
        with self._translated("open"):
            is_new = not (folder / "data.mdb").exists()
            make_folder(folder)
            self._env = self._open()
            if is_new:
                sync_folder(folder)
            # Slots of readers that were killed would keep old pages from being used again.
            self._env.reader_check()

    @classmethod
    def from_config(cls, args: Mapping[str, object]) -> Self:
        with Options("lmdb", args) as options:
            folder = Path(options.string("file"))
        return cls(folder)

    def get(self, key: bytes) -> bytes | None:
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        found = {}
        with self._translated("read"), self._env.begin() as transaction:
            for key in keys:
                if len(key) <= MAX_KEY_SIZE:
                    value = transaction.get(key or _EMPTY_KEY)
                    if value is not None:
                        found[key] = value
        return found

    def find(self, start: bytes = b"", end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        # A longer start would be refused, and no row lies between it and its head.
        start = start if len(start) <= MAX_KEY_SIZE else start[:MAX_KEY_SIZE] + b"\0"
        with (
            self._translated("read"),
            self._env.begin() as transaction,
            transaction.cursor() as cursor,
        ):
            if not (cursor.set_range(start) if start else cursor.first()):
                return
            for key, value in cursor.iternext():
                if end and key >= end:
                    return
                yield (key, value) if key != _EMPTY_KEY else (b"", value)

    def commit(self, batch: Batch, durable: bool = True) -> None:
        with self._writing("write", durable) as transaction:
            for key, value in batch.operations:
                if value is not None:
                    transaction.put(key or _EMPTY_KEY, value)
                elif len(key) <= MAX_KEY_SIZE:
                    transaction.delete(key or _EMPTY_KEY)

    def wipe(self) -> None:
        with self._writing("wipe", durable=True) as transaction:
            transaction.drop(self._env.open_db(txn=transaction), delete=False)

    def close(self) -> None:
        with self._write_lock:
            self._env.close()

    def _open(self) -> lmdb.Environment:
        for size in _MAP_SIZES:
            try:
                return lmdb.open(
                    str(self._folder),
                    map_size=size,
                    metasync=False,
                    mode=0o600,
                    max_readers=_MAX_READERS,
                    lib_version=_FORMAT,
                )
            except lmdb.MemoryError:
                continue
        raise Unavailable("open", self._folder, "not enough address space (ulimit -v)")

    @contextmanager
    def _writing(self, operation: str, durable: bool) -> "Iterator[lmdb.Transaction[bytes]]":
        with self._translated(operation):
            with self._write_lock:
                if self._failure:
                    raise ReadOnly(operation, self._folder, self._failure)
                with self._noted((errno.EIO,)), self._env.begin(write=True) as transaction:
                    yield transaction
            if durable:  # outside the lock: others may commit meanwhile
                with self._noted((errno.EIO, errno.ENOSPC, errno.EDQUOT)):
                    self._env.sync(True)

    @contextmanager
    def _noted(self, codes: tuple[int, ...]) -> Iterator[None]:
        """Take no more writes after one of these errors: the kernel may have dropped the pages."""
        try:
            yield
        except lmdb.Error as error:
            if isinstance(error, lmdb.PanicError) or getattr(error, "code", 0) in codes:
                self._failure = "a sync failed; restart to write again"
            raise

    @contextmanager
    def _translated(self, operation: str) -> Iterator[None]:
        try:
            yield
        except lmdb.InvalidError as error:
            kind = Unsupported if _is_of_old_format(self._folder / "data.mdb") else Corrupt
            raise kind(operation, self._folder, str(error)) from error
        except lmdb.Error as error:
            raise _ERRORS.get(type(error), Unavailable)(
                operation, self._folder, str(error)
            ) from error
        except OSError as error:
            raise Unavailable(operation, self._folder, error.strerror or "") from error


def _is_of_old_format(file: Path) -> bool:
    """Tell whether it begins as LMDB 0.9 begins a file: the magic number, and data version 1."""
    with file.open("rb") as opened:
        return b"\xde\xc0\xef\xbe\x01\0\0\0" in opened.read(64)


_ERRORS: Final[dict[type[lmdb.Error], type[StoreError]]] = {
    lmdb.CorruptedError: Corrupt,
    lmdb.PageNotFoundError: Corrupt,
    lmdb.ReadonlyError: ReadOnly,
    lmdb.PanicError: ReadOnly,
    lmdb.VersionMismatchError: Unsupported,
}
