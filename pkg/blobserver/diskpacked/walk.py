"""Walking a pack from record to record, past damage (README.md, "Walking")."""

import hashlib
from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple

from ...blob import MAX_BLOB_SIZE, Ref, parse_ref
from ..filesystem import translate
from .files import PackFileSystem
from .records import HEADER, MAX_HEADER_SIZE, is_removed

_WINDOW: Final = 1 << 20
"""Bytes read ahead at a time."""

_SEARCH_BUDGET: Final = 1 << 30
"""Bytes hashed in search of the next record after a damaged one, before the search goes on only
at places where a whole chain of headers fits: a blob full of things that look like headers must
not make it take for ever."""

_MISNAMED_DIGITS: Final = 4
"""Digits in which names may differ by damage; unrelated ones differ in nearly all."""


class Kind(Enum):
    """What a stretch of a pack is."""

    LIVE = 1  # a record; where the walk verifies, its bytes match its ref
    REMOVED = 2  # a removed record, or a filler
    DAMAGED = 3  # a record with a readable header and bytes of another digest
    TORN = 4  # a record that the end of the pack cuts off, or an unreadable rest
    GAP = 5  # unreadable, up to the next record that can be verified


class Stretch(NamedTuple):
    """Part of a pack, from `begin` to `end`."""

    kind: Kind
    begin: int
    end: int
    offset: int = 0  # of the data; 0 where no header is readable
    size: int = 0  # as the header says
    ref: Ref | None = None  # as the header says
    data: bytes | None = None  # where the walk verifies
    actual: Ref | None = None  # DAMAGED: the name that the bytes have

    @property
    def is_misnamed(self) -> bool:
        """Whether the header is damaged, not the data: their names differ in a few digits."""
        if self.ref is None or self.actual is None:
            return False
        differing = sum(a != b for a, b in zip(self.ref, self.actual, strict=True))
        return 0 < differing <= _MISNAMED_DIGITS


class Damaged(NamedTuple):
    """What `check` found. Without a ref, a stretch of a pack that belongs to no known blob."""

    ref: Ref | None
    path: str
    reason: str
    is_readable: bool = False  # the blob is served all the same; reindexing mends its header


class PackReader:
    """Reads a pack through a window that moves forward. For one thread."""

    def __init__(self, files: PackFileSystem, descriptor: int, path: str, size: int) -> None:
        """size: where reading ends, in bytes."""
        self.path = path
        self.size = size
        self._files = files
        self._descriptor = descriptor
        self._window = b""
        self._begin = 0

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes, fewer only at the end; unreadable blocks come as zeros."""
        start = offset - self._begin
        if start < 0 or start + size > len(self._window):
            size = min(size, self.size - offset)
            if size <= 0:
                return b""
            if start < 0 or start + size > len(self._window):
                self._fill(offset, max(size, min(_WINDOW, self.size - offset)))
                start = 0
        return self._window[start : start + size]

    def _fill(self, offset: int, size: int) -> None:
        try:
            self._window = self._files.read_past_damage(self._descriptor, size, offset)
        except OSError as error:
            raise translate(error, "read", self.path) from error
        self._begin = offset
        if len(self._window) < size:
            self.size = offset + len(self._window)  # the file is shorter than it was


class Walker:
    """Walks one pack."""

    def __init__(self, reader: PackReader, verifies: bool = True) -> None:
        """verifies: whether to read and hash the data of records whose neighbour is in place."""
        self._reader = reader
        self._verifies = verifies
        self._sound_upto = 0  # headers up to here are known to follow each other

    def walk(self, begin: int = 0) -> Iterator[Stretch]:
        """Yield what lies from `begin`, the place of a header, to the end of the pack."""
        offset = begin
        while offset < self._reader.size:
            found = self._record(offset, self._verifies)
            if found is None or not self._is_sound(found):
                resume = self._resynchronise(offset + 1)
                found = self._unreadable(found, offset, resume)
            yield found
            offset = found.end

    def _record(self, offset: int, verifies: bool) -> Stretch | None:
        """The record whose header lies at an offset, DAMAGED also where its end is cut off."""
        match = HEADER.match(self._reader.read(offset, MAX_HEADER_SIZE))
        if match is None:
            return None
        name, size = match[1], int(match[2])
        data_offset = offset + match.end()
        end = data_offset + size
        if is_removed(name):
            kind = Kind.REMOVED if end <= self._reader.size else Kind.TORN
            return Stretch(kind, offset, end, data_offset, size)
        ref = parse_ref(name.decode())
        if ref is None or size > MAX_BLOB_SIZE:
            return None
        if end > self._reader.size:
            return Stretch(Kind.TORN, offset, end, data_offset, size, ref)
        if not verifies and self._is_header(end):
            return Stretch(Kind.LIVE, offset, end, data_offset, size, ref)
        data = self._reader.read(data_offset, size)
        if ref.matches(data):
            return Stretch(Kind.LIVE, offset, end, data_offset, size, ref, data)
        actual = named_as(ref, data)
        return Stretch(Kind.DAMAGED, offset, end, data_offset, size, ref, data, actual)

    def _is_sound(self, found: Stretch) -> bool:
        """Whether the walk may go on at the end of this record."""
        if found.kind is Kind.LIVE:
            return True
        if found.kind is Kind.REMOVED:
            return self._is_header(found.end)  # its size may be what is damaged
        if found.kind is Kind.TORN:
            return False
        if found.end > self._sound_upto and self._leads_on(found.end):
            self._sound_upto = max(self._sound_upto, found.end)
        return found.end <= self._sound_upto

    def _leads_on(self, offset: int) -> bool:
        """Whether headers lead from here to a good record, or exactly to the end of the pack."""
        while offset < self._reader.size:
            found = self._record(offset, verifies=True)
            if found is None or found.kind is Kind.TORN:
                return False
            self._sound_upto = max(self._sound_upto, found.begin)
            if found.kind is not Kind.DAMAGED:
                return True
            offset = found.end
        return True

    def _is_header(self, offset: int) -> bool:
        if offset == self._reader.size:
            return True
        return HEADER.match(self._reader.read(offset, MAX_HEADER_SIZE)) is not None

    def _resynchronise(self, begin: int) -> int:
        """Where the next verified record begins; the end of the pack if there is none."""
        budget = _SEARCH_BUDGET
        while begin < self._reader.size:
            piece = self._reader.read(begin, _WINDOW)
            for match in HEADER.finditer(piece):
                if match.start() > len(piece) - MAX_HEADER_SIZE and (
                    begin + len(piece) < self._reader.size
                ):
                    break  # it may go on behind the piece
                end = begin + match.end() + int(match[2])
                if is_removed(match[1]) or end > self._reader.size:
                    continue
                if budget < 0 and not self._is_header(end):
                    continue
                budget -= int(match[2])
                found = self._record(begin + match.start(), verifies=True)
                if found is not None and found.kind is Kind.LIVE:
                    return found.begin
            if begin + len(piece) >= self._reader.size:
                break
            begin += max(1, len(piece) - MAX_HEADER_SIZE)
        return self._reader.size

    def _unreadable(self, found: Stretch | None, begin: int, resume: int) -> Stretch:
        """A stretch that can't be read; it keeps the name that a readable header gives it."""
        kind = Kind.GAP if resume < self._reader.size else Kind.TORN
        if found is None or found.ref is None:
            return Stretch(kind, begin, resume)
        return Stretch(kind, begin, resume, found.offset, found.size, found.ref)


def named_as(ref: Ref, data: bytes) -> Ref | None:
    """The name that these bytes have by the hash of a ref; None for an unknown hash."""
    if not ref.is_supported:
        return None
    digest = hashlib.new(ref.hash_name, data, usedforsecurity=False).hexdigest()
    return Ref.trusted(f"{ref.hash_name}-{digest}")
