"""Facts in the elements of Matroska and WebM: `Info` and the first track that is seen."""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from ...errors import Corrupt
from .mp4 import Facts
from .source import Source, take

MOST_ELEMENTS: Final = 10_000
"""That are looked at in one file."""

_SEGMENT: Final = 0x18538067
_INFO: Final = 0x1549A966
_TICK_NS: Final = 0x2AD7B1
_DURATION: Final = 0x4489
_DATE: Final = 0x4461
_TRACKS: Final = 0x1654AE6B
_TRACK: Final = 0xAE
_VIDEO: Final = 0xE0
_SHOWN_WIDTH: Final = 0x54B0
_SHOWN_HEIGHT: Final = 0x54BA
_WIDTH: Final = 0xB0
_HEIGHT: Final = 0xBA
_FROM_1970_TO_2001_NS: Final = 978_307_200 * 1_000_000_000
_USUAL_TICK_NS: Final = 1_000_000


class _Element(NamedTuple):
    """start, end: of what is in it, offsets in the file."""

    kind: int
    start: int
    end: int


class _Elements:
    """Walks over elements within elements; so many in all and no more."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._left = MOST_ELEMENTS

    def within(self, start: int, end: int) -> Iterator[_Element]:
        """Yield the elements that lie one behind the other. Raises Corrupt."""
        while start < end:
            self._left -= 1
            if self._left < 0:
                raise Corrupt("read", "film", f"over {MOST_ELEMENTS} elements")
            kind, start = self._number(start, 4, with_marker=True)
            size, start = self._number(start, 8, with_marker=False)
            stop = end if size < 0 else min(start + size, end)
            yield _Element(kind, start, stop)
            start = stop

    def _number(self, at: int, most_bytes: int, *, with_marker: bool) -> tuple[int, int]:
        """A number whose first bits tell its length, and the offset behind it. -1: not said."""
        first = take(self.source, at, 1)[0]
        length = 9 - first.bit_length()
        if length > most_bytes:
            raise Corrupt("read", "film", f"no length of a number at {at}")
        value = int.from_bytes(take(self.source, at, length))
        if not with_marker:
            ones = (1 << 7 * length) - 1
            value = -1 if value & ones == ones else value & ones
        return value, at + length

    def values(self, parent: _Element) -> dict[int, _Element]:
        """The first element of each kind."""
        found: dict[int, _Element] = {}
        for element in self.within(parent.start, parent.end):
            found.setdefault(element.kind, element)
        return found

    def bytes_of(self, element: _Element | None) -> bytes:
        """Up to 8 bytes: the length of a number."""
        if element is None:
            return b""
        return take(self.source, element.start, min(element.end - element.start, 8))

    def integer(self, element: _Element | None) -> int:
        return int.from_bytes(self.bytes_of(element))


def read_matroska(source: Source) -> Facts:
    """Raises Corrupt where the file is broken before what is looked for."""
    elements = _Elements(source)
    facts = Facts()
    top = elements.within(0, source.size)
    segment = next((element for element in top if element.kind == _SEGMENT), None)
    if segment is None:
        return facts
    # The clusters, which are the film, come behind both; no need to walk over them.
    wanted = {_INFO, _TRACKS}
    for element in elements.within(segment.start, segment.end):
        if element.kind == _INFO:
            facts = _information(elements, element, facts)
        elif element.kind == _TRACKS:
            facts = _sides(elements, element, facts)
        wanted.discard(element.kind)
        if not wanted:
            break
    return facts


def _information(elements: _Elements, element: _Element, facts: Facts) -> Facts:
    values = elements.values(element)
    tick_ns = elements.integer(values.get(_TICK_NS)) or _USUAL_TICK_NS
    data = elements.bytes_of(values.get(_DURATION))
    ticks = struct.unpack({4: ">f", 8: ">d"}[len(data)], data)[0] if len(data) in (4, 8) else 0.0
    duration_ms = int(ticks * tick_ns / 1e6) if 0 < ticks < 1e18 else 0
    date = elements.bytes_of(values.get(_DATE))
    taken_ns = int.from_bytes(date, signed=True) + _FROM_1970_TO_2001_NS if date else None
    return facts._replace(duration_ms=duration_ms, taken_ns=taken_ns)


def _sides(elements: _Elements, tracks: _Element, facts: Facts) -> Facts:
    for track in elements.within(tracks.start, tracks.end):
        video = elements.values(track).get(_VIDEO) if track.kind == _TRACK else None
        if video is not None:
            values = elements.values(video)
            width = elements.integer(values.get(_SHOWN_WIDTH) or values.get(_WIDTH))
            height = elements.integer(values.get(_SHOWN_HEIGHT) or values.get(_HEIGHT))
            return facts._replace(width=width, height=height)
    return facts
