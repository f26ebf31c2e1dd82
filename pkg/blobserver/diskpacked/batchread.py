"""Reading many blobs with few calls."""

from collections.abc import Iterable, Iterator
from typing import Final

from ...blob import Ref
from ...errors import StoreError
from ...sorted.kv import KeyValue
from .packs import Packs
from .records import Place

_PAGE: Final = 256
_PAGE_BYTES: Final = 16 << 20
"""What is read ahead: so many blobs, or so many bytes and one blob more."""

_NEAR: Final = 32 << 10
"""Bytes between two blobs that cost less to read than a call of their own."""

_EXTENT: Final = 4 << 20


def read_many(
    packs: Packs, rows: KeyValue, refs: Iterable[Ref]
) -> Iterator[tuple[Ref, bytes | None]]:
    """Yield each blob in the order asked for; None for one that is not there intact at once."""
    page: list[Ref] = []
    for ref in refs:
        page.append(ref)
        if len(page) >= _PAGE:
            yield from _read_page(packs, rows, page)
            page = []
    yield from _read_page(packs, rows, page)


def _read_page(packs: Packs, rows: KeyValue, page: list[Ref]) -> Iterator[tuple[Ref, bytes | None]]:
    found = rows.get_many([ref.encode() for ref in page])
    places = [packs.usable(found.get(ref.encode())) for ref in page]
    begin = 0
    while begin < len(page):
        end, size = begin, 0
        while end < len(page) and size < _PAGE_BYTES:
            size += _size(places[end])
            end += 1
        read = read_places(packs, [place for place in places[begin:end] if place is not None])
        for ref, place in zip(page[begin:end], places[begin:end], strict=True):
            data = None if place is None else read.get(place)
            yield ref, data if data is not None and ref.matches(data) else None
        begin = end


def _size(place: Place | None) -> int:
    return 0 if place is None else place.size


def read_places(packs: Packs, places: Iterable[Place]) -> dict[Place, bytes]:
    """Read places in pack order, neighbours in one piece; what can't be read is left out."""
    read: dict[Place, bytes] = {}
    extent: list[Place] = []
    for place in sorted(set(places)):
        if extent and not (
            place.pack == extent[0].pack
            and place.offset - extent[-1].end <= _NEAR
            and place.end - extent[0].offset <= _EXTENT
        ):
            _read_extent(packs, extent, read)
            extent = []
        extent.append(place)
    if extent:
        _read_extent(packs, extent, read)
    return read


def _read_extent(packs: Packs, extent: list[Place], read: dict[Place, bytes]) -> None:
    first = extent[0].offset
    try:
        piece = packs.read_at(extent[0].pack, first, max(p.end for p in extent) - first)
    except StoreError:
        return  # each is tried alone then
    for place in extent:
        read[place] = piece[place.offset - first : place.end - first]
