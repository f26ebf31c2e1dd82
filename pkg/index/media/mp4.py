"""Facts in the boxes of MP4 and QuickTime: `moov` with its headers and notes."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Final, NamedTuple

from ...errors import Corrupt, Invalid
from ...schema.times import parse_time
from .source import Source, number, take

MOST_BOXES: Final = 10_000
"""That are looked at in one file."""

LONGEST_NOTE: Final = 1000
"""Bytes of a text."""

_FROM_1904_TO_1970_S: Final = 2_082_844_800
_NS: Final = 1_000_000_000


class Facts(NamedTuple):
    """As they stand there, unchecked; zeros, "" and None where nothing is told.

    place: in ISO 6709.
    """

    duration_ms: int = 0
    width: int = 0
    height: int = 0
    taken_ns: int | None = None
    place: str = ""


class _Box(NamedTuple):
    """start, end: of what is in it, offsets in the file."""

    kind: bytes
    start: int
    end: int


class _Boxes:
    """Walks over boxes within boxes; so many in all and no more."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._left = MOST_BOXES

    def within(self, start: int, end: int) -> Iterator[_Box]:
        """Yield the boxes that lie one behind the other. Raises Corrupt for too many."""
        while start + 8 <= end:
            self._left -= 1
            if self._left < 0:
                raise Corrupt("read", "film", f"over {MOST_BOXES} boxes")
            size, kind = number(self.source, start, 4), take(self.source, start + 4, 4)
            head = 8
            if size == 1:
                size, head = number(self.source, start + 8, 8), 16
            elif size == 0:
                size = end - start
            if size < head:
                return
            yield _Box(kind, start + head, min(start + size, end))
            start += size

    def first(self, parent: _Box, *path: bytes) -> _Box | None:
        """The first box of the first kind, in it the first of the second, ...; None: none."""
        found: _Box | None = parent
        for kind in path:
            if found is None:
                return None
            found = next((b for b in self.within(found.start, found.end) if b.kind == kind), None)
        return found


def read_mp4(source: Source) -> Facts:
    """Raises Corrupt where the file ends within what is looked for."""
    boxes = _Boxes(source)
    movie = boxes.first(_Box(b"", 0, source.size), b"moov")
    if movie is None:
        return Facts()
    header = boxes.first(movie, b"mvhd")
    facts = Facts() if header is None else _movie_header(source, header)
    width, height = _sides(boxes, movie)
    notes = _notes(boxes, movie)
    told = _note(boxes, boxes.first(movie, b"udta", b"\xa9xyz"))
    place = notes.get("com.apple.quicktime.location.ISO6709", told)
    date = notes.get("com.apple.quicktime.creationdate", "")
    # `+0200` there; RFC 3339 wants a colon. The other one is of when the file was written.
    with suppress(Invalid):
        facts = facts._replace(taken_ns=parse_time(f"{date[:-2]}:{date[-2:]}"))
    return facts._replace(width=width, height=height, place=place)


def _movie_header(source: Source, box: _Box) -> Facts:
    size = 8 if take(source, box.start, 1) == b"\1" else 4
    at = box.start + 4
    created_s = number(source, at, size)
    ticks_per_s = number(source, at + 2 * size, 4)
    ticks = number(source, at + 2 * size + 4, size)
    is_known = ticks_per_s and ticks != 256**size - 1
    taken_ns = (created_s - _FROM_1904_TO_1970_S) * _NS if created_s else None
    return Facts(ticks * 1000 // ticks_per_s if is_known else 0, taken_ns=taken_ns)


def _sides(boxes: _Boxes, movie: _Box) -> tuple[int, int]:
    """Width and height of the first track that is seen, as it is to be turned."""
    source = boxes.source
    for track in boxes.within(movie.start, movie.end):
        header = boxes.first(track, b"tkhd") if track.kind == b"trak" else None
        handler = None if header is None else boxes.first(track, b"mdia", b"hdlr")
        if header is None or handler is None or take(source, handler.start + 8, 4) != b"vide":
            continue
        # Sides are the last 8 bytes, in 65536ths; the matrix of 9 numbers stands before them.
        at = header.start + (88 if take(source, header.start, 1) == b"\1" else 76)
        width, height = number(source, at, 4) >> 16, number(source, at + 4, 4) >> 16
        is_turned = number(source, at - 36, 4) == 0 and number(source, at - 32, 4) != 0
        return (height, width) if is_turned else (width, height)
    return 0, 0


def _note(boxes: _Boxes, box: _Box | None) -> str:
    """A text of `udta`: its length and its language, 2 bytes each, stand before it."""
    if box is None or box.end - box.start < 4:
        return ""
    size = min(number(boxes.source, box.start, 2), box.end - box.start - 4, LONGEST_NOTE)
    return take(boxes.source, box.start + 4, size).decode("utf-8", "replace")


def _notes(boxes: _Boxes, movie: _Box) -> dict[str, str]:
    """Texts by name, as Apple writes them: `keys` has the names, `ilst` by number the texts."""
    meta = boxes.first(movie, b"meta")
    if meta is not None and take(boxes.source, meta.start + 4, 4) != b"hdlr":
        meta = meta._replace(start=meta.start + 4)  # MP4 has a version there, QuickTime none
    names = None if meta is None else boxes.first(meta, b"keys")
    texts = None if meta is None else boxes.first(meta, b"ilst")
    if names is None or texts is None:
        return {}
    source, found = boxes.source, {}
    kinds = [
        take(source, box.start, min(box.end - box.start, LONGEST_NOTE)).decode("utf-8", "replace")
        for box in boxes.within(names.start + 8, names.end)
    ]
    for text in boxes.within(texts.start, texts.end):
        data = boxes.first(text, b"data")
        place = int.from_bytes(text.kind) - 1
        if data is not None and data.end - data.start >= 8 and place < len(kinds):
            size = min(data.end - data.start - 8, LONGEST_NOTE)
            found[kinds[place]] = take(source, data.start + 8, size).decode("utf-8", "replace")
    return found
