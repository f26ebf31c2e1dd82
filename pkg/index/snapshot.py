"""What a permanode is now, by all claims about it: kept in rows, so that searches read one each."""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from ..blob import Ref, parse_ref
from ..errors import Invalid
from ..schema.claims import DEL_ATTRIBUTE, SET_ATTRIBUTE, Claim, in_order, search_attributes
from ..schema.times import parse_time
from ..sorted.kv import MAX_KEY_SIZE, MAX_VALUE_SIZE
from .attributes import NO_TIME, Place, evaluate, place_of
from .attributes import Attributes as Shown
from .derived import CREATED, LARGE, cell, place_prefix, snapshot_key, tail, value_prefixes
from .rows import DamagedRow
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
    repeated values count (schema.claims.search_attributes). shown: the owner's claims as
    descriptions show them (schema.claims.state). size: bytes of the blob; None: it is not
    indexed, or no permanode.
    """

    is_deleted: bool
    modified_ns: int | None
    created_ns: int | None
    place: Place | None
    attributes: Attributes
    anyones: Attributes
    shown: Shown
    size: int | None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to keep a row for: no claim counts."""
        return self.modified_ns is None and not self.is_deleted

    @property
    def is_cut(self) -> bool:
        """Whether the attributes were too long for the row that this was read from."""
        return "" in self.attributes

    def cut(self) -> "Snapshot":
        """What is kept of one that is too long for a row."""
        return self._replace(attributes={"": []}, anyones={"": []}, shown=Shown({}, NO_TIME))


def take(
    view: View,
    permanode: Ref,
    is_deleted: Callable[[str], bool] | None = None,
    claims: Iterable[Claim] | None = None,
) -> Snapshot:
    """Work it out from the claims.

    is_deleted: a quicker `view.is_deleted`, if there is one. claims: `view.claims(permanode)`,
    for who has read them already, in any order.
    """
    if is_deleted is None:
        is_deleted = view.is_deleted
    found = view.claims(permanode) if claims is None else in_order(claims)
    standing = [claim for claim in found if not is_deleted(claim.ref)]
    return made_of(view, standing, is_deleted(permanode), size_of(view, permanode))


def size_of(view: View, permanode: str) -> int | None:
    """As a snapshot has it."""
    meta = view.meta(permanode)
    return meta.size if meta is not None and meta.camli_type == "permanode" else None


def made_of(view: View, claims: list[Claim], is_deleted: bool, size: int | None) -> Snapshot:
    """What claims that stand, in order, make of a permanode.

    view: the owners, and what the permanode depends on besides: its content, its venue.
    """
    owned = [claim for claim in claims if claim.key_id in view.owner_key_ids]
    anyones = search_attributes(claims)
    shown = evaluate(owned)
    modified_ns = claims[-1].date_ns if claims else None
    return Snapshot(
        is_deleted,
        modified_ns,
        _created_ns(view, claims, anyones, modified_ns),
        place_of(view, shown),
        anyones if len(owned) == len(claims) else search_attributes(owned),
        anyones,
        shown,
        size,
    )


def fitted_snapshot(snapshot: Snapshot) -> tuple[Snapshot, bytes]:
    """It, or what is kept of one that is too long for a row; and the value of its row."""
    value = encode(snapshot)
    if len(value) <= MAX_VALUE_SIZE:
        return snapshot, value
    shorter = snapshot.cut()
    return shorter, encode(shorter)


def encode(snapshot: Snapshot) -> bytes:
    """As JSON without NUL, which rows can't hold."""
    attributes, shown = snapshot.attributes, snapshot.shown
    # Integers of JSON have 64 bits here; the years that claims can name need more.
    times = [None if time is None else str(time) for time in snapshot[1:3]]
    fields = [
        *(snapshot.is_deleted, *times, snapshot.place, attributes),
        None if snapshot.anyones == attributes else snapshot.anyones,
        None if shown.values == attributes else shown.values,
        *(shown.modified, snapshot.size),
    ]
    return msgspec.json.encode(fields)


_Fields = tuple[
    bool,
    str | None,
    str | None,
    Place | None,
    Attributes,
    Attributes | None,
    Attributes | None,
    str,
    int | None,
]
_decoder: Final = msgspec.json.Decoder(_Fields)


def decode(value: bytes) -> Snapshot | None:
    """None for an older form: all rows are being made anew. Raises DamagedRow."""
    try:
        fields = _decoder.decode(value)
        is_deleted, modified, created, place, attributes, anyones, values, shown, size = fields
        return Snapshot(
            is_deleted,
            None if modified is None else int(modified),
            None if created is None else int(created),
            place,
            attributes,
            attributes if anyones is None else anyones,
            Shown(attributes if values is None else values, shown),
            size,
        )
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, ValueError) as error:
        raise DamagedRow("read", "snapshot row", str(error)) from None


def kept(view: View, permanode: str) -> Snapshot | None:
    """What the row says, which may be cut; None: there is none of this form."""
    value = view.get(snapshot_key(permanode))
    return None if value is None else decode(value)


def _created_ns(
    view: View, claims: list[Claim], attributes: Attributes, modified_ns: int | None
) -> int | None:
    """What its attributes say, its content, or its last claim, in this order."""
    found = _first_time(attributes, _STARTS)
    if found is None:
        content = _last_content(claims)
        times = [] if content is None else view.times_of_content(content)
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


# -- rows by which it is found --------------------------------------------------------------------

_MOST_VALUE_ROWS: Final = 1000
"""Of one permanode: each change of its time writes all of them."""


def order_keys(snapshot: Snapshot, permanode: Ref) -> dict[bytes, None]:
    """The keys by which a permanode is found in order of creation."""
    if snapshot.is_deleted or snapshot.created_ns is None:
        return {}
    prefixes = {CREATED: None}
    if snapshot.place is not None:
        latitude, longitude = snapshot.place
        prefixes[place_prefix(cell(latitude, 90), cell(longitude, 180))] = None
    values = _values_by_prefix(snapshot)
    prefixes |= {LARGE: None} if values is None else values
    end = tail(snapshot.created_ns, permanode)
    # As in rows.fitted: a key over the limit names what no store can hold.
    return {prefix + end: None for prefix in prefixes if len(prefix + end) <= MAX_KEY_SIZE}


def _values_by_prefix(snapshot: Snapshot) -> dict[bytes, None] | None:
    """What leads to the owner's values; None: too much to list."""
    if snapshot.is_cut:
        return None
    prefixes: dict[bytes, None] = {}
    for attribute, values in snapshot.attributes.items():
        for value in values:
            prefixes.update(dict.fromkeys(value_prefixes(attribute, value)))
            if len(prefixes) > _MOST_VALUE_ROWS:
                return None
    return prefixes
