"""Width and height of pictures, from a few bytes at their start (or where they point to)."""

import re
import zlib
from collections.abc import Callable
from typing import Final

from ...errors import Corrupt
from .exif import MAX_SEGMENTS, read_exif
from .heic import read_heic
from .source import Source, number, take
from .tiff import Tiff

MAX_SIDE: Final = 65535
"""Pixels; a picture that claims more has no size (Perkeep can't read such a row)."""

_SVG_HEAD_SIZE: Final = 512 * 1024

Size = tuple[int, int]


def picture_size(source: Source) -> Size | None:
    """Width and height in pixels as seen (after rotation); None for what is no known picture."""
    head = source.read(0, 16)
    try:
        size = _reader(head)(source, head)
    except Corrupt:
        return None
    return size if size is not None and all(0 <= side <= MAX_SIDE for side in size) else None


def _reader(head: bytes) -> Callable[[Source, bytes], Size | None]:
    for start, reader in _READERS:
        if head.startswith(start):
            return reader
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp
    if head[4:8] == b"ftyp":
        return _heic
    return _svg


def _jpeg(source: Source, _head: bytes) -> Size | None:
    offset = 2
    for _ in range(MAX_SEGMENTS):
        marker = take(source, offset, 2)
        if marker[0] != 0xFF:
            # Readers skip stray bytes between segments; one look for the next marker is enough.
            offset = _next_marker(source, offset)
            continue
        kind = marker[1]
        if kind == 0xFF:  # fill byte
            offset += 1
        elif kind in _BARE_MARKERS:
            offset += 2
        elif kind in (0xC0, 0xC1, 0xC2):
            frame = take(source, offset + 4, 6)
            size = int.from_bytes(frame[3:5]), int.from_bytes(frame[1:3])
            return _turned(source, size) if frame[0] == 8 else None
        elif kind in (0xD8, 0xD9, 0xDA):
            return None
        else:
            offset += 2 + max(2, number(source, offset + 2, 2))
    return None


_BARE_MARKERS: Final = frozenset([0x00, 0x01, *range(0xD0, 0xD8)])
_STRAY_LIMIT: Final = 64 * 1024


def _next_marker(source: Source, offset: int) -> int:
    found = source.read(offset, _STRAY_LIMIT).find(b"\xff")
    if found < 0:
        raise Corrupt("read", "jpeg", f"no segment at {offset}")
    return offset + found


def _turned(source: Source, size: Size) -> Size:
    exif = read_exif(source)
    return (size[1], size[0]) if exif is not None and exif.orientation() >= 5 else size


def _png(source: Source, _: bytes) -> Size | None:
    header = take(source, 8, 25)
    if header[4:8] != b"IHDR" or zlib.crc32(header[4:21]) != int.from_bytes(header[21:]):
        return None
    return int.from_bytes(header[8:12]), int.from_bytes(header[12:16])


def _gif(source: Source, _: bytes) -> Size:
    return number(source, 6, 2, False), number(source, 8, 2, False)


def _webp(source: Source, head: bytes) -> Size | None:
    kind = head[12:16]
    data = take(source, 20, 10 if kind != b"VP8L" else 5)
    if kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and data[0] == 0x2F:
        bits = int.from_bytes(data[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        width, height = int.from_bytes(data[4:7], "little"), int.from_bytes(data[7:10], "little")
        return width + 1, height + 1
    return None


def _tiff(source: Source, _: bytes) -> Size | None:
    tiff = Tiff(source)
    tags, _next = tiff.directory(tiff.first, frozenset({0x0100, 0x0101}))
    width, height = (tags[tag].integer() if tag in tags else None for tag in (0x0100, 0x0101))
    return _turned(source, (width, height)) if width is not None and height is not None else None


def _heic(source: Source, _: bytes) -> Size | None:
    return read_heic(source).size


# -- SVG ----------------------------------------------------------------------------------------

_ROOT = re.compile(rb"<svg(?=[\s/>])([^>]*)")
# The look behind: only the start of a name is tried, so that long names cost no squares.
_ATTRIBUTE = re.compile(rb"""(?<![\w:.-])([\w:.-]++)\s*+=\s*+(?:"([^"]*)"|'([^']*)')""")
_NUMBER = re.compile(rb"[0-9+.-]*")


def _svg(source: Source, _: bytes) -> Size | None:
    root = _ROOT.search(source.read(0, _SVG_HEAD_SIZE))
    if root is None:
        return None
    found = {name: double or single for name, double, single in _ATTRIBUTE.findall(root[1])}
    sides = [_length(found.get(name, b"")) for name in (b"width", b"height")]
    if None in sides:
        sides = [_length(word) for word in re.split(rb"[\s,]+", found.get(b"viewBox", b"").strip())]
        sides = sides[2:4]
    whole = [int(side) for side in sides if side is not None]
    return (whole[0], whole[1]) if len(whole) == 2 else None


def _length(text: bytes) -> float | None:
    """The leading number of a length, whose unit is not read."""
    match = _NUMBER.match(text.strip())
    try:
        value = float(match[0]) if match is not None else None
    except ValueError:
        return None
    return value if value is not None and abs(value) < 1e9 else None


_READERS: Final[tuple[tuple[bytes, Callable[[Source, bytes], Size | None]], ...]] = (
    (b"\xff\xd8", _jpeg),
    (b"\x89PNG\r\n\x1a\n", _png),
    (b"GIF87a", _gif),
    (b"GIF89a", _gif),
    (b"II*\0", _tiff),
    (b"MM\0*", _tiff),
)
