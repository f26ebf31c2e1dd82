"""Keeps the rows for searches in step with the rest (README.md, "Rows for searches")."""

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Final

from ..blob import Fetcher, Ref
from ..errors import Corrupt, NotFound
from ..schema.claims import Claim
from ..schema.parse import parse
from ..sorted.kv import Batch, KeyValue, after_prefix
from . import sweep
from .derived import (
    DERIVED_KEY,
    DERIVED_PREFIXES,
    DERIVED_VERSION,
    DIRTY,
    SNAPSHOT_PREFIXES,
    SWEEP_KEY,
    derived_rows,
    has_prefix_key,
    snapshot_key,
)
from .rows import CLAIM, OWN, parse_claim
from .snapshot import decode, fitted_snapshot, order_keys, take
from .trees import TREE_PREFIXES
from .view import View

PAGE_SIZE: Final = 256
"""Marks that are worked off in one go, under the index's lock."""

_PAGE_ROWS: Final = 10_000
_MOST_TARGETS: Final = 10_000
_LONGEST_CHAIN: Final = 1000
_DEPENDENT_ATTRIBUTES: Final = ("foursquareVenuePermanode",)
"""Attributes by which the place of one permanode is that of another."""


class Settler:
    """Works off `pk|dirty` marks. Used by one thread at a time, while nobody writes."""

    def __init__(self, rows: KeyValue, view: View, blobs: Fetcher) -> None:
        self._rows = rows
        self._view = view
        self._blobs = blobs
        self._targets: set[str] | None = None
        self._sweeping = 0
        # Now, while nobody writes, and not with the first query: what was deleted is walked over.
        if next(rows.prefixed(DIRTY), None) is None:
            view.marks.known = set()

    def is_complete(self) -> bool:
        """Whether the rows are there, of our form and for these owners; and snapshots."""
        return self._is_derived() and not self.awaits_sweep()

    def _is_derived(self) -> bool:
        return self._rows.get(DERIVED_KEY) == self._version()

    def begin(self) -> None:
        """Say that the rows are there, of an index without blobs, and that snapshots are to come.

        Until they have, blobs need not be marked: that would be to write most rows twice.
        """
        batch = Batch()
        batch.set(DERIVED_KEY, self._version())
        batch.set(SWEEP_KEY, b"")
        self._rows.commit(batch)

    def awaits_sweep(self) -> bool:
        """Whether all snapshots are still to be taken, of whatever is not marked, too."""
        return self._rows.get(SWEEP_KEY) is not None

    def complete(self) -> None:
        """Make all derived rows again, unless they are there; snapshots are left to sweeps."""
        if not self._is_derived():
            self._rebuild()

    def _rebuild(self) -> None:
        self._view.marks.known = None
        batch = Batch()
        batch.delete(DERIVED_KEY)
        for prefix in (*DERIVED_PREFIXES, *SNAPSHOT_PREFIXES, *TREE_PREFIXES):
            for key, _ in self._rows.prefixed(prefix):
                batch.delete(key)
                batch = self._flushed(batch)
        for row in self._view.scan(b""):
            if not row[0].startswith(OWN):
                for derived in derived_rows(row):
                    if not derived[0].startswith(DIRTY):
                        batch.set(*derived)
                batch = self._flushed(batch)
        self._rows.commit(batch, durable=False)
        self.begin()

    def _flushed(self, batch: Batch) -> Batch:
        if len(batch) < _PAGE_ROWS:
            return batch
        self._rows.commit(batch, durable=False)
        return Batch()

    def _version(self) -> bytes:
        return b"|".join([DERIVED_VERSION, *map(str.encode, self._view.owner_key_ids)])

    def pages_to_sweep(self) -> Iterator[sweep.Page]:
        """Yield all permanodes, to take their snapshots elsewhere (see `commit_swept`)."""
        self._drop_marks()
        self._targets = self._deleted_targets()
        self._sweeping = self._view.marks.version
        return sweep.pages(self._view, self._targets)

    def commit_swept(self, page: sweep.Page, rows: Iterable[tuple[bytes, bytes]]) -> bool:
        """Write the snapshots of a page: the rows that were worked out, and all others.

        False if something has arrived since `pages_to_sweep`: they may be out of date.
        """
        if self._view.marks.version != self._sweeping:
            return False
        batch = Batch()
        batch.add_plain(rows)
        for permanode in page.others:
            self._take(batch, permanode)
        self._rows.commit(batch, durable=False)
        return True

    def end_sweep(self) -> None:
        """Say that all snapshots are there, or marked."""
        batch = Batch()
        batch.delete(SWEEP_KEY)
        self._rows.commit(batch, durable=False)

    def sweep_page(self, start: bytes) -> bytes:
        """Take the snapshots of the next permanodes, in their order, from a key on.

        Returns where the next page begins; b"" at the end.
        """
        if start == CLAIM:
            self._drop_marks()
        self._targets = self._deleted_targets()
        batch = Batch()
        by_permanode = groupby(self._view.scan(CLAIM, start), lambda row: row[0].split(b"|", 2)[1])
        for permanode, rows in islice(by_permanode, sweep.PAGE_PERMANODES):
            claims = [parse_claim(*row) for row in rows]
            self._take(batch, Ref.trusted(permanode.decode()), claims)
            batch = self._flushed(batch)
        following = next(by_permanode, None)
        if following is None:
            batch.delete(SWEEP_KEY)
        self._rows.commit(batch, durable=False)
        return b"" if following is None else CLAIM + following[0] + b"|"

    def _drop_marks(self) -> None:
        """The sweep that begins sees all that was marked until now; a crash makes it begin anew."""
        batch = Batch()
        for key, _ in self._rows.prefixed(DIRTY):
            batch.delete(key)
            batch = self._flushed(batch)
        self._rows.commit(batch, durable=False)
        self._view.marks.known = set()

    def has_work(self) -> bool:
        """Whether there are marks, or it is not known."""
        return self._view.marks.known != set()

    def settle_page(self, start: bytes = DIRTY) -> bytes:
        """Work off some marks from a key on. Returns from where to go on; b"" at the end.

        Going on there spares a walk over what was just deleted, which costs some engines much.
        """
        known = self._view.marks.known
        marks = self._stored_marks(start) if known is None else list(islice(known, PAGE_SIZE))
        self._targets = self._deleted_targets()
        any_dependent = self._has_dependent()
        batch = Batch()
        # In one commit with the snapshots at the end of it, or an earlier one: a crash in between
        # leaves a mark too many, never one too few.
        permanodes = dict.fromkeys(
            permanode
            for key in marks
            for permanode in self.affected(key[len(DIRTY) :].decode(), any_dependent)
        )
        for permanode in permanodes:
            self._take(batch, permanode)
            batch = self._flushed(batch)
        for key in marks:
            batch.delete(key)
        if batch:
            self._rows.commit(batch, durable=False)
        if known is not None:
            known.difference_update(marks)
            return DIRTY if known else b""
        if len(marks) == PAGE_SIZE:
            return marks[-1] + b"\0"
        if next(self._rows.prefixed(DIRTY), None) is None:
            self._view.marks.known = set()
        return b""

    def _stored_marks(self, start: bytes) -> list[bytes]:
        return [key for key, _ in islice(self._rows.find(start, after_prefix(DIRTY)), PAGE_SIZE)]

    def _has_dependent(self) -> bool:
        """Whether any permanode depends on another: in most stores none does."""
        found = (self._rows.prefixed(has_prefix_key(name)) for name in _DEPENDENT_ATTRIBUTES)
        return any(next(rows, None) is not None for rows in found)

    def _deleted_targets(self) -> set[str] | None:
        """What delete claims name: few blobs, so most need no look. None: too many to know."""
        rows = self._rows.prefixed(b"deleted|")
        targets = {key.decode().split("|")[1] for key, _ in islice(rows, _MOST_TARGETS)}
        return targets if next(rows, None) is None else None

    def _is_deleted(self, ref: str) -> bool:
        if self._targets is not None and ref not in self._targets:
            return False
        return self._view.is_deleted(ref)

    def affected(self, changed: str, any_dependent: bool = True) -> Iterator[Ref]:
        """The permanodes whose snapshots depend on what has changed.

        any_dependent: False spares a look for permanodes that depend on others: there are none.
        """
        meta = self._view.meta(changed)
        kind = None if meta is None else meta.camli_type
        if kind in ("file", "directory"):
            yield from self._having(("camliContent",), changed)
            return
        permanode = self._about(Ref.trusted(changed)) if kind == "claim" else changed
        if permanode is not None:
            yield Ref.trusted(permanode)
            if any_dependent:
                yield from self._having(_DEPENDENT_ATTRIBUTES, permanode)

    def _having(self, attributes: Iterable[str], value: str) -> Iterator[Ref]:
        for attribute in attributes:
            for key, _ in self._rows.prefixed(has_prefix_key(attribute, value)):
                yield Ref.trusted(key.decode().rpartition("|")[2])

    def _about(self, claim: Ref) -> Ref | None:
        """The permanode that a claim is about, also a delete claim of one of its claims."""
        ref = claim
        for _ in range(_LONGEST_CHAIN):
            try:
                schema = parse(self._blobs.fetch(ref))
            except (NotFound, Corrupt):
                return None
            if schema is None or schema.type != "claim":
                return ref
            about = schema.ref("permaNode") or schema.ref("target")
            if about is None:
                return None
            ref = about
        return None

    def _take(self, batch: Batch, permanode: Ref, claims: list[Claim] | None = None) -> None:
        key = snapshot_key(permanode)
        row = self._rows.get(key)
        before = decode(row) if row else None
        old = order_keys(before, permanode) if before else {}
        snapshot = take(self._view, permanode, self._is_deleted, claims)
        if snapshot.is_empty:
            new: dict[bytes, None] = {}
            batch.delete(key)
        else:
            snapshot, value = fitted_snapshot(snapshot)
            new = order_keys(snapshot, permanode)
            batch.set(key, value)
        for gone in old.keys() - new.keys():
            batch.delete(gone)
        # Also those that should be there: while all are made anew, they may be gone.
        for there in new:
            batch.set(there, b"")
