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
_STRIDES = (8192, 16384, 32768)  # a boundary falls every 8192 bytes on average

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


def cuts(data: Iterable[bytes]) -> Iterator[Chunk]:
    """Cut a byte stream into chunks.

    data: pieces of any length, in file order; their borders do not influence the cuts.
    Yields chunks in order; joined they equal the input. Empty input yields nothing. Holds
    about as much as the longest piece and 5 MiB.
    """
    held = b""  # the start of the next chunk, in which no cut falls
    is_first = True
    search = SplitSearch()
    for block in _blocks(data):
        known = b"".join((held, block)) if held or not isinstance(block, bytes) else block
        view = memoryview(known)
        start, searched = 0, len(held)
        while size := _next_size(view[start:], searched, is_first, search):
            end = start + size
            yield Chunk(known[start:end], _bits(view[start:end], is_first))
            start, searched, is_first = end, 0, False
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


def _next_size(view: memoryview, searched: int, is_first: bool, search: "SplitSearch") -> int:
    """The size of the chunk that starts this view; 0 if that takes more bytes.

    searched: how many bytes are known to hold no cut.
    """
    if is_first:
        return FIRST_CHUNK_SIZE if len(view) >= FIRST_CHUNK_SIZE else 0
    lowest = max(SMALL_CHUNK_SIZE, searched) + 1
    split = search.first_split(view, lowest, min(len(view), MAX_CHUNK_SIZE - 1))
    if not split and len(view) >= MAX_CHUNK_SIZE:
        return MAX_CHUNK_SIZE
    return split


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

    def __init__(self) -> None:
        self._windows: dict[int, _Windows] = {}

    @staticmethod
    def _is_numpy_worth_it() -> bool:
        return "numpy" in sys.modules or SplitSearch._by_hand_bytes >= _BY_HAND_BYTES

    def first_split(self, view: memoryview, lowest: int, highest: int) -> int:
        """The first size in lowest..highest after which a boundary falls, or 0.

        lowest: at least WINDOW_SIZE. highest: at most the length of the view.
        """
        strides = iter(_STRIDES)
        stride = 0
        while lowest <= highest:
            stride = next(strides, stride)
            count = min(stride, highest - lowest + 1)
            found = self._first_in(view[lowest - WINDOW_SIZE : lowest - 1 + count], stride)
            if found >= 0:
                return lowest + found
            lowest += count
        return 0

    def _first_in(self, view: memoryview, stride: int) -> int:
        """The index of the first window of this view whose checksum splits, or -1.

        stride: the most windows that there may be.
        """
        if not view[0] and not any(view):
            return -1  # zeros never split, and a sparse file has gigabytes of them
        if not self._is_numpy_worth_it():
            found = first_split_by_hand(view)
            SplitSearch._by_hand_bytes += found if found >= 0 else len(view)
            return found
        # Apart for each stride: with lengths of its own, what is prepared fits nearly always.
        windows = self._windows.get(stride)
        if windows is None:
            windows = self._windows[stride] = _Windows(stride)
        return windows.first_split(view)


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
    """The checksums of many windows at once.

    Of each window one number of 32 bits: above, the weighted sum of its bytes modulo 2^16, the
    newest once, the oldest 64 times; below, their plain sum, which never reaches 2^16. Windows
    double from 1 byte to 64: in one twice as long, the bytes of the older half count `half` times
    more each, so `half` times their plain sum is added to their weighted one.
    """

    def __init__(self, count: int) -> None:
        """count: of windows, at most."""
        # Slow to import, and most backups have too little of large files to come here.
        import numpy as np

        self._np = np
        length = count + WINDOW_SIZE - 1
        self._sums, self._sums_next = np.empty(length, np.uint32), np.empty(length, np.uint32)
        self._is_split = np.empty(count, np.bool_)
        self._length = 0

    def first_split(self, view: memoryview) -> int:
        """The index of the first window of this view whose checksum splits, or -1."""
        np = self._np
        if len(view) != self._length:
            self._prepare(len(view))
        np.multiply(np.frombuffer(view, np.uint8), _FIRST_FACTOR, out=self._begin, dtype=np.uint32)
        for factor, older, newer, longer in self._steps:
            np.multiply(older, factor, out=longer)
            np.add(longer, newer, out=longer)
        sums, is_split = self._end
        np.bitwise_and(sums, _SPLIT_MASK << 16, out=sums)
        np.equal(sums, _SPLIT_SUM << 16, out=is_split)
        found = int(is_split.argmax())
        return found if is_split[found] else -1

    def _prepare(self, length: int) -> None:
        """Make the slices for views of this length: they cost as much as the sums themselves."""
        self._length = length
        sums, sums_next = self._sums, self._sums_next
        self._begin = sums[:length]
        self._steps = []
        half = 1
        while half < WINDOW_SIZE:
            length -= half
            older, newer = sums[:length], sums[half : half + length]
            self._steps.append((1 + (half << 16), older, newer, sums_next[:length]))
            sums, sums_next = sums_next, sums
            half *= 2
        self._end = sums[:length], self._is_split[:length]
