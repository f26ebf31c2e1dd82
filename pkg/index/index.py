"""The index: takes blobs as they arrive, in any order, and keeps their rows."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, tzinfo
from itertools import chain, groupby, islice
from typing import Final, NamedTuple

from ..blob import Ref
from ..blobserver.storage import Storage
from ..errors import Corrupt, Invalid, NotFound, StoreError
from ..schema.parse import may_be_schema
from ..sorted.kv import KeyValue
from .derived import DIRTY
from .extract import Outcome, extract, subjects
from .inflight import InFlight
from .layout import prepare, wipe
from .rows import CLAIM, IN_USE, STATE_KEY, have_key, parse_have
from .settle import Settler
from .sources import RECENT_BYTES, LocalFirst, Recent
from .storage import IndexStorage
from .trees import GROWN, Trees
from .view import View
from .workers import Worked, Workers
from .writer import Applied, Prepared, Writer

PAGE_BLOBS: Final = 256
PAGE_BYTES: Final = 4 * 1024 * 1024
"""What is indexed and committed at once when the blobs are ours to divide."""

PAGES_ALONE: Final = 16
"""Pages that are indexed before it is worth the start of other processes."""


class IndexRefused(Invalid):
    """Blobs that can't be indexed, the others of their batch are. The storage keeps all.

    reasons: each refused ref to a text for the uploader.
    """

    def __init__(self, reasons: dict[Ref, str]) -> None:
        self.reasons: Final = reasons
        text = "; ".join(f"{ref}: {reason}" for ref, reason in reasons.items())
        super().__init__("index", f"{len(reasons)} blobs", text)

    def __reduce__(self) -> tuple[type, tuple[dict[Ref, str]]]:  # type: ignore[override]
        return type(self), (self.reasons,)


class Report(NamedTuple):
    """What a reindex found. blobs_count: all that were read; refused: ref to reason.

    waiting: (blob, what it needs) of some that could not be completed.
    """

    blobs_count: int
    refused: dict[Ref, str]
    waiting: list[tuple[Ref, Ref]]


Progress = Callable[[int], None]
"""Called now and then with the number of blobs done."""

Watcher = Callable[[set[Ref]], None]
"""Called with the schema blobs, and with the subjects of the claims, that have been indexed.

In the thread of the uploader: must be quick and must not raise.
"""


class Index:
    """Rows of blobs. Safe to use from many threads; one at a time writes.

    rows: belongs to the index alone. blobs: where the indexed blobs are stored.
    owner_key_ids: 16 upper-case hex digits each; whose claims count (pkg/index/README.md).
    zone: of dates in pictures that do not tell their place.
    view: everything that can be read. storage: the index seen as a store of blobs.
    """

    def __init__(
        self,
        rows: KeyValue,
        blobs: Storage,
        owner_key_ids: Collection[str] = (),
        zone: tzinfo = UTC,
        *,
        catch_up: bool = True,
        recent_bytes: int = RECENT_BYTES,
    ) -> None:
        """Open, or begin. Raises Unsupported for rows of another version.

        When it is new, the process before did not close it, or Perkeep wrote it, the stored
        blobs are compared with the rows, and what is lacking is done now; without `catch_up`
        that is left to the caller, who is about to reindex. recent_bytes: chunks that are kept in
        memory after they arrived, for the files that they belong to.
        """
        self._rows = rows
        self._blobs = blobs
        self._zone = zone
        self._lock = threading.Lock()
        may_lack_blobs = prepare(rows)
        self.view: Final = View(rows, tuple(owner_key_ids))
        self._writer = Writer(rows, blobs, self.view)
        self._settler = Settler(rows, self.view, blobs)
        self._trees = Trees(rows)
        self.view.settle_sizes = self.settle_sizes
        self.storage: Final = IndexStorage(rows, self.receive)
        self._watchers: list[Watcher] = []
        self._recent = Recent(recent_bytes)
        self._in_flight = InFlight(self._index)
        self._owed: set[Ref] = set()  # arrived, but what waits for them could not be tried
        self._is_behind = may_lack_blobs  # whether stored blobs may be without rows
        self._mirror: Index | None = None
        self._mirror_lock = threading.Lock()
        if catch_up and not self.is_whole:
            self.complete()

    @property
    def is_whole(self) -> bool:
        """Whether all stored blobs are indexed, and all rows there that follow from others."""
        return not self._is_behind and self._settler.is_complete()

    def complete(self, progress: Progress | None = None) -> Report:
        """Make all rows that are lacking. What arrives meanwhile is indexed, searches work."""
        self._settler.complete()
        return self.catch_up(progress)

    @property
    def blobs(self) -> Storage:
        """Where the indexed blobs are stored."""
        return self._blobs

    def receive(self, blobs: Sequence[tuple[Ref, bytes]]) -> None:
        """Index blobs that are stored; when it returns they are found.

        Raises IndexRefused for those that never can be, after the others are indexed. A blob that
        several bring at once is indexed by one of them; the others wait and hear the same.
        """
        batch = dict(blobs)
        self._receive_beside(batch)
        try:
            refused = self._in_flight.run(batch)
        except StoreError:
            self._is_behind = True
            raise
        if refused:
            raise IndexRefused(refused)

    def catch_up(self, progress: Progress | None = None) -> Report:
        """Index what is stored but unknown here: after a crash, or a time without an index."""
        self._is_behind = False  # an upload that fails meanwhile says otherwise
        try:
            self._resume()
            return self._index_all(self._unknown(), progress)
        except BaseException:
            self._is_behind = True
            raise

    def reindex(self, progress: Progress | None = None) -> Report:
        """Wipe all rows and read every stored blob again. Refused blobs are reported."""
        with self._lock:
            wipe(self._rows)
            self._writer.refresh()
            self._settler.begin()
        return self._read_all(progress)

    def make(self, progress: Progress | None = None) -> Report:
        """Index every stored blob: all, or those that an earlier call, cut short, left."""
        if next(self._rows.prefixed(b"have:"), None) is not None:
            return self.complete(progress)
        self._settler.begin()
        return self._read_all(progress)

    def _read_all(self, progress: Progress | None) -> Report:
        self._is_behind = False
        try:
            with self._rows.bulk():
                return self._index_all(((b.ref, b.data) for b in self._blobs.stream()), progress)
        except BaseException:
            self._is_behind = True
            raise

    # -- made anew beside the old one (README.md, "Making it anew") -----------------------------

    def beside(self, rows: KeyValue) -> "Index":
        """An index of the same blobs in other rows, which is still to be made or completed."""
        owners = self.view.owner_key_ids
        return Index(rows, self._blobs, owners, self._zone, catch_up=False, recent_bytes=0)

    @contextmanager
    def mirrored(self, other: "Index") -> Iterator[None]:
        """Give to another index, too, what arrives here."""
        with self._mirror_lock:
            self._mirror = other
        try:
            yield
        finally:
            with self._mirror_lock:
                self._mirror = None

    def _receive_beside(self, batch: dict[Ref, bytes]) -> None:
        """First there, then here: wherever a swap comes in between, the blobs are in both."""
        if self._mirror is None:
            return
        with self._mirror_lock:
            if self._mirror is not None:
                # Refused here as well; and after a failure the other one is not whole.
                with suppress(StoreError):
                    self._mirror.receive(list(batch.items()))

    def swap(self, swap_rows: Callable[[], None]) -> None:
        """Replace the rows, between two commits, by those of the mirror."""
        with self._mirror_lock, self._lock:
            swap_rows()
            self._mirror = None
            self._is_behind = False
            self._writer.refresh()
            self.view.marks.known = None

    def sync(self) -> None:
        """Make all that was indexed durable."""
        with self._lock:
            self._rows.set(STATE_KEY, IN_USE)

    def _sweep(self, is_long: bool) -> None:
        """Take all snapshots."""
        start = self._sweep_elsewhere() if is_long else CLAIM
        while start:
            with self._lock:
                start = self._settler.sweep_page(start)

    def _sweep_elsewhere(self) -> bytes:
        """Take all snapshots in other processes, as long as nothing arrives.

        Returns where to go on without them; b"" at the end.
        """
        with self._lock:
            pages = self._settler.pages_to_sweep()
        with Workers(self._blobs, self._zone) as workers:
            for page, rows in workers.snapshots(pages, self.view.owner_key_ids):
                with self._lock:
                    if rows is None or not self._settler.commit_swept(page, rows):
                        return page.start
        with self._lock:
            self._settler.end_sweep()
        return b""

    def settle(self) -> None:
        """Bring the rows that searches read in step with what has arrived.

        While a long list is being indexed: with what is marked of it, which most is not.
        """
        while self._settler.has_work():
            start = DIRTY
            while start:
                with self._lock:
                    start = self._settler.settle_page(start)

    def settle_sizes(self) -> None:
        """Bring the sizes of directories in step with what has arrived."""
        while next(self._rows.prefixed(GROWN), None) is not None:
            start = GROWN
            while start:
                with self._lock:
                    start = self._trees.settle_page(start)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Register a watcher of what is indexed from now on. Returns what unregisters it."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def depending_on(self, changed: Ref) -> Iterator[Ref]:
        """Yield the permanodes for which something follows from a blob or a claim on it."""
        return self._settler.affected(changed)

    def close(self) -> None:
        """Make all rows durable, and give them back."""
        with self._lock:
            if not (self._is_behind or self._owed):
                self._rows.delete(STATE_KEY)
            self._rows.close()

    # -- writing --------------------------------------------------------------------------------

    def _index(self, batch: dict[Ref, bytes]) -> dict[Ref, str]:
        """Index a batch and what waited for it. Returns the refused ones of the batch."""
        source = self._source(batch)
        self._recent.add((ref, data) for ref, data in batch.items() if not may_be_schema(data))
        known = self._complete(batch)
        fresh = [(ref, data) for ref, data in batch.items() if ref not in known]
        applied = self._apply(self._extract_all(fresh, source), arrived=batch)
        with self._lock:
            owed, self._owed = self._owed, set()
        self._wake(applied.woken | owed, source)
        return applied.refused

    def _source(self, batch: dict[Ref, bytes]) -> LocalFirst:
        return LocalFirst(batch, self._recent, self._blobs)

    def _complete(self, refs: Iterable[Ref]) -> set[Ref]:
        """Those of the blobs that need no work."""
        rows = self._rows.get_many([have_key(ref) for ref in refs])
        return {
            Ref.trusted(key.decode()[5:]) for key, value in rows.items() if parse_have(value)[1]
        }

    def _extract_all(self, blobs: Iterable[tuple[Ref, bytes]], source: LocalFirst) -> list[Outcome]:
        return [extract(ref, data, source, self._zone) for ref, data in blobs]

    def _apply(
        self,
        outcomes: list[Outcome],
        arrived: Iterable[Ref],
        woken_by: Ref | None = None,
        prepared: Prepared | None = None,
    ) -> Applied:
        """Commit outcomes; those that lacked what has arrived meanwhile are worked out again."""
        with self._lock:
            applied = self._writer.apply(outcomes, arrived, woken_by, prepared=prepared)
        self._tell(outcomes, prepared)
        refused, woken = applied.refused, applied.woken
        while applied.retry:
            source = self._source({})
            outcomes = self._extract_all(self._fetched(applied.retry), source)
            with self._lock:
                applied = self._writer.apply(outcomes, (), woken_by, applied.retry)
            self._tell(outcomes)
            refused |= applied.refused
            woken |= applied.woken
        return Applied(refused, woken, {})

    def _tell(self, outcomes: Iterable[Outcome], prepared: Prepared | None = None) -> None:
        if not self._watchers:
            return
        changed = {ref for outcome in outcomes for ref in subjects(outcome)}
        if prepared is not None:
            changed |= prepared.subjects()
        self.tell(changed)

    def tell(self, changed: set[Ref]) -> None:
        """Tell the watchers that something else is known of these blobs now."""
        for watcher in list(self._watchers) if changed else ():
            watcher(set(changed))

    def _wake(self, arrived: set[Ref], source: LocalFirst) -> None:
        """Try all that waited for these blobs, and then what waited for those."""
        if not arrived:
            return
        queue = set(arrived)
        try:
            while queue:
                needed = queue.pop()
                try:
                    queue |= self._wake_those_of(needed, source)
                except StoreError:
                    queue.add(needed)
                    raise
        finally:
            with self._lock:
                self._owed |= queue
                self._writer.recount()

    def _wake_those_of(self, needed: Ref, source: LocalFirst) -> set[Ref]:
        """Try what waited for this blob. Returns what others wait for in turn."""
        woken: set[Ref] = set()
        after = ""
        while waiting := self._writer.waiting_for(needed, after):
            after = waiting[-1]
            outcomes = self._extract_all(self._fetched(waiting), source)
            lost = set(waiting) - {outcome.ref for outcome in outcomes}
            if lost:
                with self._lock:
                    self._writer.forget(needed, lost)
            woken |= self._apply(outcomes, (), needed).woken
        return woken

    def _fetched(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, bytes]]:
        for ref, data in self._blobs.fetch_many(list(refs)):
            if not isinstance(data, (NotFound, Corrupt)):
                yield ref, data

    def _resume(self) -> None:
        """Try what a process left that ended between an arrival and its consequences."""
        needed = (ref for ref, _ in groupby(self._writer.waiting(), lambda pair: pair[1]))
        while page := list(islice(needed, PAGE_BLOBS)):
            indexed = self._rows.get_many([have_key(ref) for ref in page])
            ready = {Ref.trusted(key.decode()[5:]) for key in indexed}
            ready |= {found.ref for found in self._blobs.stat(page)}
            self._wake(ready, self._source({}))

    # -- many blobs -----------------------------------------------------------------------------

    def _index_all(self, blobs: Iterable[tuple[Ref, bytes]], progress: Progress | None) -> Report:
        done = 0
        refused: dict[Ref, str] = {}
        for page, worked in self._worked_out(_pages(blobs)):
            refused |= self._index(page) if worked is None else self._commit(page, worked)
            done += len(page)
            if progress is not None:
                progress(done)
        if self._settler.awaits_sweep():
            self._sweep(done > PAGES_ALONE * PAGE_BLOBS)
        self.settle()
        self.settle_sizes()
        return Report(done, refused, list(islice(self._writer.waiting(), 100)))

    def _worked_out(
        self, pages: Iterator[dict[Ref, bytes]]
    ) -> Iterator[tuple[dict[Ref, bytes], Worked | None]]:
        """Yield each page; those of a long list with what came of it in other processes."""
        yield from ((page, None) for page in islice(pages, PAGES_ALONE))
        marks = not self._settler.awaits_sweep()
        for page in pages:
            with Workers(self._blobs, self._zone, marks) as workers:
                yield from workers.outcomes(chain((page,), pages))

    def _commit(self, page: dict[Ref, bytes], worked: Worked) -> dict[Ref, str]:
        """Write a page that was worked out. Returns the refused ones of it."""
        applied = self._apply(worked.outcomes, page, prepared=worked.prepared)
        self._wake(applied.woken, self._source({}))
        return applied.refused

    def _unknown(self) -> Iterator[tuple[Ref, bytes]]:
        """Stored blobs that are neither completely indexed, nor wait for another, nor refused."""
        refs = self._unknown_refs()
        while page := list(islice(refs, PAGE_BLOBS)):
            yield from self._fetched(page)

    def _unknown_refs(self) -> Iterator[Ref]:
        complete = self._writer.complete()
        head = next(complete, None)
        for stored in self._blobs.enumerate():
            while head is not None and head < stored.ref:
                head = next(complete, None)
            if head != stored.ref and not self._writer.is_noted(stored.ref):
                yield stored.ref


def _pages(blobs: Iterable[tuple[Ref, bytes]]) -> Iterator[dict[Ref, bytes]]:
    page: dict[Ref, bytes] = {}
    size = 0
    for ref, data in blobs:
        page[ref] = data
        size += len(data)
        if len(page) >= PAGE_BLOBS or size >= PAGE_BYTES:
            yield page
            page, size = {}, 0
    if page:
        yield page
