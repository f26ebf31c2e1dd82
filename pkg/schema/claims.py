"""Claims: the members of new ones, and what a set of them says (pkg/schema/SIGNING.md, "Claims").

The builders return unsigned members for `signing.Signer.sign_members`.
"""

import secrets
from base64 import b64encode
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Final, NamedTuple

from ..blob import Ref
from .parse import Schema
from .signing import Verification
from .times import format_time

SET_ATTRIBUTE: Final = "set-attribute"
ADD_ATTRIBUTE: Final = "add-attribute"
DEL_ATTRIBUTE: Final = "del-attribute"
DELETE: Final = "delete"
SHARE: Final = "share"

Members = dict[str, object]

_RANDOM_SIZE: Final = 20
_BILLION: Final = 1_000_000_000
_YEAR_1_NS: Final = -62_135_596_800 * _BILLION


# -- new ones -----------------------------------------------------------------------------------


def random_permanode(random: bytes | None = None) -> Members:
    """A permanode that no other equals. random: by default 20 fresh bytes."""
    token = secrets.token_bytes(_RANDOM_SIZE) if random is None else random
    return {"camliType": "permanode", "random": b64encode(token).decode()}


def planned_permanode(key: str) -> Members:
    """The permanode of a key: one ref for the same key, signer and time."""
    return {"camliType": "permanode", "key": key}


def set_attribute(permanode: Ref, attribute: str, value: str) -> Members:
    """The attribute has just this value from then on."""
    return _attribute_claim(SET_ATTRIBUTE, permanode, attribute) | {"value": value}


def add_attribute(permanode: Ref, attribute: str, value: str) -> Members:
    """The attribute has this value too."""
    return _attribute_claim(ADD_ATTRIBUTE, permanode, attribute) | {"value": value}


def del_attribute(permanode: Ref, attribute: str, value: str = "") -> Members:
    """The attribute does not have this value any more; without a value: any value."""
    members = _attribute_claim(DEL_ATTRIBUTE, permanode, attribute)
    return members | {"value": value} if value else members


def delete(target: Ref) -> Members:
    """Delete a permanode or a claim. Deleting the delete claim takes that back."""
    return {"camliType": "claim", "claimType": DELETE, "target": target}


def share(target: Ref, *, transitive: bool = False, expires_ns: int | None = None) -> Members:
    """Whoever knows the ref of this claim may read the target; transitive: and all below it.

    expires_ns: nanoseconds since the epoch, after which that ends.
    """
    return _share(transitive, expires_ns) | {"target": target}


def share_search(
    search: Mapping[str, object], *, transitive: bool = False, expires_ns: int | None = None
) -> Members:
    """The same for what a search finds. Only the claim itself can be fetched through it."""
    return _share(transitive, expires_ns) | {"search": search}


def keep(target: Ref) -> Members:
    """Protects its target from garbage collection. Perkeep's tools neither make nor read it."""
    return {"camliType": "keep", "target": target}


def _attribute_claim(kind: str, permanode: Ref, attribute: str) -> Members:
    return {
        "camliType": "claim",
        "claimType": kind,
        "permaNode": permanode,
        "attribute": attribute,
    }


def _share(transitive: bool, expires_ns: int | None) -> Members:
    members: Members = {
        "camliType": "claim",
        "claimType": SHARE,
        "authType": "haveref",
        "transitive": transitive,
    }
    if expires_ns is not None:
        members["expires"] = format_time(expires_ns)
    return members


# -- read ones ----------------------------------------------------------------------------------


class Claim(NamedTuple):
    """A verified claim.

    date_ns: its claimDate, nanoseconds since the epoch; the only date that counts. key_id: who
    made it. permanode, attribute, value: of attribute claims; target: of deletes and shares.
    """

    ref: Ref
    signer_ref: Ref
    key_id: str
    date_ns: int
    type: str
    permanode: Ref | None = None
    attribute: str = ""
    value: str = ""
    target: Ref | None = None


def is_dated(date_ns: int) -> bool:
    """Whether it is the date of a claim that counts.

    The second 0 of 1970 and the first instant of the year 1 are none, as Perkeep takes them for
    missing ones.
    """
    return date_ns // _BILLION != 0 and date_ns != _YEAR_1_NS


def read_claim(ref: Ref, schema: Schema, signed: Verification) -> Claim | None:
    """The claim in a schema blob whose signature was verified, or None if it counts nowhere.

    That is: another type of blob, no claimType, or no date (`is_dated`).
    """
    date_ns, kind = schema.time_ns("claimDate"), schema.string("claimType")
    if schema.type != "claim" or not kind:
        return None
    if date_ns is None or not is_dated(date_ns):
        return None
    return Claim(
        ref,
        signed.signer_ref,
        signed.key_id,
        date_ns,
        kind,
        schema.ref("permaNode"),
        schema.string("attribute"),
        schema.string("value"),
        schema.ref("target"),
    )


def in_order(claims: Iterable[Claim]) -> list[Claim]:
    """By date, and by ref where dates are equal: the same on every machine."""
    return sorted(claims, key=lambda claim: (claim.date_ns, claim.ref))


# -- attributes ---------------------------------------------------------------------------------

Attributes = dict[str, list[str]]


class State(NamedTuple):
    """A permanode at some time. modified_ns: the date of the last claim that made a change."""

    attributes: Attributes
    modified_ns: int | None


def state(
    claims: Iterable[Claim],
    at_ns: int | None = None,
    key_ids: Container[str] | None = None,
    deleted: Container[Ref] = frozenset(),
) -> State:
    """What the claims about one permanode say: the view of describe, the mount and `pk`.

    claims: in any order. at_ns: those dated later do not count; None: all count, also those
    of the future. key_ids: whose claims count; None: everybody's. deleted: claims that do
    not count, at any time. A value stands once in its list, an empty value is none, and the
    list stays, empty, when its last value is deleted.
    """
    values: dict[str, dict[str, None]] = {}  # dicts for their order: lists would be searched
    modified_ns = None
    for claim in _counting(claims, at_ns, key_ids, deleted):
        if claim.type == DEL_ATTRIBUTE and claim.value:
            values.setdefault(claim.attribute, {}).pop(claim.value, None)
        elif claim.type == DEL_ATTRIBUTE:
            values.pop(claim.attribute, None)
        else:
            if claim.type == SET_ATTRIBUTE:
                values.pop(claim.attribute, None)
            if not claim.value or claim.value in values.get(claim.attribute, ()):
                continue  # no modification, even if it cleared
            values.setdefault(claim.attribute, {})[claim.value] = None
        modified_ns = claim.date_ns
    return State({name: list(texts) for name, texts in values.items()}, modified_ns)


def attributes(
    claims: Iterable[Claim],
    at_ns: int | None = None,
    key_ids: Container[str] | None = None,
    deleted: Container[Ref] = frozenset(),
) -> Attributes:
    """The attributes of `state`, which see."""
    return state(claims, at_ns, key_ids, deleted).attributes


def search_attributes(
    claims: Iterable[Claim],
    at_ns: int | None = None,
    key_ids: Container[str] | None = None,
    deleted: Container[Ref] = frozenset(),
) -> Attributes:
    """The same, as attribute matching in search sees it.

    Values repeat, an empty value is one, and an attribute without values is absent. Perkeep
    counts deleted claims here: leave out `deleted` to have that.
    """
    attributes: Attributes = {}
    for claim in _counting(claims, at_ns, key_ids, deleted):
        if claim.type == SET_ATTRIBUTE:
            attributes[claim.attribute] = [claim.value]
        elif claim.type == ADD_ATTRIBUTE:
            attributes.setdefault(claim.attribute, []).append(claim.value)
        else:
            values = attributes.get(claim.attribute, [])
            attributes[claim.attribute] = [
                value for value in values if claim.value and value != claim.value
            ]
    return {name: values for name, values in attributes.items() if values}


def _counting(
    claims: Iterable[Claim],
    at_ns: int | None,
    key_ids: Container[str] | None,
    deleted: Container[Ref],
) -> list[Claim]:
    return in_order(
        claim
        for claim in claims
        if claim.type in (SET_ATTRIBUTE, ADD_ATTRIBUTE, DEL_ATTRIBUTE)
        and (at_ns is None or claim.date_ns <= at_ns)
        and (key_ids is None or claim.key_id in key_ids)
        and claim.ref not in deleted
    )


# -- deleting -----------------------------------------------------------------------------------


def deleted_refs(
    claims: Iterable[Claim],
    can_be_deleted: Callable[[Ref], bool] | None = None,
    key_ids: Container[str] | None = None,
) -> frozenset[Ref]:
    """The blobs that are deleted: a delete claim names them that is not deleted itself.

    claims: all delete claims there are (others may be among them). can_be_deleted: whether a
    ref is a permanode or a claim, as nothing else can be deleted; None: not asked. key_ids:
    whose deletes count; None: everybody's, as in Perkeep, which does not ask who made the
    target. Dates play no part. Deletes in a circle, which no hash allows, delete nothing.
    """
    targets: dict[Ref, Ref] = {}
    open_deletes: dict[Ref, int] = {}
    for claim in {claim.ref: claim for claim in claims}.values():
        if (
            claim.type == DELETE
            and claim.target is not None
            and (key_ids is None or claim.key_id in key_ids)
            and (can_be_deleted is None or can_be_deleted(claim.target))
        ):
            targets[claim.ref] = claim.target
            open_deletes[claim.target] = open_deletes.get(claim.target, 0) + 1
    # From the delete claims that nothing deletes, along the targets: each is settled once.
    settled = {ref: False for ref in targets if ref not in open_deletes}
    queue = list(settled)
    while queue:
        ref = queue.pop()
        target = targets.get(ref)
        if target is None or target in settled:
            continue
        open_deletes[target] -= 1
        if not settled[ref] or open_deletes[target] == 0:
            settled[target] = not settled[ref]
            queue.append(target)
    return frozenset(ref for ref, is_deleted in settled.items() if is_deleted)


def modified_ns(
    permanode: Ref, claims: Collection[Claim], deleted: Container[Ref] = frozenset()
) -> int | None:
    """When a permanode changed last, as search and its sort orders see it.

    The date of the last claim that is not deleted, among the attribute claims about it and the
    delete claims that name it. None if there is none.
    """
    dates = [
        claim.date_ns
        for claim in claims
        if claim.ref not in deleted
        and (claim.permanode == permanode or (claim.type == DELETE and claim.target == permanode))
    ]
    return max(dates, default=None)
