"""Rows in an SQLite file, with the tables that Perkeep makes."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from operator import lt
from pathlib import Path
from typing import Final, Self

from ..errors import Corrupt, ReadOnly, StoreError, Unavailable, Unsupported
from .folders import make_folder, size_bytes, sync_folder
from .kv import Batch, KeyValue
from .options import Options

_WAIT_S: Final = 10.0
"""How long to wait for another program that is writing to the same file."""

_PAGE: Final = 500
"""Rows that a find fetches at a time."""

_LOG_PAGES: Final = 1000
_LOGS_ON_DISK: Final = 32

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS rows (k VARCHAR(767) NOT NULL PRIMARY KEY, v VARCHAR(63000));
CREATE TABLE IF NOT EXISTS meta
    (metakey VARCHAR(255) NOT NULL PRIMARY KEY, value VARCHAR(255) NOT NULL);
INSERT OR IGNORE INTO meta VALUES ('version', '1');
"""

# Keys are TEXT in the tables, and a BLOB never equals a TEXT: every parameter is cast.
_GET: Final = "SELECT v FROM rows WHERE k = CAST(? AS TEXT)"
_SET: Final = "REPLACE INTO rows (k, v) VALUES (CAST(? AS TEXT), CAST(? AS TEXT))"
_CHECK: Final = "PRAGMA quick_check(1)"
_OTHER_TYPES: Final = "SELECT 1 FROM rows NOT INDEXED WHERE typeof(v) != 'text' LIMIT 1"
_KEYS: Final = "SELECT k FROM rows ORDER BY k"
_DELETE: Final = "DELETE FROM rows WHERE k = CAST(? AS TEXT)"
_FIND: Final = "SELECT k, v FROM rows WHERE k >= CAST(? AS TEXT) ORDER BY k"
_FIND_TO: Final = (
    "SELECT k, v FROM rows WHERE k >= CAST(? AS TEXT) AND k < CAST(? AS TEXT) ORDER BY k"
)


class SQLiteKeyValue(KeyValue):
    """SQLite in WAL mode: one connection writes, each find reads through one of its own.

    A durable commit syncs the write-ahead log (`synchronous` FULL), another one does not.
    After a failed sync the store takes no more writes.
    """

    def __init__(self, file: Path) -> None:
        """Open or create. Raises Corrupt, Unavailable, Unsupported (a newer schema)."""
        self._file = file
        self._write_lock = threading.Lock()
        self._idle_lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._failure = ""
        self._is_closed = False
        with self._translated("open"):
            is_new = not file.exists()
            make_folder(file.parent)
            self._writer = self._connect()
            try:
                self._prepare()
                if is_new:
                    sync_folder(file.parent)
            except BaseException:
                self._writer.close()
                raise

    @classmethod
    def from_config(cls, args: Mapping[str, object]) -> Self:
        with Options("sqlite", args) as options:
            file = Path(options.string("file"))
        return cls(file)

    def get(self, key: bytes) -> bytes | None:
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        found = {}
        with self._translated("read"), self._reader() as reader:
            for key in keys:
                row = reader.execute(_GET, (key,)).fetchone()
                if row is not None:
                    found[key] = row[0]
        return found

    def find(self, start: bytes = b"", end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        with self._translated("read"), self._reader() as reader:
            # The open cursor is the snapshot: it holds a read transaction of its connection.
            cursor = (
                reader.execute(_FIND_TO, (start, end)) if end else reader.execute(_FIND, (start,))
            )
            try:
                while page := cursor.fetchmany(_PAGE):
                    yield from page
            finally:
                cursor.close()

    def commit(self, batch: Batch, durable: bool = True) -> None:
        """On a full disk the log's room is used first: moved into the file, it is empty."""
        try:
            self._commit(batch, durable)
        except _DiskFull:
            self._shorten_log()
            self._commit(batch, durable)

    def _commit(self, batch: Batch, durable: bool) -> None:
        with self._transaction("write", durable):
            for key, value in batch.operations:
                if value is None:
                    self._writer.execute(_DELETE, (key,))
                else:
                    self._writer.execute(_SET, (key, value))

    def wipe(self) -> None:
        with self._transaction("wipe", durable=True):
            self._writer.execute("DELETE FROM rows")

    def verify(self) -> None:
        """Read all pages, which have no checksums.

        Raises Corrupt where their form is broken, a value is no text, or keys are out of order:
        what SQLite looks for between such keys it may not find.
        """
        with self._translated("check"), self._reader() as reader:
            found = [str(row[0], "utf-8", "replace") for row in reader.execute(_CHECK)]
            if found != ["ok"]:
                raise Corrupt("check", self._file, found[0] if found else "")
            if reader.execute(_OTHER_TYPES).fetchone() is not None:
                raise Corrupt("check", self._file, "a value is no text")
            if not _are_ordered(reader.execute(_KEYS)):
                raise Corrupt("check", self._file, "keys are out of order")

    def close(self) -> None:
        """The last connection to close moves the log into the file and removes it."""
        with self._write_lock, self._idle_lock:
            self._is_closed = True
            for connection in self._idle:
                connection.close()
            self._idle.clear()
            self._writer.close()

    # -- connections ----------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._file, timeout=_WAIT_S, isolation_level=None, check_same_thread=False
        )
        connection.text_factory = bytes
        return connection

    def _prepare(self) -> None:
        self._writer.execute("PRAGMA synchronous = FULL")
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute(f"PRAGMA wal_autocheckpoint = {self._log_pages()}")
        tables = {name for (name,) in self._writer.execute("SELECT name FROM sqlite_master")}
        if not {b"rows", b"meta"} <= tables:
            self._writer.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        row = self._writer.execute("SELECT value FROM meta WHERE metakey = 'version'").fetchone()
        if row is None:
            raise Corrupt("open", self._file, "the schema version is missing")
        if row[0] != b"1":
            found = row[0].decode("utf-8", "replace")
            raise Unsupported("open", self._file, f"schema version is {found}, not 1")

    def _log_pages(self) -> int:
        """How long the log gets: SQLite's own 1,000 pages, less on a very small file system."""
        page_bytes = int(self._writer.execute("PRAGMA page_size").fetchone()[0])
        disk_bytes = size_bytes(self._file.absolute().parent)
        return max(1, min(_LOG_PAGES, disk_bytes // _LOGS_ON_DISK // page_bytes))

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        with self._idle_lock:
            if self._is_closed:
                raise Unavailable("read", self._file, "the store is closed")
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = self._connect()
        try:
            yield connection
        finally:
            with self._idle_lock:
                if self._is_closed:
                    connection.close()
                else:
                    self._idle.append(connection)

    @contextmanager
    def _transaction(self, operation: str, durable: bool) -> Iterator[None]:
        with self._translated(operation), self._write_lock:
            if self._failure:
                raise ReadOnly(operation, self._file, self._failure)
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._writer.execute("COMMIT")
            except BaseException as error:
                self._note_failure(error)
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    def _note_failure(self, error: BaseException) -> None:
        if getattr(error, "sqlite_errorcode", 0) in FAILED_SYNCS:
            self._failure = "a sync failed; restart to write again"

    def _shorten_log(self) -> None:
        """Move the log into the file, which takes less room; as far as nobody reads from it."""
        with self._translated("write"), self._write_lock:
            self._writer.execute("PRAGMA busy_timeout = 0")
            try:
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            except sqlite3.Error as error:
                self._note_failure(error)
                raise
            finally:
                self._writer.execute(f"PRAGMA busy_timeout = {int(_WAIT_S * 1000)}")

    @contextmanager
    def _translated(self, operation: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError as error:  # its word for "closed"
            raise Unavailable(operation, self._file, str(error)) from error
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            raise ERRORS.get(code, Unavailable)(operation, self._file, str(error)) from error
        except OSError as error:
            raise Unavailable(operation, self._file, error.strerror or "") from error


def _are_ordered(cursor: sqlite3.Cursor) -> bool:
    """Whether one-column rows ascend; damaged ones may also be numbers, or nothing."""
    before = b""
    try:
        while page := [key for (key,) in cursor.fetchmany(_PAGE)]:
            if not all(map(lt, [before, *page], page)):
                return False
            before = page[-1]
    except TypeError:
        return False
    return True


class _DiskFull(Unavailable):
    """There is no room for the write."""


ERRORS: Final[dict[int, type[StoreError]]] = {
    sqlite3.SQLITE_CORRUPT: Corrupt,
    sqlite3.SQLITE_NOTADB: Corrupt,
    sqlite3.SQLITE_READONLY: ReadOnly,
    sqlite3.SQLITE_FULL: _DiskFull,
}

FAILED_SYNCS: Final = frozenset({sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC})
"""A failed write is none: what a log or a table got of it is written over by the next."""
