"""Words and phrases of texts in PostgreSQL, where the rows are there (README.md, "Full text").

The words are made here, as SQLite makes them, and not by a configuration of the server: that would
break names and addresses apart in its own way, and loses the places of words far down in a text.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

import sqlalchemy as sa

from ..blob import Ref
from ..errors import Invalid, StoreError, Unavailable, Unsupported
from ..sorted.registry import open_kv
from ..sorted.sql import SQLKeyValue
from .fulltext import MOST_FOUND, SNIPPET_WORDS, Document, Texts

LEXEME_SIZE: Final = 16
"""Characters of a word by which it is looked up; the whole is compared then."""

MOST_LEXEME_BYTES: Final = 1_000_000
"""Of a document, a little less than PostgreSQL takes; words beyond are not found."""

_BEFORE: Final = SNIPPET_WORDS // 3
_MARKS: Final = "\u0300-\u036f"
_TOKEN = re.compile(rf"(?:[^\W_]|[{_MARKS}])+")
_WORD = re.compile(r"\w")
_NOT_TEXT = re.compile("[\0\ud800-\udfff]")
_LOCK: Final = int.from_bytes(b"pk texts")

_TABLE: Final = sa.text(
    'CREATE TABLE IF NOT EXISTS pk_texts_1 (ref TEXT COLLATE "C" PRIMARY KEY,'
    " title TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, words TEXT NOT NULL,"
    " lexemes TSVECTOR NOT NULL)"
)
"""The number is that of the form. words: of all three, folded, a blank around each."""

_INDEX: Final = sa.text(
    "CREATE INDEX IF NOT EXISTS pk_texts_1_lexemes ON pk_texts_1 USING GIN (lexemes)"
)
_SELECT: Final = sa.text("SELECT title, name, body FROM pk_texts_1 WHERE ref = :ref")
_HAS: Final = sa.text("SELECT 1 FROM pk_texts_1 WHERE ref = :ref")
_DELETE: Final = sa.text("DELETE FROM pk_texts_1 WHERE ref = :ref")
_PUT: Final = sa.text(
    "INSERT INTO pk_texts_1 VALUES (:ref, :title, :name, :body, :words,"
    " array_to_tsvector(CAST(:lexemes AS TEXT[]))) ON CONFLICT (ref) DO UPDATE SET"
    " (title, name, body, words, lexemes) = (EXCLUDED.title, EXCLUDED.name, EXCLUDED.body,"
    " EXCLUDED.words, EXCLUDED.lexemes)"
)
_FIND: Final = sa.text(
    "SELECT ref FROM pk_texts_1 WHERE lexemes @@ CAST(:query AS TSQUERY)"
    " AND words LIKE :pattern LIMIT :most"
)


class PostgresTexts(Texts):
    """A table beside those of the rows. Safe to use from many threads."""

    def __init__(self, args: Mapping[str, object]) -> None:
        """args: of the rows, of type `postgres` or `sql`. Raises what opening these raises."""
        rows = open_kv(args)
        if not isinstance(rows, SQLKeyValue):
            rows.close()
            raise Unsupported("open", "full text", "the rows are not in PostgreSQL")
        self._rows = rows
        self._engine = rows.engine
        try:
            with self._transaction() as connection:
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
                connection.execute(_TABLE)
                connection.execute(_INDEX)
        except StoreError:
            rows.close()
            raise

    def put(self, documents: Iterable[tuple[Ref, Document | None]]) -> set[Ref]:
        with self._transaction() as connection:
            connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
            return {ref for ref, document in documents if _put(connection, ref, document)}

    def has(self, ref: Ref) -> bool:
        with self._transaction() as connection:
            return connection.execute(_HAS, {"ref": ref}).scalar() is not None

    def find(self, words: str) -> list[Ref]:
        tokens, is_open = _phrase(words)
        if not tokens:
            return []
        lexemes = [f"'{token[:LEXEME_SIZE]}'" for token in tokens]
        asked = {
            "query": " & ".join(lexemes) + (":*" if is_open else ""),
            "pattern": f"% {' '.join(tokens)}{'' if is_open else ' '}%",
            "most": MOST_FOUND,
        }
        with self._transaction() as connection:
            return [Ref.trusted(ref) for (ref,) in connection.execute(_FIND, asked)]

    def snippet(self, ref: Ref, searches: Iterable[str]) -> list[str]:
        with self._transaction() as connection:
            row = connection.execute(_SELECT, {"ref": ref}).one_or_none()
        phrases = [phrase for phrase in map(_phrase, searches) if phrase[0]]
        columns = () if row is None else row
        return next((piece for text in columns if (piece := _snippet(text, phrases))), [])

    def close(self) -> None:
        self._rows.close()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.SQLAlchemyError as error:
            reason = str(getattr(error, "orig", error)).replace("\n", "; ")
            raise Unavailable("search", "full text", reason) from None


def _put(connection: sa.Connection, ref: Ref, document: Document | None) -> bool:
    if document is None:
        return connection.execute(_DELETE, {"ref": ref}).rowcount > 0
    columns = [_NOT_TEXT.sub("\ufffd", text) for text in document]
    row = connection.execute(_SELECT, {"ref": ref}).one_or_none()
    if row is not None and list(row) == columns:
        return False
    tokens = [list(map(_folded, _TOKEN.findall(text))) for text in columns]
    # A bar, which is no word, keeps phrases from going on in the next column.
    words = " | ".join(" ".join(filter(None, part)) for part in tokens)
    lexemes = list(_lexemes(token for part in tokens for token in part if token))
    values = dict(zip(("title", "name", "body"), columns, strict=True))
    connection.execute(_PUT, {"ref": ref, **values, "words": f" {words} ", "lexemes": lexemes})
    return True


def _lexemes(tokens: Iterable[str]) -> Iterator[str]:
    left = MOST_LEXEME_BYTES
    for lexeme in dict.fromkeys(token[:LEXEME_SIZE] for token in tokens):
        left -= len(lexeme.encode())
        if left < 0:
            return
        yield lexeme


@lru_cache(maxsize=10_000)
def _folded(token: str) -> str:
    """In lower case and without accents; "" for accents alone."""
    plain = unicodedata.normalize("NFD", token)
    return "".join(c for c in plain if unicodedata.category(c) != "Mn").lower()


def _phrase(words: str) -> tuple[list[str], bool]:
    """The words that are to stand next to each other, and whether the last may go on."""
    if _WORD.search(words) is None:
        raise Invalid("search", "full text", f"no word in {words!r}")
    found = [token for token in map(_folded, _TOKEN.findall(words)) if token]
    return found, words.rstrip().endswith("*")


def _snippet(text: str, phrases: list[tuple[list[str], bool]]) -> list[str]:
    """A piece around the first place of a phrase, split before and behind it; [] without one."""
    spans = [match.span() for match in _TOKEN.finditer(text) if _folded(match[0])]
    tokens = [_folded(text[start:end]) for start, end in spans]
    found = next(
        (
            (at, at + len(phrase))
            for at in range(len(tokens))
            for phrase, is_open in phrases
            if _stands_at(tokens, at, phrase, is_open)
        ),
        None,
    )
    if found is None:
        return []
    first, end = max(found[0] - _BEFORE, 0), found[1]
    last = min(first + max(SNIPPET_WORDS, end - first), len(spans)) - 1
    start = spans[first][0] if first else 0
    stop = spans[last][1] if last + 1 < len(spans) else len(text)
    before = ("…" if first else "") + text[start : spans[found[0]][0]]
    behind = text[spans[end - 1][1] : stop] + ("…" if stop < len(text) else "")
    return [before, text[spans[found[0]][0] : spans[end - 1][1]], behind]


def _stands_at(tokens: list[str], at: int, phrase: list[str], is_open: bool) -> bool:
    if not is_open:
        return tokens[at : at + len(phrase)] == phrase
    *whole, last = phrase
    end = at + len(whole)
    return tokens[at:end] == whole and end < len(tokens) and tokens[end].startswith(last)
