"""Commits outcomes, and remembers what waits for what. Used by one thread at a time."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from ..blob import Ref, Statter
from ..schema.claims import Claim
from ..sorted.kv import Batch, KeyValue, after_prefix
from .derived import DIRTY, derived_rows, end_rows
from .extract import Outcome, Word, deletion_rows, subjects_of_rows
from .rows import (
    LONG,
    NEEDS,
    REFUSED,
    SCHEMA_MIME,
    Row,
    fitted,
    have_key,
    have_row,
    is_plain_row,
    meta_key,
    missing_key,
    needs_key,
    parse_have,
    parse_meta,
    refused_key,
)
from .view import View

PAGE_WAITING: Final = 256
"""Blobs that are tried together when one that they wait for arrives."""

_REASON_SIZE: Final = 1000
_TARGET: Final = b"target"
"""Value of a `pk|needs` row of a delete claim."""


class Applied(NamedTuple):
    """refused: ref to reason. woken: arrived blobs that others wait for.

    retry: blobs that lacked one which is there now, and which one.
    """

    refused: dict[Ref, str]
    woken: set[Ref]
    retry: dict[Ref, Ref]


class Prepared(NamedTuple):
    """Blobs that were worked out elsewhere, and need nothing but to be written.

    mimes: of each, as `meta` rows have them. rows: of all of them, with what follows from those,
    all plain.
    """

    mimes: dict[Ref, str]
    rows: list[Row]

    def subjects(self) -> set[Ref]:
        """As `extract.subjects`."""
        schemas = {ref for ref, mime in self.mimes.items() if mime.startswith(SCHEMA_MIME)}
        return schemas.union(subjects_of_rows(self.rows))


class KnownWords:
    """Words whose rows of ends are there already: most words have come before. Bounded."""

    MOST: Final = 50_000

    def __init__(self) -> None:
        self._words: set[Word] = set()

    def unknown(self, words: Iterable[Word]) -> list[Word]:
        return [word for word in words if word not in self._words]

    def add(self, words: Iterable[Word]) -> None:
        self._words.update(words)
        if len(self._words) > self.MOST:
            self._words.clear()

    def clear(self) -> None:
        self._words.clear()


class _Change:
    """A commit in the making. metas: MIME of the blobs in it. words: new ones."""

    def __init__(self) -> None:
        self.batch = Batch()
        self.metas: dict[Ref, str] = {}
        self.words: list[Word] = []
        self.deletions: list[tuple[Outcome, Claim, Ref]] = []
        self.adds_waiting = False
        self.adds_long = False

    def add_outcome(self, outcome: Outcome) -> None:
        """All rows but `have`, and those of words."""
        self.metas[outcome.ref] = outcome.mime
        if outcome.is_plain:
            self.batch.add_plain(outcome.rows)
            self.batch.add_plain(outcome.derived)
            return
        for row in outcome.rows:
            self.add(row)
        for row in outcome.derived:
            self.batch.set(*row)

    def add(self, row: Row) -> None:
        if is_plain_row(row):
            self.batch.add_plain((row,))
            return
        for part in fitted(row):
            self.adds_long |= part[0].startswith(LONG)
            self.batch.set(*part)


class Writer:
    """The only one who writes rows.

    What waits has a `missing` row by what it is (as Perkeep writes it; none for a delete claim
    whose target is unknown), and a `pk|needs` row by what it needs.
    """

    def __init__(self, rows: KeyValue, blobs: Statter, view: View) -> None:
        self._rows = rows
        self._blobs = blobs
        self._view = view
        self._words = KnownWords()
        self.refresh()

    def refresh(self) -> None:
        """Learn from the rows which kinds of our own there are at all: most stores have none."""
        self._words.clear()
        self._any_waiting = self._has(NEEDS)
        self._any_refused = self._has(REFUSED)
        self._view.has_long_values = self._has(LONG)

    def _has(self, prefix: bytes) -> bool:
        found = self._rows.prefixed(prefix)
        return next(found, None) is not None

    # -- what waits -----------------------------------------------------------------------------

    def waiting_for(self, needed: Ref, after: str = "") -> list[Ref]:
        """The next blobs behind `after` to try now that this one has arrived, ascending.

        A delete claim waits until its target is indexed, anything else for the mere bytes.
        """
        prefix = needs_key(needed, "")
        start = needs_key(needed, after) + b"\0" if after else prefix
        is_indexed = self._rows.get(meta_key(needed)) is not None
        found = []
        for key, kind in self._rows.find(start, after_prefix(prefix)):
            if is_indexed or kind != _TARGET:
                found.append(Ref.trusted(key.decode().rpartition("|")[2]))
            if len(found) == PAGE_WAITING:
                break
        return found

    def waiting(self) -> Iterator[tuple[Ref, Ref]]:
        """Yield (blob, what it needs), by what is needed."""
        for key, _ in self._rows.prefixed(NEEDS):
            _, _, needed, have = key.decode().split("|")
            yield Ref.trusted(have), Ref.trusted(needed)

    def complete(self) -> Iterator[Ref]:
        """Yield the blobs whose indexing is complete, ascending."""
        for key, value in self._rows.prefixed(b"have:"):
            if parse_have(value)[1]:
                yield Ref.trusted(key[5:].decode())

    def is_noted(self, ref: Ref) -> bool:
        """Whether the blob waits for another or was refused."""
        return self._has(missing_key(ref, "")) or self._rows.get(refused_key(ref)) is not None

    def forget(self, needed: Ref, lost: Iterable[Ref]) -> None:
        """Drop what waits here but is itself gone from the store."""
        batch = Batch()
        for have in lost:
            batch.delete(needs_key(needed, have))
            self._drop_waiting(batch, have)
        if batch:
            self._rows.commit(batch, durable=False)

    def recount(self) -> None:
        """Notice that nothing waits any more."""
        self._any_waiting = self._has(NEEDS)

    # -- committing -----------------------------------------------------------------------------

    def apply(
        self,
        outcomes: Iterable[Outcome],
        arrived: Iterable[Ref],
        woken_by: Ref | None = None,
        lacked: Mapping[Ref, Ref] | None = None,
        prepared: Prepared | None = None,
    ) -> Applied:
        """Write the rows of these outcomes, and what is prepared, in one commit.

        arrived: refs whose bytes are new here, whether or not they could be indexed.
        woken_by: the blob that these outcomes were said to wait for.
        lacked: what blobs that are tried again lacked before.
        """
        change = _Change()
        refused: dict[Ref, str] = {}
        present = self._present(outcomes)
        retry: dict[Ref, Ref] = {}
        for outcome in outcomes:
            again = lacked is not None and lacked.get(outcome.ref) == outcome.needs
            if outcome.needs in present and not again:
                retry[outcome.ref] = outcome.needs
                continue
            if woken_by is not None:
                change.batch.delete(needs_key(woken_by, outcome.ref))
            if outcome.needs is not None:  # absent; or listed, but it can't be had
                self._wait(change, outcome, outcome.needs)
            elif outcome.refused:
                refused[outcome.ref] = outcome.refused
                self._refuse(change, outcome)
            else:
                self._accept(change, outcome)
        if prepared is not None:
            self._add_prepared(change, prepared)
        # After the others, because a target may be among them.
        for outcome, claim, target in change.deletions:
            self._delete(change, outcome, claim, target)
        if change.batch:
            written = (key for key, _ in change.batch.operations)
            self._view.marks.add(key for key in written if key.startswith(DIRTY))
            # Not durable yet: after a crash the store is compared with the rows (README.md,
            # "Start and end"), and one fsync for each upload would take longer than the rest.
            self._rows.commit(change.batch, durable=False)
        self._words.add(change.words)
        self._any_waiting |= change.adds_waiting
        self._any_refused |= bool(refused)
        self._view.has_long_values |= change.adds_long
        woken = self._awaited({*arrived, *change.metas}) if self._any_waiting else set()
        return Applied(refused, woken, retry)

    def _present(self, outcomes: Iterable[Outcome]) -> set[Ref]:
        """What was absent when it was looked for, but arrived before we had the lock.

        Who arrives after this finds the `pk|needs` row that is about to be written.
        """
        needed = {outcome.needs for outcome in outcomes if outcome.needs is not None}
        return {found.ref for found in self._blobs.stat(needed)} if needed else set()

    def _awaited(self, refs: Iterable[Ref]) -> set[Ref]:
        return {ref for ref in refs if self._has(needs_key(ref, ""))}

    def _wait(self, change: _Change, outcome: Outcome, needed: Ref) -> None:
        change.batch.set(missing_key(outcome.ref, needed), b"1")
        change.batch.set(needs_key(needed, outcome.ref), b"")
        change.adds_waiting = True

    def _refuse(self, change: _Change, outcome: Outcome) -> None:
        reason = outcome.refused.replace("\0", "\ufffd")[:_REASON_SIZE]
        change.batch.set(refused_key(outcome.ref), reason.encode("utf-8", "replace"))
        self._drop_waiting(change.batch, outcome.ref)

    def _accept(self, change: _Change, outcome: Outcome) -> None:
        change.add_outcome(outcome)
        for word in self._words.unknown(outcome.words):
            change.words.append(word)
            change.batch.add_plain(end_rows(*word))
        claim = outcome.deletion
        if claim is not None and claim.target is not None:
            change.deletions.append((outcome, claim, claim.target))
        else:
            self._finish(change, outcome)

    def _finish(self, change: _Change, outcome: Outcome) -> None:
        change.batch.add_plain((have_row(outcome.ref, outcome.size),))
        self._drop_noted(change.batch, outcome.ref)

    def _add_prepared(self, change: _Change, prepared: Prepared) -> None:
        change.metas |= prepared.mimes
        change.batch.add_plain(prepared.rows)
        if self._any_waiting or self._any_refused:
            for ref in prepared.mimes:
                self._drop_noted(change.batch, ref)

    def _drop_noted(self, batch: Batch, ref: Ref) -> None:
        """What was noted of a blob that could not be indexed before."""
        self._drop_waiting(batch, ref)
        if self._any_refused:
            batch.delete(refused_key(ref))

    def _delete(self, change: _Change, outcome: Outcome, claim: Claim, target: Ref) -> None:
        mime = change.metas.get(target)
        if mime is None:
            row = self._rows.get(meta_key(target))
            if row is None:
                self._postpone(change, outcome, target)
                return
            target_type = parse_meta(row).camli_type
        else:
            target_type = mime[len(SCHEMA_MIME) :] if mime.startswith(SCHEMA_MIME) else None
        for added in deletion_rows(claim, target, target_type):
            change.add(added)
            for derived in derived_rows(added):
                change.add(derived)
        self._finish(change, outcome)
        change.batch.delete(needs_key(target, outcome.ref))

    def _postpone(self, change: _Change, outcome: Outcome, target: Ref) -> None:
        """A delete claim before its target: half indexed, as Perkeep has it, and remembered."""
        change.batch.set(have_key(outcome.ref), b"%d" % outcome.size)
        self._drop_waiting(change.batch, outcome.ref)
        change.batch.set(needs_key(target, outcome.ref), _TARGET)
        change.adds_waiting = True

    def _drop_waiting(self, batch: Batch, have: Ref) -> None:
        if not self._any_waiting:
            return
        for key, _ in self._rows.prefixed(missing_key(have, "")):
            needed = key.decode().rpartition("|")[2]
            batch.delete(key)
            batch.delete(needs_key(needed, have))
