"""Comparing two stores, and copying what one lacks."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from ..blob import Ref, SizedRef
from ..errors import Corrupt, NotFound
from .hub import Hub
from .receive import receive_many
from .storage import Storage

BATCH_COUNT: Final = 500
BATCH_SIZE: Final = 32 * 1024 * 1024
"""Blobs and bytes that a copy holds in memory and makes durable at a time."""


class Difference(NamedTuple):
    """A ref that two listings do not agree on, with its size in each; None where it is absent."""

    ref: Ref
    left: int | None
    right: int | None


class Copied(NamedTuple):
    """How far a copy has come."""

    blobs: int
    size_bytes: int
    damaged: tuple[Ref, ...]  # could not be read at the source, so were not copied
    last: str  # all up to this ref have been looked at


def compare(left: Iterable[SizedRef], right: Iterable[SizedRef]) -> Iterator[Difference]:
    """Yield, in ref order, what one listing lacks or has in another size.

    Both must be complete and ascending; raises Corrupt where one is not ascending. An error of a
    listing is raised where it happens: nothing behind that point is decided, and who wants to
    delete must first see the end.
    """
    left_rows, right_rows = ascending(left, "left"), ascending(right, "right")
    a, b = next(left_rows, None), next(right_rows, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a.ref < b.ref):
            assert a is not None
            yield Difference(a.ref, a.size, None)
            a = next(left_rows, None)
        elif a is None or b.ref < a.ref:
            yield Difference(b.ref, None, b.size)
            b = next(right_rows, None)
        else:
            if a.size != b.size:
                yield Difference(a.ref, a.size, b.size)
            a, b = next(left_rows, None), next(right_rows, None)


def copy_missing(
    source: Storage,
    target: Storage,
    after: str = "",
    progress: Callable[[Copied], None] | None = None,
    hub: Hub | None = None,
) -> Copied:
    """Copy to the target what it lacks, or has in another size, beginning after a ref.

    Each blob is checked on the way; damaged ones are left out and named in the result.
    progress: called after each batch, which is durable then. hub: of the target.
    """
    done = Copied(0, 0, (), after)
    for batch in _batches(compare(source.enumerate(after), target.enumerate(after))):
        blobs: list[tuple[Ref, bytes]] = []
        damaged: list[Ref] = []
        for ref, data in source.fetch_many(batch):
            if isinstance(data, bytes):
                blobs.append((ref, data))
            elif isinstance(data, Corrupt):
                damaged.append(ref)
            else:
                assert isinstance(data, NotFound)  # removed since it was listed
        if blobs:
            receive_many(target, blobs, hub)
        done = Copied(
            done.blobs + len(blobs),
            done.size_bytes + sum(len(data) for _, data in blobs),
            (*done.damaged, *damaged),
            batch[-1],
        )
        if progress is not None:
            progress(done)
    return done


def _batches(differences: Iterable[Difference]) -> Iterator[list[Ref]]:
    """What is to be copied from left to right, in batches under both limits."""
    batch: list[Ref] = []
    size_bytes = 0
    for ref, left, _ in differences:
        if left is None:
            continue
        if batch and (len(batch) >= BATCH_COUNT or size_bytes + left > BATCH_SIZE):
            yield batch
            batch, size_bytes = [], 0
        batch.append(ref)
        size_bytes += left
    if batch:
        yield batch


def ascending(listing: Iterable[SizedRef], name: str) -> Iterator[SizedRef]:
    """The listing; raises Corrupt where it is not in ascending order. name: what to call it."""
    last = ""
    for found in listing:
        if found.ref <= last:
            raise Corrupt("compare", f"{name} listing", f"{found.ref} comes after {last}")
        last = found.ref
        yield found
