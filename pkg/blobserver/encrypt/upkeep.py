"""Checking what lies in the stores below."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ...blob import Ref
from ...errors import Corrupt, NotFound, StoreError
from .lines import Place
from .opening import Parts, rows_of


class Damaged(NamedTuple):
    """What a check found. ref: a blob, or where the reason says so a meta blob."""

    ref: Ref
    reason: str
    is_readable: bool = False  # damaged is something else: another copy, or a meta blob


def check(parts: Parts, read: Callable[[Ref, Place], bytes]) -> Iterator[Damaged]:
    """Read everything that is named. read: gives a blob from its place, verified."""
    known = parts.known.metas()
    listed = {ref for ref, _ in parts.metas.store.enumerate()}
    for meta in sorted(known.keys() - listed):
        yield Damaged(meta, "meta blob: gone", is_readable=True)
    for meta, found in parts.metas.read(sorted(listed)):
        if isinstance(found, StoreError):
            yield Damaged(meta, f"meta blob: {found.reason or found}", is_readable=True)
    for ref, place in rows_of(parts.rows):
        places = [place, *(other for _, other in parts.known.said_of(ref))]
        failures = []
        for one in dict.fromkeys(places):
            try:
                read(ref, one)
            except (Corrupt, NotFound) as error:
                failures.append(f"{one.sealed}: {error.reason or error}")
        is_readable = len(failures) < len(set(places))
        for reason in failures:
            yield Damaged(ref, reason, is_readable)
