"""Rows in a LevelDB directory, the same that Perkeep keeps its index in."""

import errno
import fcntl
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, Self

import plyvel

from ..errors import Corrupt, ReadOnly, StoreError, Unavailable
from .folders import free_bytes, make_folder, size_bytes
from .kv import Batch, KeyValue
from .options import Options

_WIPE_PAGE: Final = 10_000
"""Rows deleted in one write batch, so that a wipe needs little memory."""

_FIRST_PAGE: Final = 8
_LAST_PAGE: Final = 512
"""Rows that a find takes in one go: few at first, since many want only the first ones."""

_CUT_TABLE: Final = re.compile(r"\.(ldb|sst): Invalid argument")

_PASSING: Final = tuple(
    os.strerror(number)
    for number in (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.EINTR,
    )
)
"""Failures that pass, in LevelDB's words; of any other nobody knows what the disk still holds."""

_LOG_BYTES: Final = 4 << 20
_BULK_LOG_BYTES: Final = 32 << 20
"""What LevelDB sorts in memory before it writes a table; it may have two of them in hand."""

_OPEN_TABLES: Final = 130
"""Of 2 MB each, which LevelDB maps. With a thousand, its own number, the pages that stay are half a
gigabyte at a million permanodes; with fewer, too much time goes into opening them."""

_LOGS_ON_DISK: Final = 32

_SPARE_BYTES: Final = 64 << 10
"""What opening writes besides the rows of the log."""

_LOOK_AGAIN_S: Final = 0.0005


class LevelDBKeyValue(KeyValue):
    """LevelDB through plyvel: bytewise order, Bloom filter of 10 bits, checksums verified.

    The directory is locked against every kind of opener (pkg/sorted/README.md, "LevelDB").
    Commits with `durable` sync LevelDB's log. After a failed write LevelDB must be opened anew
    before the next one: for want of room that happens by itself, after another failure it is
    ReadOnly until the owner does.
    """

    def __init__(self, folder: Path) -> None:
        """Open or create. Raises Unavailable when it is in use, Corrupt when it is damaged."""
        self._folder = folder
        self._lock = _FolderLock(folder)
        self._writing = threading.Lock()  # held by commits, and while LevelDB is opened anew
        self._inside: list[None] = []  # an entry for each read that LevelDB is busy with
        self._is_stuck = self._is_closed = False
        self._failure = ""
        self._is_bulk = False
        try:
            self._db = self._open()
        except BaseException:
            self._lock.release()
            raise

    def _open(self) -> "plyvel.DB | None":
        if self._is_closed:
            raise Unavailable("open", self._folder, "it is closed")
        with self._translated("open"):
            return plyvel.DB(
                str(self._folder),
                create_if_missing=True,
                bloom_filter_bits=10,
                write_buffer_size=self._buffer_bytes(),
                max_open_files=_OPEN_TABLES,
                compression=None if self._is_bulk else "snappy",
            )

    def _buffer_bytes(self) -> int:
        """How long the log gets: by LevelDB's own rule 4 MiB; less on a small file system."""
        log_bytes = _BULK_LOG_BYTES if self._is_bulk else _LOG_BYTES
        try:
            return min(log_bytes, size_bytes(self._folder) // _LOGS_ON_DISK)
        except OSError as error:
            raise _os_error(error, self._folder) from error

    @classmethod
    def from_config(cls, args: Mapping[str, object]) -> Self:
        with Options("leveldb", args) as options:
            folder = Path(options.string("file"))
        return cls(folder)

    # -- reading --------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        # Without a context manager, which costs as much as the read itself.
        db = self._enter()
        try:
            value: bytes | None = db.get(key, verify_checksums=True)
        except (plyvel.Error, RuntimeError) as error:
            raise self._translate("read", error) from error
        finally:
            self._inside.pop()
        return value

    def find(self, start: bytes = b"", end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Raises Unavailable when LevelDB is opened anew meanwhile: its snapshot is gone."""
        if end and start >= end:
            return
        db = self._enter()
        try:
            rows = db.iterator(start=start or None, stop=end or None, verify_checksums=True)
        except (plyvel.Error, RuntimeError) as error:
            raise self._translate("read", error) from error
        finally:
            self._inside.pop()
        size = _FIRST_PAGE
        try:
            while page := self._page(rows, size):
                yield from page
                size = min(2 * size, _LAST_PAGE)
        finally:
            self._inside.append(None)
            if self._db is db:  # else it was closed with that
                rows.close()
            self._inside.pop()

    def _page(self, rows: Iterator[tuple[bytes, bytes]], size: int) -> list[tuple[bytes, bytes]]:
        self._enter()
        try:
            return list(islice(rows, size))
        except (plyvel.Error, RuntimeError) as error:
            raise self._translate("read", error) from error
        finally:
            self._inside.pop()

    def _enter(self) -> "plyvel.DB":
        """LevelDB, which is not closed until the caller takes its entry off `_inside`."""
        # First the entry, then the look: `_take_away` does the two in the other order.
        self._inside.append(None)
        while (db := self._db) is None:
            self._inside.pop()
            with self._writing:
                if self._db is None:
                    self._db = self._open()
            self._inside.append(None)
        return db

    # -- writing --------------------------------------------------------------------------------

    def commit(self, batch: Batch, durable: bool = True) -> None:
        # One at a time: what is appended behind a write that failed half-way is lost.
        with self._writing:
            if self._failure:
                raise ReadOnly("write", self._folder, self._failure)
            if self._is_stuck or self._db is None:
                self._open_anew()
            try:
                self._write(batch, durable)
            except Unavailable:
                # The room may have lacked a while ago, for what LevelDB does in the background.
                if not self._is_stuck or not self._has_room():
                    raise
                self._open_anew()
                self._write(batch, durable)

    def _write(self, batch: Batch, durable: bool) -> None:
        assert self._db is not None
        try:
            with self._db.write_batch(transaction=True, sync=durable) as out:
                for key, value in batch.operations:
                    if value is None:
                        out.delete(key)
                    else:
                        out.put(key, value)
        except (plyvel.Error, RuntimeError) as error:
            self._note_failure(error)
            raise self._translate("write", error) from error

    def _note_failure(self, error: Exception) -> None:
        if not isinstance(error, plyvel.IOError):
            return
        if any(word in str(error) for word in _PASSING):
            self._is_stuck = True
        else:
            self._failure = f"{error}; restart to write again"

    def _open_anew(self) -> None:
        """Close LevelDB and open it again: it writes what its log holds to a new, synced table.

        Not without room for that: the one which is open can be read from.
        """
        if not self._has_room():
            raise Unavailable("write", self._folder, os.strerror(errno.ENOSPC))
        self._take_away()
        self._db = self._open()
        self._is_stuck = False

    def _has_room(self) -> bool:
        """Whether opening finds room on the disk."""
        try:
            log_bytes = sum(path.stat().st_size for path in self._folder.glob("*.log"))
            return free_bytes(self._folder) >= log_bytes + _SPARE_BYTES
        except OSError as error:
            raise _os_error(error, self._folder) from error

    def _take_away(self) -> None:
        """Close LevelDB when nobody is inside; finds that are under way end with Unavailable."""
        db, self._db = self._db, None
        while self._inside:
            time.sleep(_LOOK_AGAIN_S)
        if db is not None:
            db.close()

    @contextmanager
    def bulk(self) -> Iterator[None]:
        """With longer logs, whose rows are merged less often, and tables without compression.

        That is a third of the processor time (pkg/sorted/README.md, "LevelDB").
        """
        self._be_bulk(True)
        try:
            yield
        finally:
            self._be_bulk(False)

    def _be_bulk(self, is_bulk: bool) -> None:
        with self._writing:
            self._is_bulk = is_bulk
            if not (self._failure or self._is_closed):
                self._open_anew()

    def wipe(self) -> None:
        page = Batch()
        for key, _ in self.find():
            page.delete(key)
            if len(page) >= _WIPE_PAGE:
                self.commit(page, durable=False)
                page = Batch()
        self.commit(page)

    def close(self) -> None:
        with self._writing:
            self._is_closed = True
            self._take_away()
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
        kind: type[StoreError] = Unavailable
        if is_cut or isinstance(error, plyvel.CorruptionError):
            kind = Corrupt
        elif operation == "write" and self._failure:
            kind = ReadOnly
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
