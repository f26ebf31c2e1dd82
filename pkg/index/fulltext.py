"""Words and phrases of texts, in an SQLite file beside the rows (README.md, "Full text").

A cache: it can be thrown away at any time and is made again from the rows.
"""

import contextlib
import re
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ..blob import Ref
from ..errors import Invalid, Unavailable

MOST_FOUND: Final = 100_000
"""Documents of one search; of more the rest is left out."""

SNIPPET_WORDS: Final = 24

_VERSION: Final = 2
_WAIT_S: Final = 10.0
_WORDS = re.compile(r"\w+")
_MARK: Final = "\x01"

_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS documents (id INTEGER PRIMARY KEY, ref TEXT NOT NULL UNIQUE);
CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(
    title, name, body, tokenize = "unicode61 remove_diacritics 2");
PRAGMA user_version = {_VERSION};
"""


class Document(NamedTuple):
    """What is known of a blob in words. name: a file's; body: everything else."""

    title: str = ""
    name: str = ""
    body: str = ""


class Texts(ABC):
    """Documents by ref. Safe to use from many threads."""

    @abstractmethod
    def put(self, documents: Iterable[tuple[Ref, Document | None]]) -> set[Ref]:
        """Replace documents; None takes one away. Returns those that are others than before."""

    @abstractmethod
    def has(self, ref: Ref) -> bool:
        """Whether there is a document of this blob."""

    @abstractmethod
    def find(self, words: str) -> list[Ref]:
        """The blobs in whose text these words stand next to each other, in no order.

        words: a `*` at the end lets the last one go on. Raises Invalid without any word.
        """

    @abstractmethod
    def snippet(self, ref: Ref, searches: Iterable[str]) -> list[str]:
        """A piece of the text with the words, split: every second part is one that was found.

        Empty when none of the searches is in it.
        """

    @abstractmethod
    def close(self) -> None:
        """Give it back."""


class FullText(Texts):
    """In a file of SQLite. One thread at a time writes."""

    def __init__(self, path: Path) -> None:
        """Open, or make. A file that is damaged or of another version is made anew."""
        self._path = path
        self._lock = threading.Lock()
        try:
            self._writer = self._opened()
        except sqlite3.DatabaseError:
            for name in (path.name, path.name + "-wal", path.name + "-shm"):
                path.with_name(name).unlink(missing_ok=True)
            self._writer = self._opened()

    def _opened(self) -> sqlite3.Connection:
        connection = self._connection()
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, _VERSION):
                raise sqlite3.DatabaseError("another version")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")  # what is lost is made again
            connection.executescript(_SCHEMA)
            connection.execute("SELECT count(*) FROM (SELECT 1 FROM texts LIMIT 1)").fetchone()
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    def _connection(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=_WAIT_S, check_same_thread=False)

    def put(self, documents: Iterable[tuple[Ref, Document | None]]) -> set[Ref]:
        with self._lock, self._writer as connection:
            return {ref for ref, document in documents if self._put(connection, ref, document)}

    def _put(self, connection: sqlite3.Connection, ref: Ref, document: Document | None) -> bool:
        row = connection.execute("SELECT id FROM documents WHERE ref = ?", (ref,)).fetchone()
        if row is not None:
            before = connection.execute("SELECT * FROM texts WHERE rowid = ?", row).fetchone()
            if document is not None and before == document:
                return False
            connection.execute("DELETE FROM texts WHERE rowid = ?", row)
            if document is None:
                connection.execute("DELETE FROM documents WHERE id = ?", row)
        if document is None:
            return row is not None
        if row is None:
            row = (connection.execute("INSERT INTO documents (ref) VALUES (?)", (ref,)).lastrowid,)
        connection.execute(
            "INSERT INTO texts (rowid, title, name, body) VALUES (?, ?, ?, ?)", (*row, *document)
        )
        return True

    def has(self, ref: Ref) -> bool:
        with self._lock:
            row = self._writer.execute("SELECT 1 FROM documents WHERE ref = ?", (ref,)).fetchone()
        return row is not None

    def find(self, words: str) -> list[Ref]:
        with self._reader() as connection:
            rows = connection.execute(
                "SELECT ref FROM texts JOIN documents ON documents.id = texts.rowid"
                " WHERE texts MATCH ? LIMIT ?",
                (_match_text([words]), MOST_FOUND),
            )
            return [Ref.trusted(ref) for (ref,) in rows]

    def snippet(self, ref: Ref, searches: Iterable[str]) -> list[str]:
        wanted = list(searches)
        if not wanted:
            return []
        with self._reader() as connection:
            row = connection.execute(
                "SELECT snippet(texts, -1, ?, ?, '…', ?) FROM texts WHERE texts MATCH ?"
                " AND rowid = (SELECT id FROM documents WHERE ref = ?)",
                (_MARK, _MARK, SNIPPET_WORDS, _match_text(wanted), ref),
            ).fetchone()
        return [] if row is None else str(row[0]).split(_MARK)

    @contextlib.contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection()
        try:
            yield connection
        except sqlite3.Error as error:
            raise Unavailable("search", "full text", str(error)) from None
        finally:
            connection.close()

    def close(self) -> None:
        with self._lock:
            self._writer.close()


def _match_text(searches: Iterable[str]) -> str:
    return " OR ".join(map(_phrase, searches))


def _phrase(words: str) -> str:
    found = _WORDS.findall(words)
    if not found:
        raise Invalid("search", "full text", f"no word in {words!r}")
    return f'"{" ".join(found)}"' + ("*" if words.rstrip().endswith("*") else "")
