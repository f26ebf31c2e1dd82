"""All snapshots of an index that was just made: worked out in other processes, like the rows.

The parent reads the claims, in order of permanodes, and writes what comes back; permanodes that
depend on more than their own claims are its work.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from ..blob import Ref
from ..schema.claims import in_order
from ..sorted.memory import MemoryKeyValue
from .derived import SNAPSHOT, snapshot_key
from .rows import CLAIM, Row, parse_claim
from .snapshot import fitted_snapshot, made_of, order_keys, size_of
from .view import View

PAGE_PERMANODES: Final = 256
_DEPENDENT: Final = (b"|camliContent|", b"|foursquareVenuePermanode|")
"""In values of claims by which a snapshot depends on other blobs."""


class Given(NamedTuple):
    """A permanode by itself. size: as in a snapshot. claims: rows, keys and values in turn."""

    permanode: str
    size: int | None
    claims: list[bytes]


class Page(NamedTuple):
    """Permanodes that follow each other. start: the key of the first claim of the first one.

    given: those that can be handed out; others: the rest, and those that have a snapshot.
    """

    start: bytes
    given: list[Given]
    others: list[Ref]


def pages(view: View, deleted: set[str] | None) -> Iterator[Page]:
    """Yield all permanodes with claims, in order.

    deleted: what delete claims name; None: not known, so nothing is handed out.
    """
    any_before = next(view.scan(SNAPSHOT), None) is not None
    by_permanode = groupby(view.scan(CLAIM), lambda row: row[0].split(b"|", 2)[1])
    page = Page(CLAIM, [], [])
    for name, claims in by_permanode:
        permanode = name.decode()
        if len(page.given) + len(page.others) == PAGE_PERMANODES:
            yield page
            page = Page(CLAIM + name + b"|", [], [])
        found = list(claims)
        has_one = any_before and view.get(snapshot_key(permanode)) is not None
        if has_one or deleted is None or not _is_independent(permanode, found, deleted):
            page.others.append(Ref.trusted(permanode))
            continue
        size = size_of(view, permanode)
        page.given.append(Given(permanode, size, [part for row in found for part in row]))
    yield page


def _is_independent(permanode: str, claims: Sequence[Row], deleted: set[str]) -> bool:
    if deleted and (
        permanode in deleted
        or any(key.rpartition(b"|")[2].decode() in deleted for key, _ in claims)
    ):
        return False
    return not any(word in value for _, value in claims for word in _DEPENDENT)


def taken(owner_key_ids: Sequence[str], permanodes: Sequence[Given]) -> list[bytes]:
    """In a process: the rows of the snapshots of these permanodes, keys and values in turn."""
    view = View(MemoryKeyValue(), owner_key_ids)  # of what they do not depend on
    made: dict[bytes, bytes] = {}
    for name, size, parts in permanodes:
        permanode = Ref.trusted(name)
        pairs = iter(parts)
        claims = in_order(map(parse_claim, pairs, pairs))
        snapshot, value = fitted_snapshot(made_of(view, claims, False, size))
        made[snapshot_key(permanode)] = value
        made.update(dict.fromkeys(order_keys(snapshot, permanode), b""))
    # In order, which spares the store that they go to most of its sorting.
    return [part for key in sorted(made) for part in (key, made[key])]
