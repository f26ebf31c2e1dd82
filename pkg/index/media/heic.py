"""HEIC boxes: the primary picture's size and turn, and where the EXIF item lies."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from ...errors import Corrupt
from .source import Section, Source, number, take

MAX_BOXES: Final = 1000
"""Boxes, items or associations looked at on one level; the rest of a file is not read."""


class Heic(NamedTuple):
    """width, height: of the primary item as seen, or None. exif: its TIFF structure, or None."""

    size: tuple[int, int] | None
    exif: Section | None


class _Box(NamedTuple):
    kind: bytes
    body: Section


def read_heic(source: Source) -> Heic:
    """What the `meta` box says. Raises Corrupt when there is none that can be read."""
    meta = _child(_boxes(source, 0), b"meta")
    children = {box.kind: box.body for box in _boxes(meta, 4)}
    return Heic(_size(children), _exif(source, children))


def _boxes(source: Source, offset: int) -> Iterator[_Box]:
    for _ in range(MAX_BOXES):
        head = source.read(offset, 16)
        if len(head) < 8:
            return
        size, header = int.from_bytes(head[:4]), 8
        if size == 1:
            size, header = int.from_bytes(head[8:16]), 16
        elif size == 0:
            size = source.size - offset
        if size < header:
            return
        yield _Box(head[4:8], Section(source, offset + header, size - header))
        offset += size


def _child(boxes: Iterator[_Box], kind: bytes) -> Section:
    for box in boxes:
        if box.kind == kind:
            return box.body
    raise Corrupt("read", "heic", f"no {kind.decode('ascii')} box")


def _size(meta: dict[bytes, Section]) -> tuple[int, int] | None:
    if b"pitm" not in meta or b"iprp" not in meta:
        return None
    try:
        primary_box = meta[b"pitm"]
        primary = number(primary_box, 4, 2 if number(primary_box, 0, 1) == 0 else 4)
        properties = list(_boxes(_child(_boxes(meta[b"iprp"], 0), b"ipco"), 0))
        chosen = _associated(_child(_boxes(meta[b"iprp"], 0), b"ipma"), primary)
        size, turns = None, 0
        for index in chosen:
            if not 1 <= index <= len(properties):
                continue
            box = properties[index - 1]
            if box.kind == b"ispe":
                size = number(box.body, 4, 4), number(box.body, 8, 4)
            elif box.kind == b"irot":
                turns = number(box.body, 0, 1) & 3
    except Corrupt:
        return None
    if size is not None and turns % 2:
        return size[1], size[0]
    return size


def _associated(ipma: Section, item: int) -> list[int]:
    """The property numbers (from 1) of an item, in order."""
    version, flags = number(ipma, 0, 1), number(ipma, 1, 3)
    id_size, index_size = (2 if version < 1 else 4), (2 if flags & 1 else 1)
    offset = 8
    for _ in range(min(number(ipma, 4, 4), MAX_BOXES)):
        owner = number(ipma, offset, id_size)
        count = number(ipma, offset + id_size, 1)
        data = take(ipma, offset + id_size + 1, count * index_size)
        if owner == item:
            mask = (1 << (8 * index_size - 1)) - 1  # the top bit says "essential"
            starts = range(0, len(data), index_size)
            return [int.from_bytes(data[at : at + index_size]) & mask for at in starts]
        offset += id_size + 1 + count * index_size
    return []


def _exif(source: Source, meta: dict[bytes, Section]) -> Section | None:
    if b"iinf" not in meta or b"iloc" not in meta:
        return None
    try:
        item = _exif_item(meta[b"iinf"])
        where = None if item is None else _location(meta[b"iloc"], item)
        if where is None:
            return None
        offset, length = where
        # The item begins with the distance from behind this number to the TIFF structure.
        skip = 4 + number(source, offset, 4)
    except Corrupt:
        return None
    return Section(source, offset + skip, length - skip)


def _exif_item(iinf: Section) -> int | None:
    first = 6 if number(iinf, 0, 1) == 0 else 8
    for box in _boxes(iinf, first):
        version = number(box.body, 0, 1)
        if box.kind != b"infe" or version < 2:
            continue
        id_size = 2 if version == 2 else 4
        if box.body.read(4 + id_size + 2, 4) == b"Exif":
            return number(box.body, 4, id_size)
    return None


def _location(iloc: Section, item: int) -> tuple[int, int] | None:
    """Offset and length of an item that lies in one piece in the file."""
    version, sizes = number(iloc, 0, 1), number(iloc, 4, 2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version in (1, 2) else 0
    id_size = 4 if version == 2 else 2
    at = 6 + id_size
    for _ in range(min(number(iloc, 6, id_size), MAX_BOXES)):
        owner = number(iloc, at, id_size)
        at += id_size
        method = 0
        if version in (1, 2):
            method = number(iloc, at, 2) & 15
            at += 2
        base = number(iloc, at + 2, base_size)
        extents = number(iloc, at + 2 + base_size, 2)
        at += 4 + base_size
        if owner == item:
            if method != 0 or extents != 1:
                return None
            offset = number(iloc, at + index_size, offset_size)
            return base + offset, number(iloc, at + index_size + offset_size, length_size)
        at += extents * (index_size + offset_size + length_size)
    return None
