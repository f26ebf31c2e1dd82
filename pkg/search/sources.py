"""Where the matches of a constraint must be among: lists of refs that rows give at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple

from ..blob import Ref, parse_ref
from .constraint import (
    AND,
    OR,
    PARENT,
    Constraint,
    FileConstraint,
    LogicalConstraint,
    PermanodeConstraint,
    RelationConstraint,
    StringConstraint,
    operands,
)
from .facts import Facts
from .match import members
from .prefix import is_ref_prefix
from .values import string_matches, time_bounds

MAX_CANDIDATES: Final = 100_000
"""Refs that are collected from one source before it counts as no help."""

SHORT: Final = 300
"""Candidates that are looked at without further ado."""

_ROWS_A_STEP: Final = 256
_WORTH: Final = 20
"""Rows that are pulled for each candidate that might be saved: what a look at one costs."""


class Source(NamedTuple):
    """refs: all matches and perhaps others, some repeatedly; None stands for a row without one.

    label: what they are, to explain. rank: how long the list is likely to be.
    """

    label: str
    rank: int
    refs: Iterator[Ref | None]


def sources_of(constraint: Constraint, facts: Facts) -> list[Source]:
    """Sources of which each alone has all matches. They read nothing before they are pulled."""
    found = []
    prefix = constraint.blob_ref_prefix
    if prefix:
        found.append(_by_prefix(prefix, facts))
    if constraint.text:
        refs = iter(facts.texts(constraint.text))
        found.append(Source(f"texts with {constraint.text}", 2, refs))
    if constraint.permanode is not None:
        found += _of_permanode(constraint.permanode, facts)
    if constraint.file is not None:
        found += _of_file(constraint.file, facts)
    if constraint.dir is not None and constraint.dir.blob_ref_prefix:
        found.append(_by_prefix(constraint.dir.blob_ref_prefix, facts))
    if constraint.logical is not None:
        found += _of_logical(constraint.logical, facts)
    return found


def _of_logical(logical: LogicalConstraint, facts: Facts) -> list[Source]:
    if logical.op == AND:
        return [source for part in operands(logical) for source in sources_of(part, facts)]
    if logical.op != OR:
        return []
    best = [_best(part, facts) for part in operands(logical)]
    sources = [source for source in best if source is not None]
    if len(sources) < len(best):
        return []
    label = " or ".join(source.label for source in sources)
    refs = chain.from_iterable(source.refs for source in sources)
    return [Source(label, max(source.rank for source in sources), refs)]


def _best(constraint: Constraint, facts: Facts) -> Source | None:
    """The source that is likely to be the shortest."""
    sources = sources_of(constraint, facts)
    return min(sources, key=lambda source: source.rank) if sources else None


def full_ref(prefix: str) -> Ref | None:
    """The ref that a prefix is, if it is whole."""
    ref = parse_ref(prefix)
    return ref if ref is not None and ref.is_supported else None


def _by_prefix(prefix: str, facts: Facts) -> Source:
    ref = full_ref(prefix)
    if ref is not None:
        return Source(f"the blob {ref}", 0, iter((ref,)))
    if not is_ref_prefix(prefix):
        return Source("no blob", 0, iter(()))
    refs = (ref for ref, _ in facts.corpus.blobs(prefix))
    return Source(f"blobs {prefix}…", 10, refs)


# -- permanodes ---------------------------------------------------------------------------------


def _of_permanode(test: PermanodeConstraint, facts: Facts) -> list[Source]:
    found = []
    if test.attr:
        found += _of_attribute(test, facts)
    if test.relation is not None:
        found += _of_relation(test.relation, test.at_ns, facts)
    if test.time is not None:
        earliest_ns, end_ns = time_bounds(test.time, facts.now_ns)
        if earliest_ns is not None or end_ns is not None:
            last_ns = None if end_ns is None else end_ns - 1
            found.append(
                Source(
                    "permanodes of that time",
                    7,
                    (ref for _, ref in facts.corpus.by_creation(earliest_ns, last_ns)),
                )
            )
    place = test.location
    if place is not None and test.at_ns is None and not place.any:
        refs = facts.corpus.within(place.south, place.west, place.north, place.east)
        found.append(Source("permanodes around there", 6, refs))
    return found


def _of_attribute(test: PermanodeConstraint, facts: Facts) -> list[Source]:
    found = []
    if test.value:
        refs = facts.corpus.with_value(test.attr, test.value)
        found.append(Source(f"{test.attr} = {test.value}", 3, refs))
    if test.value_matches is not None:
        found.append(_by_text(test.attr, test.value_matches, facts))
    if test.value_in_set is not None:
        inner = _best(test.value_in_set, facts)
        if inner is not None:
            attribute = test.attr
            found.append(
                _through(
                    f"{attribute} in", inner, lambda ref: facts.corpus.with_value(attribute, ref)
                )
            )
    return found


def _by_text(attribute: str, test: StringConstraint, facts: Facts) -> Source:
    """By the values that there ever were: each is tested before its permanode is looked at."""
    if test.equals and not test.regexp and not test.case_insensitive:
        refs = facts.corpus.with_value(attribute, test.equals)
        return Source(f"{attribute} = {test.equals}", 3, refs)
    beginning = "" if test.regexp or test.case_insensitive else test.has_prefix
    part = "" if test.regexp else _longest_part(test)
    if beginning or not part:
        pairs = facts.corpus.values(attribute, beginning, part)
    else:
        pairs = facts.corpus.containing(attribute, part)
    matching = (
        ref if value is None or (ref is not None and string_matches(test, value)) else None
        for value, ref in pairs
    )
    return Source(f"values of {attribute} {beginning}…", 5 if beginning else 8, matching)


def _longest_part(test: StringConstraint) -> str:
    """What every value that passes holds, in whatever case."""
    return max(test.equals, test.contains, test.has_prefix, test.has_suffix, key=len)


def _of_relation(test: RelationConstraint, at_ns: int | None, facts: Facts) -> list[Source]:
    related = test.any if test.any is not None else test.all
    inner = None if related is None else _best(related, facts)
    if inner is None:
        return []
    if test.relation == PARENT:
        return [
            _through("members of", inner, lambda ref: members(facts, test.edge_type, ref, at_ns))
        ]
    return [_through("what has", inner, lambda ref: facts.corpus.parents(ref, test.edge_type))]


def _through(label: str, inner: Source, follow: Callable[[Ref], Iterable[Ref]]) -> Source:
    """What each ref of a source leads to."""

    def refs() -> Iterator[Ref | None]:
        for ref in inner.refs:
            yield None
            if ref is not None:
                yield from follow(ref)

    return Source(f"{label} ({inner.label})", inner.rank + 1, refs())


# -- files --------------------------------------------------------------------------------------


def _of_file(test: FileConstraint, facts: Facts) -> list[Source]:
    found = []
    if test.whole_ref is not None:
        refs = facts.corpus.files_of(test.whole_ref)
        found.append(Source(f"files of {test.whole_ref}", 1, refs))
    name, kind = _exact(test.file_name), _exact(test.mime_type)
    if name:
        found.append(Source(f"files named {name}", 2, facts.corpus.files_named(name)))
    if kind:
        found.append(Source(f"files of kind {kind}", 7, facts.corpus.files_of_kind(kind)))
    return found


def _exact(test: StringConstraint | None) -> str:
    """The text that this test asks for, if there is only one."""
    return "" if test is None or test.regexp or test.case_insensitive else test.equals


class Race:
    """Pulls all sources at the same pace; each that ends narrows the candidates further.

    refs: the candidates, once a source has ended; until then None. label: how they were found.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._running: list[tuple[Source, set[Ref]]] = [(source, set()) for source in sources]
        self._pulled = 0
        self.label = ""
        self.refs: set[Ref] | None = None

    @property
    def is_over(self) -> bool:
        """Whether no source can narrow the candidates at a price that is worth it."""
        if self.refs is None:
            return not self._running
        return not self._running or self._pulled > _WORTH * len(self.refs)

    @property
    def is_short(self) -> bool:
        """Whether there are so few candidates that all may be looked at."""
        return self.refs is not None and len(self.refs) <= SHORT

    def step(self) -> None:
        """Pull each source a little."""
        self._pulled += _ROWS_A_STEP
        for runner in list(self._running):
            source, refs = runner
            pulled = list(islice(source.refs, _ROWS_A_STEP))
            refs.update(ref for ref in pulled if ref is not None)
            if len(pulled) < _ROWS_A_STEP:
                self._running.remove(runner)
                self._narrow(source.label, refs)
            elif len(refs) > MAX_CANDIDATES:
                self._running.remove(runner)

    def _narrow(self, label: str, refs: set[Ref]) -> None:
        self.refs = refs if self.refs is None else self.refs & refs
        self.label = f"{self.label} and {label}" if self.label else label

    def finish(self) -> None:
        """Pull as long as it is worth it."""
        while not self.is_over and not self.is_short:
            self.step()
