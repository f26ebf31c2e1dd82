"""The simple questions to the index, answered by walking rows: recent, by value, paths, edges."""

from collections.abc import Iterable, Iterator
from heapq import merge
from typing import Any, Final

from ..blob import Ref
from ..errors import NotFound
from ..schema.times import format_time, parse_time
from ..sorted.kv import after_prefix
from .attributes import attributes_of, evaluate
from .describe import DescribeRequest, describe_meta
from .rows import (
    LOOKUP_ATTRIBUTES,
    PATH_ATTRIBUTE,
    Row,
    TargetPath,
    esc,
    parse_claim,
    parse_target_path,
    reverse_time,
    time_of_reverse,
    value_prefix,
)
from .view import View

Json = dict[str, Any]

USUAL_LIMIT: Final = 50
MAX_LIMIT: Final = 1000

_META_DEPTH: Final = 2


def _meta(view: View, refs: Iterable[Ref]) -> Json:
    return describe_meta(view, DescribeRequest(tuple(refs), _META_DEPTH))


# -- recent -------------------------------------------------------------------------------------


def recent(view: View, limit: int, before_ns: int) -> Json:
    """The owner's permanodes by their newest claim before a moment, deleted ones left out."""
    found: dict[Ref, Json] = {}
    streams = [_recent_rows(view, key_id, before_ns) for key_id in view.owner_key_ids]
    for time, key, permanode in merge(*streams):
        if permanode in found or view.is_deleted(permanode):
            continue
        date = time_of_reverse(time)
        owner = _signer(view, key, permanode, date)
        found[permanode] = {"blobref": permanode, "modtime": date, "owner": owner}
        if len(found) == limit:
            break
    return {"recent": list(found.values()) or None, "meta": _meta(view, found)}


def _recent_rows(view: View, key_id: str, before_ns: int) -> Iterator[tuple[str, str, Ref]]:
    """Yield (reverse time, key, permanode), newest first."""
    prefix = f"recpn|{key_id}|"
    # Behind all rows of this very moment: the bound is exclusive.
    start = after_prefix(f"{prefix}{reverse_time(format_time(before_ns))}|".encode())
    for key, permanode in view.find(start, after_prefix(prefix.encode())):
        text = key.decode()
        yield text.split("|")[2], text, Ref.trusted(permanode.decode())


def _signer(view: View, key: str, permanode: Ref, date: str) -> Ref | None:
    _, key_id, _, claim = key.split("|")
    claim_key = f"claim|{permanode}|{key_id}|{date}|{claim}".encode()
    value = view.get(claim_key)
    return None if value is None else parse_claim(claim_key, value).signer_ref


# -- by the value of an attribute ---------------------------------------------------------------


def is_lookup_attribute(attribute: str) -> bool:
    return attribute in LOOKUP_ATTRIBUTES


def with_attribute(
    view: View,
    key_ids: Iterable[str],
    attribute: str,
    value: str,
    limit: int,
    at_ns: int,
) -> Json:
    """Permanodes that ever had the value ("": any) by claims up to a moment.

    By value and then newest claim first; deleted claims and permanodes are left out. They are
    described as they are now.
    """
    found: dict[Ref, None] = {}
    for key_id in key_ids:
        for date, claim, permanode in _value_rows(view, key_id, attribute, value):
            if len(found) >= limit:
                break
            if permanode in found or parse_time(date) > at_ns:
                continue
            if not view.is_deleted(claim) and not view.is_deleted(permanode):
                found[permanode] = None
    answer = [{"permanode": permanode} for permanode in found]
    return {"withAttr": answer or None, "meta": _meta(view, found)}


def by_value(view: View, key_id: str | None, attribute: str, value: str) -> Json:
    """The permanode with the newest claim of this value. Raises NotFound."""
    rows = iter(()) if key_id is None else _value_rows(view, key_id, attribute, value)
    for _, _, permanode in rows:
        if not view.is_deleted(permanode):
            return {"permanode": permanode, "meta": _meta(view, [permanode])}
    raise NotFound("find permanode", f"{attribute}={value}"[:200], "file does not exist")


def _value_rows(
    view: View, key_id: str, attribute: str, value: str
) -> Iterator[tuple[str, Ref, Ref]]:
    """Yield (date, claim, permanode) in row order."""
    if value:
        prefixes = [value_prefix(key_id, attribute, value)]
    else:
        head = f"{key_id}|{esc(attribute)}|"
        # All that fit into keys, then those of our own rows.
        prefixes = [f"{kind}|{head}".encode() for kind in ("signerattrvalue", "pk|value")]
    for prefix in prefixes:
        for key, permanode in view.scan(prefix):
            time, claim = key.decode().split("|")[-2:]
            yield time_of_reverse(time), Ref.trusted(claim), Ref.trusted(permanode.decode())


# -- claims, files, edges -----------------------------------------------------------------------


def claims(view: View, permanode: Ref, attribute: str = "") -> Json:
    """The owner's claims that are not deleted, of all types, by date."""
    found = []
    for claim in view.standing_claims(permanode):
        if attribute and claim.attribute != attribute:
            continue
        entry: Json = {
            "blobref": claim.ref,
            "signer": claim.signer_ref,
            "permanode": claim.permanode,
            "date": format_time(claim.date_ns),
            "type": claim.type,
        }
        if claim.attribute:
            entry["attr"] = claim.attribute
        if claim.value:
            entry["value"] = claim.value
        found.append(entry)
    return {"claims": found or None}


def files(view: View, whole_refs: Iterable[Ref]) -> Json:
    """The `file` blobs with this content, each list in ref order."""
    return {"files": {ref: list(view.files_of(ref)) or None for ref in whole_refs}}


def edges_to(view: View, child: Ref) -> Json:
    """The permanodes that have the child among their members now."""
    candidates: dict[Ref, bool] = {}
    for key, _ in view.scan(f"edgeback|{child}|".encode()):
        _, _, parent, claim = key.decode().split("|")
        standing = candidates.get(Ref.trusted(parent), False)
        candidates[Ref.trusted(parent)] = standing or not view.is_deleted(claim)
    found = [
        {"from": parent, "fromType": "permanode"}
        for parent, standing in candidates.items()
        if standing and _is_member(view, parent, child)
    ]
    return {"toRef": child, "edgesTo": found or None}


def _is_member(view: View, parent: Ref, child: Ref) -> bool:
    meta = view.meta(parent)
    if meta is None or view.is_deleted(parent):
        return False
    return child in attributes_of(view, parent).values.get("camliMember", ())


# -- paths --------------------------------------------------------------------------------------


def paths_to(view: View, key_id: str | None, target: Ref) -> Json:
    """Which `camliPath:` attributes of this signer name the target now."""
    found = [] if key_id is None else _standing_paths(view, key_id, target)
    entries = [
        {"claimRef": path.claim, "baseRef": path.base, "suffix": path.suffix} for path in found
    ]
    return {"paths": entries or None, "meta": _meta(view, [path.base for path in found])}


def _standing_paths(view: View, key_id: str, target: Ref) -> list[TargetPath]:
    newest: dict[tuple[Ref, str], TargetPath] = {}
    rows: Iterator[Row] = view.scan(f"signertargetpath|{key_id}|{target}|".encode())
    for path in (parse_target_path(key, value) for key, value in rows):
        other = newest.get((path.base, path.suffix))
        if (other is None or _order(other) < _order(path)) and not view.is_deleted(path.claim):
            newest[path.base, path.suffix] = path
    return [
        path
        for path in newest.values()
        if path.is_active and not view.is_deleted(path.base) and _names(view, key_id, path, target)
    ]


def _order(path: TargetPath) -> tuple[int, str]:
    return parse_time(path.date), path.claim


def _names(view: View, key_id: str, path: TargetPath, target: Ref) -> bool:
    """Whether the path still leads to the target: later claims may have removed or moved it."""
    values = evaluate(view.standing_claims(path.base, [key_id])).values
    return target in values.get(PATH_ATTRIBUTE + path.suffix, ())
