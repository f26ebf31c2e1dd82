"""Cut a stream into chunks at content-defined boundaries (pkg/schema/README.md, "Chunking")."""

import sys
from collections.abc import Iterable, Iterator
from operator import mul
from typing import Final, NamedTuple

MAX_CHUNK_SIZE: Final = 1024 * 1024
FIRST_CHUNK_SIZE: Final = 256 * 1024
SMALL_CHUNK_SIZE: Final = 64 * 1024
"""No boundary falls so near behind another: a chunk cut at a boundary is longer."""

WINDOW_SIZE: Final = 64
"""Bytes before a place on which alone it depends whether a boundary falls there."""

FIRST_BITS: Final = 18
MAX_BITS: Final = 20

_BLOCK_SIZE = 256 * 1024  # shorter pieces are joined up to this before they are looked at
_LONGEST_BLOCK = 4 * 1024 * 1024  # longer pieces are looked at in slices, to copy less at once
_BY_HAND_BYTES = 512 * 1024  # looked at before numpy is imported, which takes as long
_LONG_STREAM_BYTES = 8 * _BY_HAND_BYTES  # of a long stream a ninth is looked at
_STRIDE = 8192  # a boundary falls every so many bytes on average

# The checksum's two sums of a window of zeros; a byte adds itself to the first, and to the
# second as often as it has been in the window.
_SUM_OF_ZEROS = 64 * 31
_WEIGHTED_SUM_OF_ZEROS = 64 * 63 * 31
_SPLIT_MASK = 0x1FFF
_SPLIT_SUM = (_SPLIT_MASK - _WEIGHTED_SUM_OF_ZEROS) & _SPLIT_MASK
_AGES = range(WINDOW_SIZE, 0, -1)
_FIRST_FACTOR = (1 << 16) + 1  # of a byte: it is its own weighted and plain sum


class Chunk(NamedTuple):
    """A piece of a file. bits: how strong the boundary at its end is; 0 for the end of a file."""

    data: bytes
    bits: int


def cuts(data: Iterable[bytes], expected_bytes: int = 0) -> Iterator[Chunk]:
    """Cut a byte stream into chunks.

    data: pieces of any length, in file order; their borders do not influence the cuts.
    expected_bytes: how long the stream is, where that is known; it need not be right.
    Yields chunks in order; joined they equal the input. Empty input yields nothing. Holds
    about as much as the longest piece and 5 MiB.
    """
    held = b""  # the start of the next chunk, in which no cut falls
    is_first = True
    search = SplitSearch(expected_bytes)
    for block in _blocks(data):
        known = b"".join((held, block)) if held or not isinstance(block, bytes) else block
        view = memoryview(known)
        start, searched = 0, len(held)
        while end := _next_end(view, start, searched, is_first, search):
            yield Chunk(known[start:end], _bits(view[start:end], is_first))
            start, searched, is_first = end, end, False
        held = known[start:]
    if held:
        yield Chunk(held, 0)


def _blocks(data: Iterable[bytes]) -> Iterator[bytes | memoryview]:
    """The stream in pieces of convenient length, without copying what is long already."""
    short: list[bytes] = []
    length = 0
    for piece in data:
        short.append(piece)
        length += len(piece)
        if length < _BLOCK_SIZE:
            continue
        block = short[0] if len(short) == 1 else b"".join(short)
        if length <= _LONGEST_BLOCK:
            yield block
        else:
            view = memoryview(block)
            for start in range(0, length, _LONGEST_BLOCK):
                yield view[start : start + _LONGEST_BLOCK]
        short, length = [], 0
    if short:
        yield b"".join(short)


def _next_end(
    view: memoryview, start: int, searched: int, is_first: bool, search: "SplitSearch"
) -> int:
    """Where the chunk ends that begins at `start`; 0 if that takes more bytes.

    searched: up to there no cut falls.
    """
    longest = start + (FIRST_CHUNK_SIZE if is_first else MAX_CHUNK_SIZE)
    if not is_first:
        lowest = max(start + SMALL_CHUNK_SIZE, searched) + 1
        if split := search.first_split(view, lowest, min(len(view), longest - 1)):
            return split
    return longest if len(view) >= longest else 0


def _bits(chunk: memoryview, is_first: bool) -> int:
    if is_first:
        return FIRST_BITS
    if len(chunk) == MAX_CHUNK_SIZE:
        return MAX_BITS
    return split_bits(chunk[-WINDOW_SIZE:])


def checksum(window: bytes | memoryview) -> tuple[int, int]:
    """The checksum's two sums after the WINDOW_SIZE bytes of this window, oldest first."""
    weighted = sum(map(mul, _AGES, window))
    return _SUM_OF_ZEROS + sum(window), _WEIGHTED_SUM_OF_ZEROS + weighted


def split_bits(window: bytes | memoryview) -> int:
    """How strong a boundary after this window is: 13, and one for each further low one bit."""
    plain, weighted = checksum(window)
    # Bit 13 of the weighted sum is left out: an oddity that the format has to keep.
    rest = (plain << 2) | (weighted >> 14 & 3)
    return 13 + (~rest & (rest + 1)).bit_length() - 1


class SplitSearch:
    """Looks for boundaries. Has buffers of its own: use one for each stream."""

    _by_hand_bytes = 0
    """What all of this process have looked at without numpy, about."""

    def __init__(self, expected_bytes: int = 0) -> None:
        self._is_long = expected_bytes >= _LONG_STREAM_BYTES
        self._windows: _Windows | None = None

    def _is_numpy_worth_it(self) -> bool:
        return (
            self._is_long or "numpy" in sys.modules or SplitSearch._by_hand_bytes >= _BY_HAND_BYTES
        )

    def first_split(self, view: memoryview, lowest: int, highest: int) -> int:
        """The first place in lowest..highest before which a boundary falls, or 0.

        lowest: at least WINDOW_SIZE. highest: at most the length of the view.
        """
        if self._windows is None and lowest <= highest and self._is_numpy_worth_it():
            self._windows = _Windows(_STRIDE)
        first_split = self._windows.first_split if self._windows is not None else _by_hand
        while lowest <= highest:
            count = min(_STRIDE, highest - lowest + 1)
            found = first_split(view[lowest - WINDOW_SIZE : lowest - 1 + count])
            if found >= 0:
                return lowest + found
            lowest += count
        return 0


def _by_hand(view: memoryview) -> int:
    """As `first_split_by_hand`; and counts what was looked at."""
    if not view[0] and not any(view):
        return -1  # zeros never split, and a sparse file has gigabytes of them
    found = first_split_by_hand(view)
    SplitSearch._by_hand_bytes += found if found >= 0 else len(view)
    return found


def first_split_by_hand(view: memoryview) -> int:
    """The index of the first window of this view whose checksum splits, or -1.

    As `_Windows`, from one window to the next: 30 times slower, but ready at once.
    """
    plain, weighted = sum(view[:WINDOW_SIZE]), sum(map(mul, _AGES, view))
    if weighted & _SPLIT_MASK == _SPLIT_SUM:
        return 0
    for index, (oldest, newest) in enumerate(zip(view, view[WINDOW_SIZE:], strict=False), 1):
        plain += newest - oldest
        weighted += plain - WINDOW_SIZE * oldest
        if weighted & _SPLIT_MASK == _SPLIT_SUM:
            return index
    return -1


class _Windows:
    """The weighted sums of many windows at once, modulo 2^13: each byte as often as its age.

    Windows double from 1 byte to 64: in one twice as long, the bytes of the older half count
    `half` times more each. So beside the weighted sum of each window stands by how much it grows
    then, the `growth`: `half` times the plain sum. Both stand in one array, growths first, so that
    one call adds both. All numbers are 8 times as large: 13 bits become the 16 that are compared.
    """

    def __init__(self, count: int) -> None:
        """count: of windows, at most."""
        # Slow to import, and most backups have too little of large files to come here.
        import numpy as np

        self._np = np
        length = count + WINDOW_SIZE - 1
        sums, sums_next = np.empty((2, 2 * length), np.uint16)
        self._begin, self._begin_weighted = sums[:length], sums[length:]
        self._scale, self._split_sum = np.uint16(8), np.uint16(8 * _SPLIT_SUM)
        self._steps = []
        half, left = 1, length
        while half < WINDOW_SIZE:
            left -= half
            self._steps.append(
                (
                    *(sums[:-half], sums[half:], sums_next[:-half]),
                    *(sums_next[length : length + left], sums[:left]),
                    sums_next[:left],
                )
            )
            sums, sums_next = sums_next, sums
            half *= 2
        self._end, self._is_split = sums[length : length + left], np.empty(left, np.bool_)

    def first_split(self, view: memoryview) -> int:
        """The index of the first window of this view whose checksum splits, or -1."""
        np, length = self._np, len(view)
        add, begin = np.add, self._begin
        np.multiply(np.frombuffer(view, np.uint8), self._scale, begin[:length])
        self._begin_weighted[:] = begin
        # Behind the end of a short view windows of an earlier one are added, too: not looked at.
        for older, newer, both, weighted, growth_before, growth in self._steps:
            add(older, newer, both)
            add(weighted, growth_before, weighted)
            add(growth, growth, growth)
        np.equal(self._end, self._split_sum, self._is_split)
        is_split = self._is_split[: length - WINDOW_SIZE + 1]
        found = int(is_split.argmax())
        return found if is_split[found] else -1
