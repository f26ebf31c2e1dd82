"""Moving each blob to the places where a policy wants it."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from ..blob import Ref
from ..errors import Corrupt, NotFound
from .readers import Readers
from .receive import receive_many
from .repair import Row, batches, rows
from .storage import Storage


class Rebalanced(NamedTuple):
    """How far it has come."""

    blobs: int = 0  # looked at
    copied: int = 0
    removed: int = 0
    damaged: tuple[Ref, ...] = ()  # out of place, and in no store whole


def rebalance(
    stores: Sequence[Storage],
    wanted: Callable[[Ref, int], Sequence[int]],
    *,
    lock: AbstractContextManager[object] | None = None,
    progress: Callable[[Rebalanced], None] | None = None,
) -> Rebalanced:
    """Copy each blob to the stores that are to have it, then remove it from the others.

    wanted: the numbers of those stores, by ref and size in bytes. lock: held for each batch; who
    removes blobs meanwhile must hold it as well. progress: called after each batch.
    A copy is removed only after all wanted ones were read back whole, from durable stores. What
    lies right is not read. Raises Unavailable where a store does not answer, Corrupt for a
    listing out of order; what is done until then is done.
    """
    done = Rebalanced()
    for batch in batches(rows(stores)):
        astray = {}
        for row in batch:
            targets = set(wanted(row.ref, max(row.listed.values())))
            if targets != row.listed.keys():
                astray[row] = targets
        with lock or nullcontext():
            copied, removed, damaged = _move(stores, astray)
        done = Rebalanced(
            done.blobs + len(batch),
            done.copied + copied,
            done.removed + removed,
            (*done.damaged, *damaged),
        )
        if progress is not None:
            progress(done)
    return done


def _move(stores: Sequence[Storage], astray: dict[Row, set[int]]) -> tuple[int, int, list[Ref]]:
    """Returns how many copies were made, how many removed, and what is nowhere whole."""
    blobs, damaged = _read(stores, [row.ref for row in astray])
    copied = removed = 0
    safe = set(blobs)
    for number, store in enumerate(stores):
        targeted = [row.ref for row, to in astray.items() if number in to and row.ref in blobs]
        whole = _whole(store, targeted)
        lacking = [ref for ref in targeted if ref not in whole]
        receive_many(store, [(ref, blobs[ref]) for ref in lacking])
        copied += len(lacking)
        safe -= set(lacking) - _whole(store, lacking)
    for number, store in enumerate(stores):
        surplus = [
            row.ref
            for row, to in astray.items()
            if number in row.listed and number not in to and row.ref in safe
        ]
        if surplus:
            store.remove(surplus)
            removed += len(surplus)
    return copied, removed, damaged


def _read(stores: Sequence[Storage], refs: Iterable[Ref]) -> tuple[dict[Ref, bytes], list[Ref]]:
    blobs: dict[Ref, bytes] = {}
    damaged = []
    readers = Readers(stores)
    for ref in refs:
        try:
            blobs[ref] = readers.fetch(ref)
        except Corrupt:
            damaged.append(ref)
        except NotFound:
            pass  # removed since it was listed
    return blobs, damaged


def _whole(store: Storage, refs: Sequence[Ref]) -> set[Ref]:
    return {ref for ref, data in store.fetch_many(refs) if isinstance(data, bytes)}
