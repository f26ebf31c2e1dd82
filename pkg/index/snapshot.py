"""What a permanode is now, by all claims about it: kept in rows, so that searches read one each."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from ..blob import Ref, parse_ref
from ..errors import Corrupt, Invalid
from ..schema.claims import DEL_ATTRIBUTE, SET_ATTRIBUTE, Claim, search_attributes
from ..schema.times import parse_time
from .attributes import Place, evaluate, place_of
from .view import View

_CONTENT = "camliContent"
_STARTS = ("paymentDueDate", "startDate", "dateCreated")
_PUBLICATIONS = ("datePublished", "dateModified")
_YEAR_1_NS = -62_135_596_800 * 1_000_000_000

Attributes = dict[str, list[str]]


class Snapshot(NamedTuple):
    """is_deleted: whether the permanode is. Deleted claims do not count in what follows.

    modified_ns: the date of the last claim about it, by anybody. created_ns: the time at which
    it is listed. attributes: by the owner's claims; anyones: by everybody's. In both, empty and
    repeated values count (schema.claims.search_attributes).
    """

    is_deleted: bool
    modified_ns: int | None
    created_ns: int | None
    place: Place | None
    attributes: Attributes
    anyones: Attributes


NOTHING_KNOWN: Final = Snapshot(False, None, None, None, {}, {})
"""Without claims: no row is kept for this."""


def take(view: View, permanode: Ref, is_deleted: Callable[[str], bool] | None = None) -> Snapshot:
    """Work it out from the claims. is_deleted: a quicker `view.is_deleted`, if there is one."""
    if is_deleted is None:
        is_deleted = view.is_deleted
    claims = [claim for claim in view.claims(permanode) if not is_deleted(claim.ref)]
    owned = [claim for claim in claims if claim.key_id in view.owner_key_ids]
    anyones = search_attributes(claims)
    modified_ns = claims[-1].date_ns if claims else None
    return Snapshot(
        is_deleted(permanode),
        modified_ns,
        _created_ns(view, claims, anyones, modified_ns),
        place_of(view, evaluate(owned)),
        anyones if len(owned) == len(claims) else search_attributes(owned),
        anyones,
    )


def encode(snapshot: Snapshot) -> bytes:
    """As JSON without NUL, which rows can't hold."""
    same = snapshot.attributes == snapshot.anyones
    # Integers of JSON have 64 bits here; the years that claims can name need more.
    times = [None if time is None else str(time) for time in snapshot[1:3]]
    fields = [snapshot.is_deleted, *times, snapshot.place, snapshot.attributes]
    return msgspec.json.encode([*fields, None if same else snapshot.anyones])


def decode(value: bytes) -> Snapshot:
    """Raises Corrupt for a damaged row."""
    try:
        fields: list[Any] = msgspec.json.decode(value)
        is_deleted, modified, created, place, attributes, anyones = fields
        return Snapshot(
            is_deleted,
            None if modified is None else int(modified),
            None if created is None else int(created),
            None if place is None else (place[0], place[1]),
            attributes,
            attributes if anyones is None else anyones,
        )
    except (msgspec.DecodeError, ValueError, TypeError, IndexError) as error:
        raise Corrupt("read", "snapshot row", str(error)) from None


def _created_ns(
    view: View, claims: list[Claim], attributes: Attributes, modified_ns: int | None
) -> int | None:
    """What its attributes say, its content, or its last claim, in this order."""
    found = _first_time(attributes, _STARTS)
    if found is None:
        content = _last_content(claims)
        times = [] if content is None else view.file_times(content)
        found = parse_time(times[0]) if times else _first_time(attributes, _PUBLICATIONS)
    return modified_ns if found is None else found


def _first_time(attributes: Attributes, names: tuple[str, ...]) -> int | None:
    for name in names:
        values = attributes.get(name)
        try:
            time_ns = parse_time(values[0]) if values else _YEAR_1_NS
        except Invalid:
            continue
        if time_ns != _YEAR_1_NS:
            return time_ns
    return None


def _last_content(claims: list[Claim]) -> Ref | None:
    """The content that dates a permanode: what was set last; added ones do not count."""
    content = None
    for claim in claims:
        if claim.attribute == _CONTENT:
            if claim.type == SET_ATTRIBUTE:
                content = parse_ref(claim.value)
            elif claim.type == DEL_ATTRIBUTE:
                content = None
    return content
