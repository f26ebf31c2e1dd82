"""Turning rows of the index into sized refs, many at a time.

Each step runs over a whole page inside the interpreter's own loops: twice as quick as row by row,
over millions of rows. Keys are looked at because not every index has checksums (SQLite has none).
"""

from collections.abc import Iterable, Iterator
from itertools import islice, repeat
from operator import add, le, lt
from typing import Final

from ...blob import Ref, SizedRef, parse_ref
from ...errors import Corrupt
from ...sorted.kv import KeyValue
from .packs import Packs

Row = tuple[bytes, bytes]

_FIRST_PAGE: Final = 32
_LARGEST_PAGE: Final = 2048
_HEX_DIGITS: Final = b"0123456789abcdef"


def listed(packs: Packs, rows: KeyValue, found: Iterable[Row], after: bytes) -> Iterator[SizedRef]:
    """Yield what a find says, as `sized`, but for rows whose keys are no refs: `check` names them.

    after: what all keys must be above. Raises Corrupt where keys are out of order: a merge of
    listings would take blobs for missing.
    """
    for page in _pages(found):
        if not _are_sound([key for key, _ in page], after):
            page = [row for row in page if parse_ref(row[0].decode("ascii", "replace"))]
            for key, _ in page:
                if key <= after:
                    reason = f"the rows of the index are out of order at {key.decode()}"
                    raise Corrupt("enumerate", packs.root, reason)
                after = key
        if page:
            after = page[-1][0]
            yield from _usual(packs, page) or _one_by_one(packs, rows, page)


def sized(packs: Packs, rows: KeyValue, found: Iterable[Row]) -> Iterator[SizedRef]:
    """Yield what rows say, in their order; lazily, in pages that grow.

    Rows of packs that are missing, or too short for them, are left out, and so are those that
    break their form: `check` names them.
    """
    for page in _pages(found):
        yield from _usual(packs, page) or _one_by_one(packs, rows, page)


def _pages(found: Iterable[Row]) -> Iterator[list[Row]]:
    source = iter(found)
    size = _FIRST_PAGE
    while page := list(islice(source, size)):
        yield page
        size = min(size * 2, _LARGEST_PAGE)


def _are_sound(keys: list[bytes], after: bytes) -> bool:
    """Whether keys are in order and refs of one hash; False where they need a closer look."""
    first, count = keys[0], len(keys)
    if first <= after or not all(map(lt, keys, islice(keys, 1, None))):
        return False
    prefix = first[: first.find(b"-") + 1]
    if not keys[-1].startswith(prefix) or parse_ref(first.decode("ascii", "replace")) is None:
        return False  # what lies in order between two keys begins as both do
    text, length = b"\n".join([*keys, b""]), len(first) + 1
    others = text.translate(None, _HEX_DIGITS)
    return (
        len(text) == count * length
        and text[length - 1 :: length] == b"\n" * count
        and len(others) == count * len(prefix.translate(None, _HEX_DIGITS) + b"\n")
    )


def _usual(packs: Packs, page: list[Row]) -> Iterable[SizedRef] | None:
    """What a page of sound rows says; None where one of them needs a closer look."""
    keys, values = zip(*page, strict=True)
    fields = b" ".join(values).split(b" ")
    try:
        texts = b"\n".join(keys).decode("ascii").split("\n")
        if len(fields) != 3 * len(page) or len(texts) != len(page):
            return None
        ends = map(add, map(int, fields[1::3]), sizes := list(map(int, fields[2::3])))
        if not all(map(le, ends, map(packs.ends.get, fields[0::3], repeat(-1)))):
            return None
        refs = map(str.__new__, repeat(Ref), texts)
        return list(map(tuple.__new__, repeat(SizedRef), zip(refs, sizes, strict=True)))
    except ValueError:
        return None


def _one_by_one(packs: Packs, rows: KeyValue, page: list[Row]) -> Iterator[SizedRef]:
    for key, value in page:
        place = packs.place_of(rows, key, value)
        if place is None:
            continue
        try:
            yield SizedRef(Ref.trusted(key.decode("ascii")), place.size)
        except UnicodeDecodeError:
            continue
