"""EXIF: where it lies in a picture, its tags as rows, the place and the time it tells."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from typing import Final, NamedTuple

from ...errors import Corrupt
from .heic import read_heic
from .source import Section, Source
from .tiff import ASCII, UNDEFINED, Rational, Tag, Tiff
from .zones import instant_ns

MAX_SEGMENTS: Final = 10_000
"""Segments of a JPEG picture that are looked at; real ones have dozens before the picture."""

EXIF_DIRECTORY: Final = 0x8769
GPS_DIRECTORY: Final = 0x8825
INTEROP_DIRECTORY: Final = 0xA005
ORIENTATION: Final = 0x0112
DATE_TIME: Final = 0x0132
DATE_TIME_ORIGINAL: Final = 0x9003

_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4


def _ids(text: str) -> frozenset[int]:
    ids: set[int] = set()
    for word in text.split():
        first, _, last = word.partition("-")
        ids.update(range(int(first, 16), int(last or first, 16) + 1))
    return frozenset(ids)


_PICTURE_TAGS: Final = _ids("""
    0100-0103 0106 010e 010f 0110 0112 0115 011a-011c 0128 0131 0132 013b 0212 0213 8298 829a
    829d 8769 8822 8824 8825 8827 8828 9000 9003 9004 9101 9102 9201-9209 920a 9214 927c 9286
    9290-9292 9c9b-9c9f a000-a005 a20b a20c a20e a20f a210 a214 a215 a217 a300-a302 a401-a40c
    a420 a433 a434
""")
_THUMBNAIL_TAGS: Final = _ids("0201 0202")
_GPS_TAGS: Final = _ids("0000-001e")
_INTEROP_TAGS: Final = _ids("0001")


class Exif(NamedTuple):
    """picture: tags of the main and the Exif directory. gps: of the GPS directory.

    other: of the thumbnail and Interop directories.
    """

    picture: dict[int, Tag]
    gps: dict[int, Tag]
    other: dict[int, Tag]

    def tags(self) -> dict[int, Tag]:
        """All of them in one name space, as rows are named; GPS beats Interop at 0001."""
        return self.other | self.picture | self.gps

    def orientation(self) -> int:
        """1 to 8; 1 (upright) where it is not told."""
        tag = self.picture.get(ORIENTATION)
        value = tag.integer() if tag is not None else None
        return value if value is not None and 1 <= value <= 8 else 1


def read_exif(source: Source) -> Exif | None:
    """The EXIF data of a JPEG, TIFF or HEIC picture, told by its content; None without any."""
    try:
        structure = _structure(source)
        return None if structure is None else _directories(Tiff(structure))
    except Corrupt:
        return None


def _structure(source: Source) -> Source | None:
    head = source.read(0, 12)
    if head.startswith(b"\xff\xd8"):
        return _jpeg_structure(source)
    if head[:4] in (b"II*\0", b"MM\0*"):
        return source
    if head[4:8] == b"ftyp":
        return read_heic(source).exif
    return None


def _jpeg_structure(source: Source) -> Section | None:
    """The TIFF structure in the first APP1 segment; None when that holds something else."""
    offset = 2
    for _ in range(MAX_SEGMENTS):
        marker = source.read(offset, 4)
        if len(marker) < 4 or marker[0] != 0xFF or marker[1] == 0xDA:
            return None
        if marker[1] == 0xFF:  # fill byte
            offset += 1
            continue
        length = int.from_bytes(marker[2:4])
        if marker[1] == 0xE1:
            if source.read(offset + 4, 6) != b"Exif\0\0":
                return None
            return Section(source, offset + 10, length - 8)
        offset += 2 + max(2, length)
    return None


def _directories(tiff: Tiff) -> Exif:
    picture, thumbnail = tiff.directory(tiff.first, _PICTURE_TAGS)
    other = _directory(tiff, thumbnail, _THUMBNAIL_TAGS)
    details = _linked(tiff, picture, EXIF_DIRECTORY, _PICTURE_TAGS)
    interop = _linked(tiff, details, INTEROP_DIRECTORY, _INTEROP_TAGS)
    gps = _linked(tiff, picture, GPS_DIRECTORY, _GPS_TAGS)
    return Exif(picture | details, gps, other | interop)


def _directory(tiff: Tiff, offset: int, known: frozenset[int]) -> dict[int, Tag]:
    if offset == 0:
        return {}
    try:
        return tiff.directory(offset, known)[0]
    except Corrupt:
        return {}


def _linked(tiff: Tiff, tags: dict[int, Tag], link: int, known: frozenset[int]) -> dict[int, Tag]:
    tag = tags.get(link)
    offset = tag.integer() if tag is not None else None
    return _directory(tiff, offset or 0, known)


# -- what the tags tell -------------------------------------------------------------------------


def coordinates(exif: Exif) -> tuple[float, float] | None:
    """Latitude and longitude in degrees, north and east positive; None unless both make sense."""
    latitude = _degrees(exif.gps, _LATITUDE, _LATITUDE_REF, "S")
    longitude = _degrees(exif.gps, _LONGITUDE, _LONGITUDE_REF, "W")
    if latitude is None or longitude is None:
        return None
    return (latitude, longitude) if abs(latitude) <= 90 and abs(longitude) <= 180 else None


def _degrees(gps: dict[int, Tag], value_id: int, side_id: int, negative: str) -> float | None:
    value, side = gps.get(value_id), gps.get(side_id)
    if value is None or value.type == UNDEFINED:
        return None
    if side is None or not isinstance(side.value, bytes):
        return None
    numbers = value.value
    parts = _written(numbers) if isinstance(numbers, bytes) else _fractions(numbers)
    if len(parts) < 3:
        return None
    degrees, minutes, seconds = parts[:3]
    total = degrees + minutes / 60 + seconds / 3600
    return -total if text_of(side.value) == negative else total


def _fractions(values: Sequence[object]) -> list[float]:
    """Numbers of rationals; none if one of the first three is none."""
    parts = [part for part in values if isinstance(part, Rational)][:3]
    if not all(part.denominator for part in parts):
        return []
    return [part.numerator / part.denominator for part in parts]


def _written(value: bytes) -> list[float]:
    """Numbers as some phones write them: `52,5,34` or, with commas for points, `52,0,50,5,34,1`."""
    words = [word for word in re.split("[,;]", text_of(value)) if word]
    if len(words) == 6:
        words = [".".join(pair) for pair in zip(words[::2], words[1::2], strict=True)]
    is_number = len(words) == 3 and all(map(_DECIMAL.fullmatch, words))
    return [float(word) for word in words] if is_number else []


_DECIMAL = re.compile(r"[+-]?[0-9]{1,12}(?:\.[0-9]{0,12})?", re.ASCII)


def text_of(value: bytes) -> str:
    """A text tag up to its first NUL; bytes that are not UTF-8 become U+FFFD."""
    return value.split(b"\0", 1)[0].decode("utf-8", "replace")


_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d?):(\d\d):(\d\d)(?:[.,](\d{1,9})\d*)?", re.ASCII)

ZoneFinder = Callable[[float, float], tzinfo | None]


def taken_ns(exif: Exif, zone: tzinfo, zone_at: ZoneFinder) -> int | None:
    """When the picture was taken, in nanoseconds since 1970 UTC; None when it does not say.

    zone: of a picture without coordinates. zone_at: finds the zone of a place, or None.
    """
    tag = exif.picture.get(DATE_TIME_ORIGINAL) or exif.picture.get(DATE_TIME)
    if tag is None or tag.type != ASCII or not isinstance(tag.value, bytes):
        return None
    match = _TIME.fullmatch(tag.value.rstrip(b"\0").decode("latin-1"))
    if match is None:
        return None
    try:
        local = datetime(*map(int, match.groups()[:6]), tzinfo=UTC)  # type: ignore[misc, arg-type]
    except ValueError:
        return None
    place = coordinates(exif)
    found = zone_at(*place) if place is not None else None
    fraction_ns = int((match[7] or "0").ljust(9, "0"))
    return instant_ns(local, found or zone) + fraction_ns
