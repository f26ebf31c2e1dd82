"""What a client remembers of its uploads, so that putting again is cheap.

Two tables in one SQLite file, for one storage generation of one server:

    have    blobs that the server acknowledged: neither asked for nor sent again
    file    the state of a file when it was put, and the ref that came of it

Everything here may be lost at any time. What can't be read is thrown away and begun anew, and what
can't be written is left out. Several programs may use the file at once.
"""

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from ..blob import Ref

VERSION: Final = 1
KEPT_FILES: Final = 5
KEPT_S: Final = 30 * 24 * 3600
BUSY_WAIT_S: Final = 5.0
FLUSH_ROWS: Final = 2000
KEPT_BLOBS: Final = 100_000
"""As many blobs are kept in memory, where the file has no others: that spares asking it for each
blob, of which most are new on the first day."""

FLUSH_S: Final = 2.0
"""What is new is written after so many rows or seconds: so much is sent again after a kill."""

QUIET_NS: Final = 2_000_000_000
"""A file changed so shortly ago may change again without any of its times moving."""

SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS have (ref TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS file (
        folder BLOB, name BLOB, form TEXT, state TEXT, ref TEXT, whole TEXT,
        PRIMARY KEY (folder, form, name)
    ) WITHOUT ROWID;
"""


class Remembered(NamedTuple):
    """The result of putting a file in a certain state. `whole`: digest of its contents, or ""."""

    state: str
    ref: Ref
    whole: str


def state_of(stat: os.stat_result) -> str:
    """What of a file's inode tells that it is the same, unchanged file.

    The ctime can't be set by programs: it moves with contents, size, mode, owner and name, also
    where somebody puts size and mtime back.
    """
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino} {stat.st_dev}"


def is_settled(stat: os.stat_result, now_ns: int) -> bool:
    """Whether the file was last changed long enough ago for its state to be trusted."""
    return max(stat.st_mtime_ns, stat.st_ctime_ns) < now_ns - QUIET_NS


class UploadCache:
    """Remembers blobs and files. Safe to use from many threads. Never raises for its own sake."""

    def __init__(self, path: Path | None) -> None:
        """path: the file, or None to remember for this object's life only."""
        self._path = path
        self._lock = threading.Lock()
        self._new_blobs: set[Ref] = set()
        self._written_blobs: set[Ref] | None = None  # all that there are in the file, if these few
        self._new_files: dict[tuple[bytes, str], dict[bytes, Remembered]] = {}
        self._new_count = 0
        self._flushed_s = time.monotonic()
        self._database = _open(path)
        if not self._rows("SELECT 1 FROM have LIMIT 1", ()):
            self._written_blobs = set()

    def has(self, ref: Ref) -> bool:
        """Whether the server is known to have this blob."""
        with self._lock:
            if ref in self._new_blobs:
                return True
            if self._written_blobs is not None:
                return ref in self._written_blobs
            return bool(self._rows("SELECT 1 FROM have WHERE ref = ?", (ref,)))

    def folder(self, path: bytes, form: str) -> Mapping[bytes, Remembered]:
        """What is remembered of the files of one folder, by their names.

        form: which kind of result is asked for; options that change the blobs are part of it.
        """
        query = "SELECT name, state, ref, whole FROM file WHERE folder = ? AND form = ?"
        with self._lock:
            rows = self._rows(query, (path, form))
            new = dict(self._new_files.get((path, form), {}))
        known = {
            name: Remembered(state, Ref.trusted(ref), whole) for name, state, ref, whole in rows
        }
        known.update(new)
        return known

    def remember_blobs(self, refs: Iterable[Ref]) -> None:
        """The server acknowledged these blobs."""
        with self._lock:
            self._new_blobs.update(refs)
            self._flush_if_many()

    def remember_file(self, path: bytes, form: str, remembered: Remembered) -> None:
        """The server acknowledged everything that this file consists of."""
        folder, name = os.path.split(path)
        with self._lock:
            self._new_files.setdefault((folder, form), {})[name] = remembered
            self._new_count += 1
            self._flush_if_many()

    def forget(self) -> None:
        """Drop everything: the server lost blobs that it had acknowledged."""
        with self._lock:
            self._new_blobs.clear()
            self._written_blobs = set()
            self._new_files.clear()
            self._write("DELETE FROM have", [()])
            self._write("DELETE FROM file", [()])

    def flush(self) -> None:
        """Write what is new to the file."""
        with self._lock:
            self._flush()

    def close(self) -> None:
        self.flush()
        with self._lock:
            self._database.close()

    # -- with the lock held -------------------------------------------------------------------

    def _flush_if_many(self) -> None:
        is_late = time.monotonic() - self._flushed_s > FLUSH_S
        if is_late or len(self._new_blobs) + self._new_count >= FLUSH_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._flushed_s = time.monotonic()
        blobs = [(ref,) for ref in self._new_blobs]
        files = [
            (*key, name, *remembered)
            for key, names in self._new_files.items()
            for name, remembered in names.items()
        ]
        # Blobs first: should this end between the two, a file is put again for nothing.
        if blobs and self._write("INSERT OR IGNORE INTO have VALUES (?)", blobs):
            self._keep_written()
            self._new_blobs.clear()
        if files and self._write(
            "INSERT OR REPLACE INTO file (folder, form, name, state, ref, whole)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            files,
        ):
            self._new_files.clear()
            self._new_count = 0

    def _keep_written(self) -> None:
        if self._written_blobs is None:
            return
        self._written_blobs |= self._new_blobs
        if len(self._written_blobs) > KEPT_BLOBS:
            self._written_blobs = None

    def _rows(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.OperationalError:
            return []  # busy for too long: as if nothing were remembered
        except sqlite3.DatabaseError:
            self._begin_anew()
            return []

    def _write(self, query: str, rows: Iterable[tuple[object, ...]]) -> bool:
        try:
            with self._database:
                self._database.executemany(query, rows)
        except sqlite3.OperationalError:
            return False  # busy, or the disk is full: remembered in memory only
        except sqlite3.DatabaseError:
            self._begin_anew()
            return False
        return True

    def _begin_anew(self) -> None:
        self._database.close()
        _remove(self._path)
        self._database = _open(self._path)


def _open(path: Path | None) -> sqlite3.Connection:
    """Open or make the database; one in memory where that is impossible."""
    if path is not None:
        for _ in range(2):
            try:
                return _connect(path)
            except sqlite3.OperationalError:
                break
            except (sqlite3.DatabaseError, OSError):
                _remove(path)
    return _prepared(sqlite3.connect(":memory:", check_same_thread=False))


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    database = sqlite3.connect(path, timeout=BUSY_WAIT_S, check_same_thread=False)
    try:
        path.chmod(0o600)
        database.execute("PRAGMA synchronous = OFF")  # there is nothing to lose in a new one
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise sqlite3.DatabaseError("of another version")
        if version == 0:
            database.execute("PRAGMA journal_mode = WAL")
            _prepared(database)
        database.execute("PRAGMA synchronous = NORMAL")
        return database
    except BaseException:
        database.close()
        raise


def _prepared(database: sqlite3.Connection) -> sqlite3.Connection:
    database.executescript(SCHEMA)
    database.execute(f"PRAGMA user_version = {VERSION}")
    return database


def _remove(path: Path | None) -> None:
    if path is not None:
        for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
            with contextlib.suppress(OSError):
                name.unlink()


def open_upload_cache(cache_dir: Path, server: str, generation: str) -> UploadCache:
    """The cache for one storage generation of one server; the file's name tells them apart."""
    key = hashlib.sha256(f"{server}\n{generation}".encode()).hexdigest()[:32]
    path = cache_dir / f"uploads-{key}.sqlite3"
    if not path.exists():
        _drop_old(cache_dir)
    return UploadCache(path)


def _drop_old(cache_dir: Path) -> None:
    """Keep a few caches, and those used lately."""
    with contextlib.suppress(OSError):
        found = sorted(cache_dir.glob("uploads-*.sqlite3"), key=lambda path: -path.stat().st_mtime)
        for path in found[KEPT_FILES:]:
            if path.stat().st_mtime < time.time() - KEPT_S:
                _remove(path)
