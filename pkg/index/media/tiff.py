"""Directories of tags, as TIFF files hold them and EXIF borrows them."""

import struct
from typing import Final, NamedTuple

from ...errors import Corrupt
from .source import Source, number, take

ASCII: Final = 2
UNDEFINED: Final = 7

_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_CODES: Final = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d"}
_RATIONALS: Final = {5: "I", 10: "i"}

MAX_VALUE_SIZE: Final = 60_000
"""Bytes of one tag's value; larger ones are maker data, no facts."""

MAX_TAGS: Final = 1000
"""Tags of one directory; more are left out."""


class Rational(NamedTuple):
    numerator: int
    denominator: int


Value = bytes | tuple[int, ...] | tuple[float, ...] | tuple[Rational, ...]


class Tag(NamedTuple):
    """A tag: raw bytes for text and UNDEFINED, else a tuple of its numbers, never empty."""

    type: int
    value: Value

    def integer(self) -> int | None:
        """The first value, where it is an integer."""
        first = self.value[0] if self.type not in (ASCII, UNDEFINED) and self.value else None
        return first if isinstance(first, int) else None


class Tiff:
    """The byte order and first directory of a TIFF structure. Raises Corrupt if it is none."""

    def __init__(self, source: Source) -> None:
        mark = take(source, 0, 4)
        if mark[:2] not in (b"II", b"MM"):
            raise Corrupt("read", "tiff", "no byte order mark")
        self._source = source
        self._big_endian = mark[:2] == b"MM"
        self.first = self._number(4, 4)

    def _number(self, offset: int, length: int) -> int:
        return number(self._source, offset, length, self._big_endian)

    def directory(self, offset: int, wanted: frozenset[int]) -> tuple[dict[int, Tag], int]:
        """The wanted tags at `offset`, and the offset of the directory that follows (0: none).

        Raises Corrupt when there is no directory; single tags that can't be read are left out.
        """
        count = self._number(offset, 2)
        tags: dict[int, Tag] = {}
        entries = self._source.read(offset + 2, 12 * min(count, MAX_TAGS))
        order = ">" if self._big_endian else "<"
        for entry in struct.iter_unpack(order + "HHI4s", entries[: len(entries) // 12 * 12]):
            tag_id, kind, value_count, inline = entry
            if tag_id in wanted:  # of a repeated one the last counts
                tag = self._tag(kind, value_count, inline)
                if tag is not None:
                    tags[tag_id] = tag
        following = self._source.read(offset + 2 + 12 * count, 4)
        return tags, struct.unpack(order + "I", following)[0] if len(following) == 4 else 0

    def _tag(self, kind: int, count: int, inline: bytes) -> Tag | None:
        unit = _SIZES.get(kind)
        if unit is None or count == 0 or count * unit > MAX_VALUE_SIZE:
            return None
        size = count * unit
        order = ">" if self._big_endian else "<"
        data = inline[:size]
        if size > 4:
            data = self._source.read(struct.unpack(order + "I", inline)[0], size)
            if len(data) < size:
                return None
        if kind in (ASCII, UNDEFINED):
            return Tag(kind, data)
        if kind in _RATIONALS:
            flat = struct.unpack(f"{order}{2 * count}{_RATIONALS[kind]}", data)
            pairs = zip(flat[::2], flat[1::2], strict=True)
            return Tag(kind, tuple(Rational(*pair) for pair in pairs))
        return Tag(kind, struct.unpack(f"{order}{count}{_CODES[kind]}", data))
