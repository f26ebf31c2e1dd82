"""Rows of our own by which searches find blobs without a scan (README.md, "Rows for searches").

Each follows from one other row alone, so they can be made again at any time.
"""

import hashlib
from functools import lru_cache
from typing import Final

from ..blob import Ref
from ..schema.claims import ADD_ATTRIBUTE, SET_ATTRIBUTE
from ..sorted.kv import MAX_KEY_SIZE
from .rows import SCHEMA_MIME, Row, esc, unesc
from .words import ends_of, words_of

DERIVED_KEY: Final = b"pk|derived"
DERIVED_VERSION: Final = b"2"
DIRTY: Final = b"pk|dirty|"
HAS: Final = b"pk|has|"
TYPE: Final = b"pk|type|"
PARENT: Final = b"pk|parent|"
NAME: Final = b"pk|name|"
MIME: Final = b"pk|mime|"
WORD: Final = b"pk|word|"
END: Final = b"pk|end|"
DERIVED_PREFIXES: Final = (DIRTY, HAS, TYPE, PARENT, NAME, MIME, WORD, END)

_LONGEST_ATTRIBUTE: Final = 200
_LONGEST_VALUE: Final = 300
_UNLISTED_TYPES: Final = frozenset({"", "claim", "bytes"})
"""Types of most blobs, which nobody lists."""


def derived_rows(row: Row) -> list[Row]:
    """What follows from a row of the index; nothing from most."""
    derive = _BY_KIND.get(row[0][:5])
    if derive is None:
        return []
    # As in rows.fitted: a key over the limit names what no store can hold.
    return [derived for derived in derive(*row) if len(derived[0]) <= MAX_KEY_SIZE]


def dirty_key(ref: str) -> bytes:
    """Marks what snapshots depend on and has changed."""
    return DIRTY + ref.encode()


def has_prefix_key(attribute: str, value: str | None = None) -> bytes:
    """Before the permanode in keys of those that ever had the value; None: any value."""
    head = f"pk|has|{_short(esc(attribute), _LONGEST_ATTRIBUTE)}|"
    if value is None:
        return head.encode()
    return f"{head}{_short(esc(value), _LONGEST_VALUE)}|".encode()


def has_beginning_key(attribute: str, beginning: str) -> bytes:
    """The same for values that begin so; those over the limit begin with `#` here."""
    escaped = esc(beginning)[:_LONGEST_VALUE]
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
        head = f"{_short(attribute, _LONGEST_ATTRIBUTE)}|{_short(text, _LONGEST_VALUE)}"
        rows.append((f"pk|has|{head}|{permanode}".encode(), b""))
        rows += _of_words(_short(attribute, _LONGEST_ATTRIBUTE), unesc(text), permanode)
    return rows


def _of_words(attribute: str, value: str, permanode: str) -> list[Row]:
    words = words_of(value)
    if words is None:
        return [(f"pk|word|{attribute}|#|{permanode}".encode(), b"")]
    rows: list[Row] = []
    for word in words:
        escaped, ends = _ends(attribute, word)
        rows.append((f"pk|word|{attribute}|{escaped}|{permanode}".encode(), b""))
        rows += ends
    return rows


@lru_cache(maxsize=10_000)
def _ends(attribute: str, word: str) -> tuple[str, list[Row]]:
    """The word as keys have it, and the rows by which its ends lead to it."""
    escaped = _short(esc(word), _LONGEST_VALUE)
    keys = (f"pk|end|{attribute}|{esc(end)}|{escaped}" for end in ends_of(word))
    return escaped, [(key.encode(), b"") for key in keys]


def end_prefix(attribute: str, piece: str) -> bytes:
    """Before the rest and the word in keys of words that contain the piece."""
    return f"pk|end|{_short(esc(attribute), _LONGEST_ATTRIBUTE)}|{esc(piece)}".encode()


def word_prefix(attribute: str, word: str) -> bytes:
    """Before the permanode. word: as keys of ends have it; `#`: too many words to list."""
    return f"pk|word|{_short(esc(attribute), _LONGEST_ATTRIBUTE)}|{word}|".encode()


def _of_deletion(key: bytes, _: bytes) -> list[Row]:
    return [(dirty_key(key.decode().split("|")[1]), b"")]


def _of_file_times(key: bytes, _: bytes) -> list[Row]:
    return [(dirty_key(key.decode().split("|")[1]), b"")]


def _of_child(key: bytes, _: bytes) -> list[Row]:
    directory, child = key.decode().split("|")[1:]
    return [(f"pk|parent|{child}|{directory}".encode(), b"")]


def _of_meta(key: bytes, value: bytes) -> list[Row]:
    mime = value.decode().partition("|")[2]
    camli_type = mime.removeprefix(SCHEMA_MIME)
    if not mime.startswith(SCHEMA_MIME) or camli_type in _UNLISTED_TYPES:
        return []
    return [(f"{type_prefix(camli_type)}{key[5:].decode()}".encode(), b"")]


def type_prefix(camli_type: str) -> str:
    """Before the ref in keys of blobs of a type."""
    return f"pk|type|{_short(esc(camli_type), _LONGEST_ATTRIBUTE)}|"


def is_listed_type(camli_type: str) -> bool:
    return camli_type not in _UNLISTED_TYPES


def _of_file_info(key: bytes, value: bytes) -> list[Row]:
    fields = value.decode().split("|")
    ref = key.decode().split("|")[1]
    if len(fields) < 4 or not fields[3]:  # a directory
        return []
    return [
        (f"pk|name|{_short(fields[1], _LONGEST_VALUE)}|{ref}".encode(), b""),
        (f"pk|mime|{_short(fields[2], _LONGEST_VALUE)}|{ref}".encode(), b""),
    ]


def name_prefix(name: str) -> bytes:
    """Before the ref in keys of files of this name."""
    return f"pk|name|{_short(esc(name), _LONGEST_VALUE)}|".encode()


def mime_prefix(mime: str) -> bytes:
    """The same for the kind of a file."""
    return f"pk|mime|{_short(esc(mime), _LONGEST_VALUE)}|".encode()


_BY_KIND: Final = {
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
SNAPSHOT_PREFIXES: Final = (SNAPSHOT, CREATED, PLACE)

_TIME_DIGITS: Final = 22
_TIME_TOP: Final = 10**_TIME_DIGITS - 10**21
_ALPHABET: Final = "-0123456789abcdefghijklmnopqrstuvwxyz"
_MIRROR: Final = str.maketrans(_ALPHABET, _ALPHABET[::-1])


def snapshot_key(permanode: str) -> bytes:
    return SNAPSHOT + permanode.encode()


def created_key(created_ns: int, permanode: str = "") -> bytes:
    """Sorts newest first, equal times by ref descending; without a ref: before all of the time."""
    return f"pk|created|{_TIME_TOP - created_ns:0{_TIME_DIGITS}d}|{mirrored(permanode)}".encode()


def read_created_key(key: bytes) -> tuple[int, Ref]:
    """The time and the permanode of a `pk|created` row."""
    _, _, time, name = key.decode().split("|")
    return _TIME_TOP - int(time), Ref.trusted(mirrored(name))


def mirrored(ref: str) -> str:
    """A text that sorts the other way round; undoes itself."""
    return ref.translate(_MIRROR)


def place_key(latitude: float, longitude: float, permanode: str = "") -> bytes:
    """By cells of one degree; what lies beyond the globe is in the cells at its edge."""
    return f"{place_prefix(cell(latitude, 90), cell(longitude, 180))}{permanode}".encode()


def place_prefix(row: int, column: int) -> str:
    """Before the permanode in keys of those in a cell."""
    return f"pk|place|{row:03d}|{column:03d}|"


def cell(degrees: float, reach: int) -> int:
    """The number of the cell of a coordinate, of 2 × reach, from south or west."""
    return int(min(max(degrees + reach, 0), 2 * reach - 1))
