"""Places by name, from what the store itself knows: there is no gazetteer in a closed network."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from ..index.attributes import Place
from ..index.corpus import Corpus
from .constraint import LocationConstraint

_AREAS: Final = ("city", "addressLocality", "state", "addressRegion", "country", "addressCountry")
"""Attributes that name what the permanode lies in: all that lie there make the area."""

_NAMES: Final = ("title", "name", "locationText", "location")
"""Attributes that name the permanode itself."""

_AROUND_DEGREES: Final = 0.05
"""Around each place: some five kilometres."""

_MOST_PLACES: Final = 1000
_MOST_RECTANGLES: Final = 10


def stored_places(corpus: Corpus, name: str) -> Sequence[LocationConstraint]:
    """The rectangles of a place; none when nothing in the store bears its name and has a place.

    The name in the usual cases (`paris`, `Paris`, `PARIS`).
    """
    for attribute in _AREAS:
        places = list(_places(corpus, attribute, name))
        if places:
            return [_around(places)]
    found = [place for attribute in _NAMES for place in _places(corpus, attribute, name)]
    return [_around([place]) for place in dict.fromkeys(found)][:_MOST_RECTANGLES]


def _places(corpus: Corpus, attribute: str, name: str) -> Iterator[Place]:
    for spelling in dict.fromkeys((name, name.lower(), name.title(), name.upper())):
        for permanode in islice(corpus.with_value(attribute, spelling), _MOST_PLACES):
            snapshot = corpus.snapshot(permanode)
            is_named = spelling in snapshot.attributes.get(attribute, ())
            if is_named and not snapshot.is_deleted and snapshot.place is not None:
                yield snapshot.place


def _around(places: Iterable[Place]) -> LocationConstraint:
    """The rectangle around places on one side of the date line."""
    latitudes, longitudes = zip(*places, strict=True)
    return LocationConstraint(
        north=min(max(latitudes) + _AROUND_DEGREES, 90.0),
        west=max(min(longitudes) - _AROUND_DEGREES, -180.0),
        east=min(max(longitudes) + _AROUND_DEGREES, 180.0),
        south=max(min(latitudes) - _AROUND_DEGREES, -90.0),
    )
