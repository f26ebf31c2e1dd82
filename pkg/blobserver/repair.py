"""Making several stores hold the same blobs again."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import groupby
from typing import Final, NamedTuple

from ..blob import Ref, SizedRef
from ..errors import Corrupt, NotFound
from .readers import Readers
from .receive import receive_many
from .storage import Storage
from .sync import ascending

_BATCH_COUNT: Final = 500
_BATCH_SIZE: Final = 32 * 1024 * 1024
"""Blobs, and bytes of one copy of each, that are looked at in one go."""


class Repaired(NamedTuple):
    """How far a repair has come."""

    blobs: int  # looked at
    copies: int  # written, in all stores together
    damaged: tuple[Ref, ...]  # there, but in no store whole
    last: str  # all up to this ref are done


class Row(NamedTuple):
    """A ref and where it is listed: store number -> size."""

    ref: Ref
    listed: dict[int, int]

    def __hash__(self) -> int:
        return hash(self.ref)


def repair(
    stores: Sequence[Storage],
    *,
    verify: bool = True,
    after: str = "",
    lock: AbstractContextManager[object] | None = None,
    progress: Callable[[Repaired], None] | None = None,
) -> Repaired:
    """Copy to each store what it lacks, and replace its damaged copies. Nothing is removed.

    verify: read every copy; otherwise only presence and sizes are compared.
    lock: held while a batch is copied; whoever removes blobs meanwhile must hold it as well.
    progress: called after each batch, which is durable then.
    Raises Unavailable where a store does not answer, Corrupt for a listing out of order; what is
    done until then is done.
    """
    done = Repaired(0, 0, (), after)
    for batch in batches(rows(stores, after)):
        with lock or nullcontext():
            copies, damaged = _repair_batch(stores, batch, verify)
        done = Repaired(
            done.blobs + len(batch),
            done.copies + copies,
            (*done.damaged, *damaged),
            batch[-1].ref,
        )
        if progress is not None:
            progress(done)
    return done


def complete(stores: Sequence[Storage], refs: Sequence[Ref]) -> tuple[int, tuple[Ref, ...]]:
    """As `repair` with `verify`, for these refs, by what the stores themselves say they have.

    Returns the number of copies written, and the refs of which there is no good copy.
    """
    sizes = [dict(store.stat(refs)) for store in stores]
    found_rows = [
        Row(ref, {number: found[ref] for number, found in enumerate(sizes) if ref in found})
        for ref in refs
    ]
    return _repair_batch(stores, found_rows, verify=True)


def rows(stores: Sequence[Storage], after: str = "") -> Iterator[Row]:
    """Yield what is listed behind `after`, in ref order, and where. Raises as `repair`."""
    listings = [
        map(partial(_numbered, number), ascending(store.enumerate(after), f"store {number}"))
        for number, store in enumerate(stores)
    ]
    for ref, group in groupby(heapq.merge(*listings), key=lambda row: row[0]):
        yield Row(ref, {number: size for _, number, size in group})


def _numbered(number: int, found: SizedRef) -> tuple[Ref, int, int]:
    return found.ref, number, found.size


def batches(listing: Iterator[Row]) -> Iterator[list[Row]]:
    """Cut into batches of at most 500 blobs and 32 MiB of one copy of each."""
    batch: list[Row] = []
    size_bytes = 0
    for row in listing:
        size = max(row.listed.values())
        if batch and (len(batch) >= _BATCH_COUNT or size_bytes + size > _BATCH_SIZE):
            yield batch
            batch, size_bytes = [], 0
        batch.append(row)
        size_bytes += size
    if batch:
        yield batch


def _repair_batch(
    stores: Sequence[Storage], rows: Sequence[Row], verify: bool
) -> tuple[int, tuple[Ref, ...]]:
    good: dict[Ref, bytes] = {}
    lacking = [_lacking(number, store, rows, verify, good) for number, store in enumerate(stores)]
    wanted = dict.fromkeys(ref for refs in lacking for ref in refs)
    damaged: list[Ref] = []
    readers = Readers(stores)
    for ref in wanted:
        if ref not in good:
            # Also where it was not listed: a listing may have left it out.
            try:
                good[ref] = readers.fetch(ref)
            except Corrupt:
                damaged.append(ref)
            except NotFound:
                pass  # removed since it was listed
    copies = 0
    for store, refs in zip(stores, lacking, strict=True):
        copies += len(receive_many(store, [(ref, good[ref]) for ref in refs if ref in good]))
    return copies, tuple(damaged)


def _lacking(
    number: int, store: Storage, rows: Sequence[Row], verify: bool, good: dict[Ref, bytes]
) -> list[Ref]:
    """What this store has not, or not whole. Adds to `good` what was read and nobody else had."""
    lacking = [row.ref for row in rows if number not in row.listed]
    if not verify:
        return lacking + [
            row.ref for row in rows if number in row.listed and len(set(row.listed.values())) > 1
        ]
    listed = [row.ref for row in rows if number in row.listed]
    unread: list[Ref] = []
    for ref, data in store.fetch_many(listed):
        if isinstance(data, bytes):
            good.setdefault(ref, data)
        elif isinstance(data, Corrupt):
            lacking.append(ref)
        else:
            unread.append(ref)
    # An index has in its rows what it can't give: that is no lack of a copy.
    known = {found.ref for found in store.stat(unread)} if unread else set()
    return lacking + [ref for ref in unread if ref not in known]
