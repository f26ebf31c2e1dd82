"""Rows of our own by which searches find blobs without a scan (README.md, "Rows for searches").

Each follows from one other row alone, so they can be made again at any time.
"""

import hashlib
from functools import lru_cache
from typing import Final

from ..blob import Ref
from ..schema.claims import ADD_ATTRIBUTE, SET_ATTRIBUTE
from ..sorted.kv import MAX_KEY_SIZE
from .rows import DATED, SCHEMA_MIME, SHORT_ROW, Row, esc, unesc
from .trees import GROWN, grown_key
from .words import ends_of, is_ref, words_of

DERIVED_KEY: Final = b"pk|derived"
DERIVED_VERSION: Final = b"4"
SWEEP_KEY: Final = b"pk|sweep"
DIRTY: Final = b"pk|dirty|"
HAS: Final = b"pk|has|"
TYPE: Final = b"pk|type|"
PARENT: Final = b"pk|parent|"
NAME: Final = b"pk|name|"
MIME: Final = b"pk|mime|"
END: Final = b"pk|end|"
DERIVED_PREFIXES: Final = (DIRTY, HAS, TYPE, PARENT, NAME, MIME, END, GROWN)

_LONGEST_ATTRIBUTE: Final = 200
LONGEST_VALUE: Final = 300

_UNLISTED_TYPES: Final = frozenset({"", "claim", "bytes"})
"""Types of most blobs, which nobody lists."""


def derived_rows(row: Row) -> list[Row]:
    """What follows from a row of the index; nothing from most."""
    derive = _BY_KIND.get(row[0][:5])
    if derive is None:
        return []
    rows = derive(*row)
    if len(row[0]) + len(row[1]) <= SHORT_ROW:
        return rows
    # As in rows.fitted: a key over the limit names what no store can hold.
    return [derived for derived in rows if len(derived[0]) <= MAX_KEY_SIZE]


def dirty_key(ref: str) -> bytes:
    """Marks what snapshots depend on and has changed."""
    return DIRTY + ref.encode()


def has_prefix_key(attribute: str, value: str | None = None) -> bytes:
    """Before the permanode in keys of those that ever had the value; None: any value."""
    head = f"pk|has|{_short(esc(attribute), _LONGEST_ATTRIBUTE)}|"
    if value is None:
        return head.encode()
    return f"{head}{_short(esc(value), LONGEST_VALUE)}|".encode()


def has_beginning_key(attribute: str, beginning: str) -> bytes:
    """The same for values that begin so; those over the limit begin with `#` here."""
    escaped = esc(beginning)[:LONGEST_VALUE]
    return f"{has_prefix_key(attribute).decode()}{escaped}".encode()


def _short(escaped: str, limit: int) -> str:
    """Escaped text that fits into a key; `#`, which no escaped text holds, marks a digest."""
    if len(escaped) <= limit:
        return escaped
    return "#" + hashlib.sha224(escaped.encode()).hexdigest()


def _of_claim(key: bytes, value: bytes) -> list[Row]:
    permanode = key.decode().split("|")[1]
    kind, attribute, text = value.decode().split("|")[:3]
    rows = [(dirty_key(permanode), b"")]
    if kind in (SET_ATTRIBUTE, ADD_ATTRIBUTE):
        rows.append(has_row(permanode, attribute, text))
        short = _short(attribute, _LONGEST_ATTRIBUTE)
        rows += [end for word in words_of(unesc(text)) or () for end in end_rows(short, word)]
    return rows


def has_row(permanode: str, attribute: str, value: str) -> Row:
    """That the permanode ever had the value. Both are escaped."""
    head = f"{_short(attribute, _LONGEST_ATTRIBUTE)}|{_short(value, LONGEST_VALUE)}"
    return f"pk|has|{head}|{permanode}".encode(), b""


def end_rows(attribute: str, word: str) -> list[Row]:
    """The rows by which the ends of a word lead to it. attribute: escaped, and short."""
    escaped = _escaped_word(word)
    ends = ends_of(word) if word.isascii() else map(esc, ends_of(word))
    return [(f"pk|end|{attribute}|{end}|{escaped}".encode(), b"") for end in ends]


def end_prefix(attribute: str, piece: str) -> bytes:
    """Before the rest and the word in keys of words that contain the piece."""
    return f"pk|end|{_short(esc(attribute), _LONGEST_ATTRIBUTE)}|{esc(piece)}".encode()


def _of_deletion(key: bytes, _: bytes) -> list[Row]:
    return [(dirty_key(key.decode().split("|")[1]), b"")]


def _of_file_times(key: bytes, _: bytes) -> list[Row]:
    return [(dirty_key(key.decode().split("|")[1]), b"")]


def _of_dated(key: bytes, _: bytes) -> list[Row]:
    return [(dirty_key(key[len(DATED) :].decode()), b"")]


def _of_child(key: bytes, _: bytes) -> list[Row]:
    directory, child = key.decode().split("|")[1:]
    return [(f"pk|parent|{child}|{directory}".encode(), b"")]


def _of_meta(key: bytes, value: bytes) -> list[Row]:
    mime = value.decode().partition("|")[2]
    if not mime.startswith(SCHEMA_MIME):
        return []
    return type_rows(key[5:].decode(), mime[len(SCHEMA_MIME) :])


def type_rows(ref: str, camli_type: str) -> list[Row]:
    """What follows from the type of a schema blob."""
    if camli_type in _UNLISTED_TYPES:
        return []
    row = (f"{type_prefix(camli_type)}{ref}".encode(), b"")
    return [row, (dirty_key(ref), b"")] if camli_type == "permanode" else [row]


def type_prefix(camli_type: str) -> str:
    """Before the ref in keys of blobs of a type."""
    return f"pk|type|{_short(esc(camli_type), _LONGEST_ATTRIBUTE)}|"


def is_listed_type(camli_type: str) -> bool:
    return camli_type not in _UNLISTED_TYPES


def _of_file_info(key: bytes, value: bytes) -> list[Row]:
    fields = value.decode().split("|")
    ref = key.decode().split("|")[1]
    grown = (grown_key(ref), b"")
    if len(fields) < 4 or not fields[3]:  # a directory
        return [grown]
    return [
        grown,
        (f"pk|name|{_short(fields[1], LONGEST_VALUE)}|{ref}".encode(), b""),
        (f"pk|mime|{_short(fields[2], LONGEST_VALUE)}|{ref}".encode(), b""),
    ]


def name_prefix(name: str) -> bytes:
    """Before the ref in keys of files of this name."""
    return f"pk|name|{_short(esc(name), LONGEST_VALUE)}|".encode()


def mime_prefix(mime: str) -> bytes:
    """The same for the kind of a file."""
    return f"pk|mime|{_short(esc(mime), LONGEST_VALUE)}|".encode()


_BY_KIND: Final = {
    b"pk|da": _of_dated,
    b"claim": _of_claim,
    b"delet": _of_deletion,
    b"filet": _of_file_times,
    b"dirch": _of_child,
    b"meta:": _of_meta,
    b"filei": _of_file_info,
}


# -- rows of snapshots --------------------------------------------------------------------------

SNAPSHOT: Final = b"pk|pn|"
CREATED: Final = b"pk|created|"
PLACE: Final = b"pk|place|"
NOW: Final = b"pk|now|"
WORD: Final = b"pk|word|"
LARGE: Final = b"pk|large|"
SNAPSHOT_PREFIXES: Final = (SNAPSHOT, CREATED, PLACE, NOW, WORD, LARGE)

_TIME_DIGITS: Final = 22
_TIME_TOP: Final = 10**_TIME_DIGITS - 10**21
_ALPHABET: Final = "-0123456789abcdefghijklmnopqrstuvwxyz"
_MIRROR: Final = str.maketrans(_ALPHABET, _ALPHABET[::-1])


def snapshot_key(permanode: str) -> bytes:
    return SNAPSHOT + permanode.encode()


def tail(created_ns: int, permanode: str = "") -> bytes:
    """The end of keys that sort newest first, equal times by ref descending.

    Without a ref: before all of the time.
    """
    return f"{_TIME_TOP - created_ns:0{_TIME_DIGITS}d}|{mirrored(permanode)}".encode()


def read_tail(end: bytes) -> tuple[int, Ref]:
    """The time and the permanode that the end of a key names."""
    name = end[_TIME_DIGITS + 1 :].decode().translate(_MIRROR)
    return _TIME_TOP - int(end[:_TIME_DIGITS]), Ref.trusted(name)


def mirrored(ref: str) -> str:
    """A text that sorts the other way round; undoes itself."""
    return ref.translate(_MIRROR)


def now_prefix(attribute: str, value: str) -> bytes:
    """Before the tail in keys of permanodes that have the value now."""
    return f"{_now_head(attribute)}{_short(esc(value), LONGEST_VALUE)}|".encode()


def now_beginning(attribute: str, beginning: str) -> bytes:
    """The same for values that begin so; those over the limit begin with `#` here."""
    return f"{_now_head(attribute)}{esc(beginning)[:LONGEST_VALUE]}".encode()


@lru_cache(maxsize=1024)
def _now_head(attribute: str) -> str:
    return f"pk|now|{_short(esc(attribute), _LONGEST_ATTRIBUTE)}|"


def word_prefix(attribute: str, word: str) -> bytes:
    """Before the tail. word: as keys of ends have it; `#`: too many words to list."""
    return _word_head(attribute) + f"{word}|".encode()


@lru_cache(maxsize=1024)
def _word_head(attribute: str) -> bytes:
    return f"pk|word|{_short(esc(attribute), _LONGEST_ATTRIBUTE)}|".encode()


def value_prefixes(attribute: str, value: str) -> list[bytes]:
    """Before the tail in keys by which a value is found; none lead to refs (README.md)."""
    words = words_of(value)
    if not words and is_ref(value):
        return []
    head = _word_head(attribute)
    escaped = ["#"] if words is None else map(_escaped_word, words)
    return [now_prefix(attribute, value), *[head + f"{word}|".encode() for word in escaped]]


def _escaped_word(word: str) -> str:
    """As keys have it."""
    return word if word.isascii() else _short(esc(word), LONGEST_VALUE)


def place_prefix(row: int, column: int) -> bytes:
    """Before the tail in keys of those in a cell of one degree."""
    return b"pk|place|%03d|%03d|" % (row, column)


def cell(degrees: float, reach: int) -> int:
    """The number of the cell of a coordinate, of 2 × reach, from south or west.

    What lies beyond the globe is in the cells at its edge.
    """
    return int(min(max(degrees + reach, 0), 2 * reach - 1))
