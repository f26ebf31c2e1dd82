"""The area of results on a map, and a spread of them (pkg/search/README.md, "Areas")."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from ..blob import Ref
from ..index.attributes import Place

_HALF_CIRCLE: Final = 180.0
_FEWEST_CELLS: Final = 3
_MOST_CELLS: Final = 100


class Area(NamedTuple):
    """Degrees. It crosses the date line when west > east."""

    north: float
    south: float
    west: float
    east: float


_NOWHERE: Final = Area(0.0, 0.0, 0.0, 0.0)


def area_of(places: Sequence[Place]) -> Area | None:
    """The smallest that grew from the first place, over each in turn; None when it is all zeros.

    The answer depends on the order of the places: each widens it on the side that is nearer to
    its middle.
    """
    area = _NOWHERE
    for latitude, longitude in places:
        if area == _NOWHERE:
            area = Area(latitude, latitude, longitude, longitude)
            continue
        west, east = area.west, area.east
        if not _has_longitude(area, longitude):
            distance = _middle(area) - longitude
            if (distance > 0) == (abs(distance) <= _HALF_CIRCLE):
                west = longitude
            else:
                east = longitude
        area = Area(max(area.north, latitude), min(area.south, latitude), west, east)
    return None if area == _NOWHERE else area


def _has_longitude(area: Area, longitude: float) -> bool:
    if area.east < area.west:
        return longitude >= area.west or longitude <= area.east
    return area.west <= longitude <= area.east


def _middle(area: Area) -> float:
    west, east = area.west, area.east
    if west < east:
        return west + (east - west) / 2
    excess = abs(west) - abs(east)
    return east - excess / 2 if excess > 0 else west - excess / 2


def spread(located: Sequence[tuple[Ref, Place]], area: Area, limit: int) -> list[Ref]:
    """At most `limit` results, from all over the area: in turn one from each cell of a grid."""
    side = min(max(round(limit**0.5), _FEWEST_CELLS), _MOST_CELLS)
    cells: dict[tuple[int, int], list[Ref]] = {}
    for ref, (latitude, longitude) in located:
        row = _cell(latitude - area.south, area.north - area.south, side)
        # Behind the date line a second grid begins.
        is_beyond = area.east < area.west and longitude <= area.east
        start = -_HALF_CIRCLE if is_beyond else area.west
        end = _HALF_CIRCLE if area.east < area.west and not is_beyond else area.east
        column = _cell(longitude - start, end - start, side) + side * is_beyond
        cells.setdefault((row, column), []).append(ref)
    found: list[Ref] = []
    while cells and len(found) < limit:
        for place, refs in list(cells.items()):
            found.append(refs.pop())
            if not refs:
                del cells[place]
    return found[:limit]


def _cell(offset: float, width: float, side: int) -> int:
    return 0 if width <= 0 else min(int(offset / width * side), side - 1)
