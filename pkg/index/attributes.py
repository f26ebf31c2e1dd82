"""The attributes of a permanode at a moment, out of its claims."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from ..blob import parse_ref
from ..schema.claims import Claim, state
from ..schema.times import format_time
from .view import View

NO_TIME: Final = "0001-01-01T00:00:00Z"
"""The modification time of what no claim has modified."""


class Attributes(NamedTuple):
    """values: attribute to its values, in the order they were added; a list may be empty.

    modified: text of the date of the last claim that had an effect here; NO_TIME if none had.
    """

    values: dict[str, list[str]]
    modified: str

    def first(self, attribute: str) -> str:
        """The value of an attribute that has one; "" if it has none."""
        values = self.values.get(attribute)
        return values[0] if values else ""


def evaluate(claims: Iterable[Claim], at_ns: int | None = None) -> Attributes:
    """What claims that count make of a permanode at a moment (None: all of them)."""
    values, modified_ns = state(claims, at_ns)
    return Attributes(values, NO_TIME if modified_ns is None else format_time(modified_ns))


def attributes_of(view: View, permanode: str, at_ns: int | None = None) -> Attributes:
    """As the owner sees them: claims of the owner's keys that are not deleted."""
    return evaluate(view.standing_claims(permanode), at_ns)


Place = tuple[float, float]
"""Latitude and longitude in degrees, north and east positive."""

_PLACE_ATTRIBUTES: Final = {"foursquare.com:checkin": "foursquareVenuePermanode"}
"""By camliNodeType: which attribute names the permanode that has the place."""


def place_of(view: View, attributes: Attributes, at_ns: int | None = None) -> Place | None:
    """Where a permanode is: explicit attributes, those of its venue, else its picture's."""
    if attributes.first("latitude") and attributes.first("longitude"):
        return _explicit_place(attributes)
    naming = _PLACE_ATTRIBUTES.get(attributes.first("camliNodeType"))
    venue = parse_ref(attributes.first(naming)) if naming is not None else None
    if venue is not None:
        place = _explicit_place(attributes_of(view, venue, at_ns))
        if place is not None:
            return place
    content = parse_ref(attributes.first("camliContent"))
    return None if content is None else place_of_file(view, content)


def place_of_file(view: View, file: str) -> Place | None:
    info = view.file_info(file)
    if info is None or info.whole_ref is None:
        return None
    return view.place_of_content(info.whole_ref)


def _explicit_place(attributes: Attributes) -> Place | None:
    try:
        latitude = float(attributes.first("latitude"))
        longitude = float(attributes.first("longitude"))
    except ValueError:
        return None
    # Neither infinity nor "not a number" is a place, or can be said in JSON.
    finite = abs(latitude) < 1e300 and abs(longitude) < 1e300
    return (latitude, longitude) if finite else None
