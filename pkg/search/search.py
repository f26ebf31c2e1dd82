"""Runs queries: candidates in order, tests, pages."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop
from itertools import islice
from typing import NamedTuple, TypeVar

from ..blob import Ref
from ..errors import Invalid
from ..index.corpus import EVERYTHING, Corpus, Span, span
from ..index.derived import read_tail, tail
from .area import Area, area_of, spread
from .constraint import AND, OR, Constraint, only_permanodes, operands
from .facts import Facts
from .match import Matcher
from .race import A_LOOK, Race
from .request import Position, Query, Sort
from .sources import sources_of
from .values import time_bounds
from .walks import by_ref, newest_first


class Found(NamedTuple):
    """refs: results in order. after: where the next page begins, if one may follow.

    area: of the results on a map, where places were asked for. plan: how they were found.
    """

    refs: list[Ref]
    after: Position | None
    area: Area | None
    plan: "Plan"


class Plan:
    """What was done for a query, to explain it."""

    def __init__(self, order: str, sources: Iterable[str]) -> None:
        self.order = order
        self.sources = list(sources)
        self.candidates = "all blobs"
        self.tested = 0
        self.matched = 0
        self.seconds = 0.0

    def json(self) -> dict[str, object]:
        return {
            "order": self.order,
            "sources": self.sources,
            "candidates": self.candidates,
            "tested": self.tested,
            "matched": self.matched,
            "milliseconds": round(self.seconds * 1000, 3),
        }


def search(query: Query, corpus: Corpus, now_ns: int, patience_s: float) -> Found:
    """Find the results of a query. Its constraint is valid.

    now_ns: the moment that `inLast` counts from. Raises Invalid for a sort order that does not
    fit the constraint, Unavailable when it takes longer than the patience.
    """
    started = time.perf_counter()
    run = _Run(query, Facts(corpus, now_ns, patience_s))
    refs, after = run.results()
    run.plan.matched = len(refs)
    refs, area = run.located(refs)
    run.plan.seconds = time.perf_counter() - started
    return Found(refs, after, area, run.plan)


class _Run:
    """One query at work."""

    def __init__(self, query: Query, facts: Facts) -> None:
        self._query = query
        self._facts = facts
        self._matcher = Matcher(facts)
        self._has_times = only_permanodes(query.constraint)
        self._sort = query.sort
        if self._sort is None:
            self._sort = Sort.CREATED_DESCENDING if self._has_times else Sort.UNSORTED
        sources = sources_of(query.constraint, facts)
        is_by_creation = self._has_times and self._sort is Sort.CREATED_DESCENDING
        self._race = Race(sources, only_refs=not is_by_creation)
        self.plan = Plan(self._sort.value, [source.label for source in sources])

    def results(self) -> tuple[list[Ref], Position | None]:
        """The results in order, cut to the page (all for a map), and where it ends."""
        sort = self._sort
        if sort in (Sort.MODIFIED_DESCENDING, Sort.CREATED_DESCENDING) and self._has_times:
            return self._newest_first()
        if sort in (Sort.MODIFIED, Sort.MODIFIED_DESCENDING):
            raise Invalid("search", "blobs", "TODO: unsupported sort+query combination.")
        if sort in (Sort.CREATED, Sort.CREATED_DESCENDING):
            if not self._has_times:
                reason = "can only sort by ctime when all results are permanodes"
                raise Invalid("search", "blobs", reason)
            return self._page(self._by_creation()), None
        if sort is Sort.SIZE_DESCENDING:
            return self._page(self._matching(self._biggest())), None
        matches = self._matching(self._by_ref())
        return (list(matches) if sort is Sort.MAP else self._page(matches)), None

    # -- in the order of refs -------------------------------------------------------------------

    def _by_ref(self) -> Iterator[Ref]:
        race, last = self._race, ""
        for ref in self._walk_by_ref():
            race.spend(1)
            if race.refs is not None and (race.is_over or race.is_short):
                self.plan.candidates = race.label
                yield from self._listed_by_ref(last)
                return
            last = ref
            if race.refs is None or ref in race.refs:
                race.spend(A_LOOK)
                yield ref

    def _walk_by_ref(self) -> Iterator[Ref]:
        constraint, corpus = self._query.constraint, self._facts.corpus
        walk = by_ref(constraint, corpus)
        if walk is not None:
            self.plan.candidates = walk.label
            self._race.wait()
            return walk.rows
        kind = _required_type(constraint)
        if not kind:
            return (ref for ref, _ in corpus.blobs())
        self.plan.candidates = f"blobs of type {kind}"
        return corpus.of_type(kind)

    def _listed_by_ref(self, last: str) -> Iterator[Ref]:
        """The candidates that the race has left, behind a ref."""
        return _ascending([ref for ref in self._race.refs or () if ref > last])

    def _biggest(self) -> Iterator[Ref]:
        """Directories by what is below them, the biggest first."""
        if _required_type(self._query.constraint) != "directory":
            reason = "can only sort by size when all results are directories"
            raise Invalid("search", "blobs", reason)
        self.plan.candidates = "directories by size"
        view = self._facts.corpus.view
        view.settle_sizes()
        return view.biggest()

    def _matching(self, candidates: Iterable[Ref]) -> Iterator[Ref]:
        for ref in candidates:
            self.plan.tested += 1
            if self._has_times:
                self._facts.expect_permanode(ref)
            if self._matcher.matches(self._query.constraint, ref):
                yield ref

    def _by_creation(self) -> list[Ref]:
        """All matches, oldest first."""
        created = []
        for ref in self._matching(self._by_ref()):
            created_ns = self._facts.snapshot(ref).created_ns
            if created_ns is None:
                raise Invalid("search", "blobs", f"no ctime or modtime found for {ref}")
            created.append((created_ns, ref))
        return [ref for _, ref in sorted(created)]

    def _page(self, matches: Iterable[Ref]) -> list[Ref]:
        """The first results, or those around one."""
        limit, around = self._query.limit, self._query.around
        if around is None:
            return list(islice(matches, limit))
        found = list(matches)
        if around not in found:
            return []
        if limit is None:
            return found
        start = max(found.index(around) - limit // 2, 0)
        return found[start : start + limit]

    # -- in the order of time -------------------------------------------------------------------

    def _newest_first(self) -> tuple[list[Ref], Position | None]:
        limit, around = self._query.limit, self._query.around
        if around is not None:
            return self._window(around), None
        page: list[Position] = list(islice(self._matching_positions(), limit))
        is_full = limit is not None and len(page) == limit
        return [position.ref for position in page], page[-1] if is_full else None

    def _window(self, around: Ref) -> list[Ref]:
        """The page with a result in its middle; nothing when it is no result."""
        limit = self._query.limit
        before: deque[Ref] = deque(maxlen=None if limit is None else limit // 2)
        matches = self._matching_positions()
        for _, ref in matches:
            if ref == around:
                rest = None if limit is None else limit - len(before) - 1
                return [*before, around, *(ref for _, ref in islice(matches, rest))]
            before.append(ref)
        return []

    def _matching_positions(self) -> Iterator[Position]:
        after = self._query.after
        is_by_creation = self._sort is Sort.CREATED_DESCENDING
        for position in self._by_creation_time() if is_by_creation else self._by_change(after):
            self.plan.tested += 1
            self._facts.expect_permanode(position.ref)
            if self._matcher.matches(self._query.constraint, position.ref):
                yield position

    def _by_creation_time(self) -> Iterator[Position]:
        """Permanodes that are not deleted, newest first, equal times by ref descending."""
        race, constraint = self._race, self._query.constraint
        bounds = span(*_creation_bounds(constraint, self._facts.now_ns), self._query.after)
        self.plan.candidates = "permanodes by time"
        rows = self._facts.corpus.newest(bounds)
        walk = newest_first(constraint, self._facts.corpus, bounds)
        if walk is not None:
            self.plan.candidates += f", of {walk.label}"
            rows = walk.rows
        if walk is not None or bounds != EVERYTHING:
            race.wait()
        else:
            race.lead()
        for end in rows:
            if race.is_short:
                self.plan.candidates = race.label
                yield from self._listed_by_creation(Span(end, bounds.end))
                return
            time_ns, ref = read_tail(end)
            if race.refs is None or ref in race.refs:
                race.spend(A_LOOK)
                yield Position(time_ns, ref)
            else:
                race.spend(1)

    def _listed_by_creation(self, bounds: Span) -> Iterator[Position]:
        """Those that the race has left, within bounds."""
        refs, ends = self._race.refs, self._race.ends
        if ends is None:
            snapshots = ((ref, self._facts.snapshot(ref)) for ref in refs or ())
            ends = {
                tail(snapshot.created_ns, ref)
                for ref, snapshot in snapshots
                if snapshot.created_ns is not None and not snapshot.is_deleted
            }
        for end in _ascending([end for end in ends if bounds.holds(end)]):
            position = Position(*read_tail(end))
            if refs is None or position.ref in refs:
                yield position

    def _by_change(self, after: Position | None) -> Iterator[Position]:
        """The same in the order of the last change."""
        race = self._race
        self.plan.candidates = "permanodes by change"
        for position in self._walk_by_modification(after):
            if race.is_short:
                self.plan.candidates = race.label
                yield from self._listed_by_change(after)
                return
            after = position
            race.spend(A_LOOK)
            if race.refs is None or position.ref in race.refs:
                yield position

    def _walk_by_modification(self, after: Position | None) -> Iterator[Position]:
        corpus = self._facts.corpus
        for date_ns, refs in corpus.latest_claims(None if after is None else after.time_ns):
            for ref in refs:
                # A permanode comes at each of its dates; it counts at the last one only.
                snapshot = self._facts.snapshot(ref)
                if (
                    (after is None or (date_ns, ref) < after)
                    and snapshot.modified_ns == date_ns
                    and not snapshot.is_deleted
                ):
                    yield Position(date_ns, ref)

    def _listed_by_change(self, after: Position | None) -> list[Position]:
        """Those that the race has left, behind a position."""
        found = []
        for ref in self._race.refs or ():
            self._facts.step()
            snapshot = self._facts.snapshot(ref)
            if snapshot.modified_ns is not None and not snapshot.is_deleted:
                position = Position(snapshot.modified_ns, ref)
                if after is None or position < after:
                    found.append(position)
        return sorted(found, reverse=True)

    # -- places ---------------------------------------------------------------------------------

    def located(self, refs: list[Ref]) -> tuple[list[Ref], Area | None]:
        """The results, on a map cut to the limit, and their area if places were asked for."""
        if self._sort is not Sort.MAP and not _asks_for_places(self._query.constraint):
            return refs, None
        placed = [(ref, place) for ref in refs if (place := self._facts.place((ref, None)))]
        area = area_of([place for _, place in placed])
        limit = self._query.limit
        if self._sort is not Sort.MAP or limit is None or len(refs) <= limit:
            return refs, area
        return (refs[:limit] if area is None else spread(placed, area, limit)), area


_T = TypeVar("_T", Ref, bytes)


def _ascending(found: list[_T]) -> Iterator[_T]:
    """In order, each put in its place only when it is asked for: of many, few are."""
    heapify(found)
    while found:
        yield heappop(found)


def _asks_for_places(constraint: Constraint) -> bool:
    """Whether a place is tested, of the results themselves."""
    permanode, file, logical = constraint.permanode, constraint.file, constraint.logical
    return (
        (permanode is not None and permanode.location is not None)
        or (file is not None and file.location is not None)
        or (logical is not None and any(map(_asks_for_places, operands(logical))))
    )


def _required_type(constraint: Constraint) -> str:
    """The camliType that every match has; "" if there may be several."""
    if constraint.camli_type:
        return constraint.camli_type
    for name in ("permanode", "file"):
        if getattr(constraint, name) is not None:
            return name
    if constraint.dir is not None:
        return "directory"
    logical = constraint.logical
    if logical is None or logical.op not in (AND, OR):
        return ""
    kinds = set(map(_required_type, operands(logical)))
    if logical.op == AND:
        return max(kinds)  # any will do; two different ones have no match at all
    return kinds.pop() if len(kinds) == 1 else ""


def _creation_bounds(constraint: Constraint, now_ns: int) -> tuple[int | None, int | None]:
    """The first and the last moment at which matches can have been created; None: any."""
    found: list[tuple[int | None, int | None]] = []
    if constraint.permanode is not None and constraint.permanode.time is not None:
        earliest_ns, end_ns = time_bounds(constraint.permanode.time, now_ns)
        found.append((earliest_ns, None if end_ns is None else end_ns - 1))
    if constraint.logical is not None and constraint.logical.op == AND:
        found += [_creation_bounds(part, now_ns) for part in operands(constraint.logical)]
    return (
        max((first for first, _ in found if first is not None), default=None),
        min((last for _, last in found if last is not None), default=None),
    )
