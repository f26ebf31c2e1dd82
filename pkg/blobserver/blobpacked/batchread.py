"""Many blobs at once: neighbours in a zip by one read (README.md, "Streams")."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from ...blob import Ref
from ...errors import Corrupt, Invalid, NotFound, Unavailable
from ..storage import Storage
from .rows import Place

Found = tuple[Ref, bytes | NotFound | Corrupt]

_READ_BYTES: Final = 4 * 1024 * 1024
"""So much of a zip is read at once, and up to a blob more."""


def fetched(
    refs: Sequence[Ref],
    places: Mapping[Ref, Place],
    small: Storage,
    large: Storage,
    fetch: Callable[[Ref], bytes],
) -> Iterator[Found]:
    """Yield these blobs in order, verified.

    places: where those lie that are packed. fetch: finds another copy of what is not there, or
    is damaged, or moved meanwhile.
    """
    loose = small.fetch_many([ref for ref in refs if ref not in places])
    for run in _runs(refs, places):
        first = places.get(run[0])
        pieces = loose if first is None else _pieces(large, run, places)
        for ref, (_, data) in zip(run, pieces):  # noqa: B905 - `loose` goes on with the next run
            if isinstance(data, bytes):
                yield ref, data
                continue
            try:
                yield ref, fetch(ref)
            except (NotFound, Corrupt) as error:
                yield ref, error


def _runs(refs: Sequence[Ref], places: Mapping[Ref, Place]) -> Iterator[list[Ref]]:
    """Cut the refs where one does not lie right behind the one before it."""
    run: list[Ref] = []
    end: tuple[Ref, int] | None = None
    size = 0
    for ref in refs:
        place = places.get(ref)
        is_next = place is not None and (place.zip_ref, place.offset) == end
        if run and not (is_next and size < _READ_BYTES):
            yield run
            run, size = [], 0
        run.append(ref)
        end = None
        if place is not None:
            end = place.zip_ref, place.offset + place.size
            size += place.size
    if run:
        yield run


def _pieces(
    large: Storage, run: Sequence[Ref], places: Mapping[Ref, Place]
) -> Iterator[tuple[Ref, bytes | None]]:
    """The blobs of a run; None for one that is not whole there."""
    first, last = places[run[0]], places[run[-1]]
    try:
        size = last.offset + last.size - first.offset
        data = large.read_range(first.zip_ref, first.offset, size)
    except (NotFound, Corrupt, Invalid, Unavailable):
        data = b""
    for ref in run:
        place = places[ref]
        begin = place.offset - first.offset
        piece = data[begin : begin + place.size]
        yield ref, piece if ref.matches(piece) else None
