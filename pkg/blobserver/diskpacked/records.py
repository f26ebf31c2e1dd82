"""The form of packs: headers, removed records, fillers, rows (README.md, "Records")."""

import re
from typing import Final, NamedTuple, Self

from ...blob import MAX_BLOB_SIZE, Ref

MAX_HEADER_SIZE: Final = 512
"""Bytes within which Perkeep looks for the end of a header."""

SMALLEST_FILLER: Final = 7
"""Bytes of `[x-0 0]`."""

HEADER: Final = re.compile(rb"\[([a-z0-9]+-[0-9a-f]+) ([0-9]{1,10})\]")
_REMOVED: Final = re.compile(rb"x+-0+")
_PACK_NAME: Final = re.compile(r"pack-([0-9]{5,})\.blobs")


class Place(NamedTuple):
    """Where the bytes of a blob lie; an index row says it."""

    pack: int
    offset: int  # of the first byte of data
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size

    @classmethod
    def from_row(cls, value: bytes) -> Self | None:
        """The place that a row's value names; None where it breaks the form."""
        parts = value.split(b" ")
        if len(parts) != 3 or not all(part.isdigit() for part in parts):
            return None
        return cls(int(parts[0]), int(parts[1]), int(parts[2]))

    def row(self) -> bytes:
        return b"%d %d %d" % self


def header(ref: str, size: int) -> bytes:
    return f"[{ref} {size}]".encode()


def removed_header(ref: Ref, size: int) -> bytes:
    """The header of a removed blob: as long as the one that it takes the place of."""
    digits = ref.hex_digest
    return header("x" * len(ref.hash_name) + "-" + "0" * len(digits), size)


def is_removed(name: bytes) -> bool:
    """Whether a header with this name belongs to a removed record or a filler."""
    return _REMOVED.fullmatch(name) is not None


def filler(length: int) -> bytes:
    """The header of a removed record that is `length` bytes long in all, itself included.

    length: 7 or more. Some lengths need a longer digest than `0` to come out.
    """
    zeros = 1
    while True:
        for digits in range(1, 11):
            size = length - len("[x- ]") - zeros - digits
            if size >= 0 and len(str(size)) == digits:
                return header("x-" + "0" * zeros, size)
        zeros += 1


def fillers(begin: int, end: int) -> list[tuple[int, bytes]]:
    """Headers that turn `begin` to `end` into removed records: (offset, header).

    None of them is longer than a blob may be. There must be room for one.
    """
    found = []
    while end - begin > MAX_BLOB_SIZE:
        length = min(MAX_BLOB_SIZE, end - begin - SMALLEST_FILLER)
        found.append((begin, filler(length)))
        begin += length
    return [*found, (begin, filler(end - begin))]


def pack_name(number: int) -> str:
    return f"pack-{number:05}.blobs"


def pack_number(name: str) -> int | None:
    """The number of the pack that has this file name; None for other files."""
    match = _PACK_NAME.fullmatch(name)
    return int(match[1]) if match and pack_name(int(match[1])) == name else None
