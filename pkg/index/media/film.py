"""What a film tells of itself: how long, how large, when, where, from MP4, MOV and Matroska."""

import re
from typing import Final, NamedTuple

from ...errors import Corrupt
from .matroska import read_matroska
from .mp4 import read_mp4
from .source import Source

_ISO_6709 = re.compile(r"([+-]\d{2}(?:\.\d+)?)([+-]\d{3}(?:\.\d+)?)")


class Film(NamedTuple):
    """Zeros and None where nothing is told.

    width, height: pixels as seen. taken_ns: nanoseconds since 1970. place: latitude, longitude
    in degrees.
    """

    duration_ms: int = 0
    width: int = 0
    height: int = 0
    taken_ns: int | None = None
    place: tuple[float, float] | None = None


_EARLIEST_NS: Final = 315_532_800 * 1_000_000_000
"""1980: clocks that were never set tell an earlier time."""

_LATEST_NS: Final = 4_102_444_800 * 1_000_000_000
"""2100."""

_LONGEST_MS: Final = 10**12
_LARGEST_SIDE: Final = 100_000


def read_film(source: Source) -> Film | None:
    """None for content of another kind, or that is broken where its facts are."""
    head = source.read(0, 12)
    try:
        if head.startswith(b"\x1a\x45\xdf\xa3"):
            facts = read_matroska(source)
        elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            facts = read_mp4(source)
        else:
            return None
    except Corrupt:
        return None
    taken_ns = facts.taken_ns
    if taken_ns is not None and not _EARLIEST_NS < taken_ns < _LATEST_NS:
        taken_ns = None
    sides = facts.width, facts.height
    width, height = sides if all(0 < side <= _LARGEST_SIDE for side in sides) else (0, 0)
    duration_ms = facts.duration_ms if 0 < facts.duration_ms < _LONGEST_MS else 0
    return Film(duration_ms, width, height, taken_ns, _place(facts.place))


def _place(text: str) -> tuple[float, float] | None:
    """Of ISO 6709 in degrees, `+48.8577+002.2950/`; None for another form, or off the globe."""
    match = _ISO_6709.match(text)
    if match is None:
        return None
    latitude, longitude = float(match[1]), float(match[2])
    return (latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 else None
