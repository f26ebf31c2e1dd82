"""Where the matches of a constraint must be among: short lists of refs that rows give at once."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple

from ..blob import Ref, parse_ref
from .constraint import (
    AND,
    OR,
    PARENT,
    Constraint,
    LogicalConstraint,
    PermanodeConstraint,
    RelationConstraint,
    operands,
)
from .facts import Facts
from .match import members
from .prefix import is_ref_prefix

MAX_CANDIDATES: Final = 100_000
"""Refs that are collected from one source before it counts as no help."""

_ROWS_A_STEP: Final = 256


class Source(NamedTuple):
    """refs: all matches and perhaps others, some repeatedly. label: what they are, to explain.

    rank: how short the list is likely to be, the smaller the shorter.
    """

    label: str
    rank: int
    refs: Iterator[Ref]


def sources_of(constraint: Constraint, facts: Facts) -> list[Source]:
    """Sources of which each alone has all matches. They read nothing before they are pulled."""
    found = []
    prefix = constraint.blob_ref_prefix
    if prefix:
        found.append(_by_prefix(prefix, facts))
    if constraint.permanode is not None:
        found += _of_permanode(constraint.permanode, facts)
    if constraint.file is not None and constraint.file.whole_ref is not None:
        whole_ref = constraint.file.whole_ref
        found.append(Source(f"files of {whole_ref}", 1, facts.corpus.files_of(whole_ref)))
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
    alternatives = [sources_of(part, facts) for part in operands(logical)]
    if not all(alternatives):
        return []
    best = [min(sources, key=lambda source: source.rank) for sources in alternatives]
    label = " or ".join(source.label for source in best)
    refs = chain.from_iterable(source.refs for source in best)
    return [Source(label, max(source.rank for source in best), refs)]


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


def _of_permanode(test: PermanodeConstraint, facts: Facts) -> list[Source]:
    found = []
    value = test.value
    if not value and test.value_matches is not None:
        string = test.value_matches
        value = "" if string.regexp or string.case_insensitive else string.equals
    if value and facts.corpus.can_look_up(test.attr):
        refs = facts.corpus.with_value(test.attr, value)
        found.append(Source(f"{test.attr} = {value}", 3, refs))
    if test.relation is not None:
        found += _of_relation(test.relation, test.at_ns, facts)
    return found


def _of_relation(test: RelationConstraint, at_ns: int | None, facts: Facts) -> list[Source]:
    related = test.any if test.any is not None else test.all
    ref = full_ref(related.blob_ref_prefix) if related is not None else None
    if ref is None:
        return []
    if test.relation == PARENT:
        refs: Iterable[Ref] = members(facts, test.edge_type, ref, at_ns)
        return [Source(f"members of {ref}", 2, iter(refs))]
    return [Source(f"what has {ref}", 2, facts.corpus.parents(ref, test.edge_type))]


class Race:
    """Pulls all sources at the same pace: the first to end is the shortest, and wins.

    winner: its label once there is one, and `refs` its refs.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._running: list[tuple[Source, set[Ref]]] = [(source, set()) for source in sources]
        self.winner = ""
        self.refs: set[Ref] = set()

    @property
    def is_running(self) -> bool:
        return bool(self._running) and not self.winner

    def step(self) -> bool:
        """Pull each source a little. Returns whether there is a winner."""
        for runner in list(self._running):
            source, refs = runner
            size = len(refs)
            pulled = list(islice(source.refs, _ROWS_A_STEP))
            refs.update(pulled)
            if len(pulled) < _ROWS_A_STEP:
                self.winner, self.refs = source.label, refs
                self._running.clear()
                return True
            if len(refs) > MAX_CANDIDATES or len(refs) == size:
                self._running.remove(runner)
        return False

    def finish(self) -> bool:
        """Run to the end. Returns whether there is a winner."""
        while self.is_running:
            self.step()
        return bool(self.winner)
