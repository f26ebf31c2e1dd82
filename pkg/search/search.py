"""Runs queries: candidates in order, tests, pages."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from ..blob import Ref
from ..errors import Invalid
from ..index.corpus import Corpus
from .area import Area, area_of, spread
from .constraint import Constraint, only_permanodes, operands
from .facts import Facts
from .match import Matcher
from .request import Position, Query, Sort
from .sources import Race, sources_of

_TESTS_A_STEP: Final = 8
"""Candidates that are tested between two steps of the sources: about the same work."""


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
        self._race = Race(sources)
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
        matches = self._matching(self._by_ref())
        return (list(matches) if sort is Sort.MAP else self._page(matches)), None

    # -- in the order of refs -------------------------------------------------------------------

    def _by_ref(self) -> Iterator[Ref]:
        if self._race.finish():
            self.plan.candidates = self._race.winner
            return iter(sorted(self._race.refs))
        blobs = self._facts.corpus.blobs()
        if not self._has_times:
            return (ref for ref, _ in blobs)
        self.plan.candidates = "all permanodes"
        return (ref for ref, meta in blobs if meta.camli_type == "permanode")

    def _matching(self, candidates: Iterable[Ref]) -> Iterator[Ref]:
        for ref in candidates:
            self.plan.tested += 1
            if self._matcher.matches(self._query.constraint, ref):
                yield ref

    def _by_creation(self) -> list[Ref]:
        """All matches, oldest first."""
        created = []
        for ref in self._matching(self._by_ref()):
            created_ns = self._facts.created_ns(ref)
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
        for position in self._by_time(self._query.after):
            self.plan.tested += 1
            if self._matcher.matches(self._query.constraint, position.ref):
                yield position

    def _by_time(self, after: Position | None) -> Iterator[Position]:
        """Permanodes that are not deleted, newest first, equal times by ref descending."""
        if self._sort is Sort.MODIFIED_DESCENDING:
            walk = self._walk_by_modification(after)
            for number, position in enumerate(walk):
                if number % _TESTS_A_STEP == 0 and self._race.is_running and self._race.step():
                    break
                after = position
                yield position
            else:
                self.plan.candidates = "permanodes by time"
                return
        yield from self._listed_by_time(after)

    def _walk_by_modification(self, after: Position | None) -> Iterator[Position]:
        for date_ns, refs in self._facts.corpus.latest_claims(after and after.time_ns):
            for ref in refs:
                # A permanode comes at each of its dates; it counts at the last one only.
                if (
                    (after is None or (date_ns, ref) < after)
                    and self._facts.modified_ns(ref) == date_ns
                    and not self._facts.is_deleted(ref)
                ):
                    yield Position(date_ns, ref)

    def _listed_by_time(self, after: Position | None) -> list[Position]:
        time_of = self._facts.created_ns
        if self._sort is Sort.MODIFIED_DESCENDING:
            time_of = self._facts.modified_ns  # type: ignore[assignment]
        found = []
        for ref in self._by_ref():
            self._facts.step()
            time_ns = time_of(ref)
            if time_ns is not None and not self._facts.is_deleted(ref):
                found.append(Position(time_ns, ref))
        found.sort(reverse=True)
        return found if after is None else [position for position in found if position < after]

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


def _asks_for_places(constraint: Constraint) -> bool:
    """Whether a place is tested, of the results themselves."""
    permanode, file, logical = constraint.permanode, constraint.file, constraint.logical
    return (
        (permanode is not None and permanode.location is not None)
        or (file is not None and file.location is not None)
        or (logical is not None and any(map(_asks_for_places, operands(logical))))
    )
