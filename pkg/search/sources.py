"""Where the matches of a constraint must be among: lists of refs that rows give at once."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from ..blob import Ref, parse_ref
from ..index.corpus import EVERYTHING, span
from ..index.derived import read_tail
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


class Source(NamedTuple):
    """All matches and perhaps others, some repeatedly; None stands for a row without one.

    label: what they are, to explain. rank: how long the list is likely to be. refs: the matches;
    or ends, in place of them: ends of keys, which tell the time, too (`derived.read_tail`).
    """

    label: str
    rank: int
    refs: Iterator[Ref | None] = iter(())
    ends: Iterator[bytes | None] | None = None

    def only_refs(self) -> Iterator[Ref | None]:
        if self.ends is None:
            return self.refs
        return (None if end is None else read_tail(end)[1] for end in self.ends)


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
    rank = max(source.rank for source in sources)
    all_ends = [source.ends for source in sources if source.ends is not None]
    if len(all_ends) == len(sources):
        return [Source(label, rank, ends=chain.from_iterable(all_ends))]
    return [Source(label, rank, chain.from_iterable(s.only_refs() for s in sources))]


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
            ends = facts.corpus.newest(span(earliest_ns, last_ns))
            found.append(Source("permanodes of that time", 7, ends=ends))
    place = test.location
    if place is not None and test.at_ns is None and not place.any:
        ends = facts.corpus.within(place.south, place.west, place.north, place.east)
        found.append(Source("permanodes around there", 6, ends=ends))
    return found


def _of_attribute(test: PermanodeConstraint, facts: Facts) -> list[Source]:
    found = []
    if test.value:
        found.append(_by_value(test.attr, test.value, test.at_ns, facts))
    if test.value_matches is not None:
        found.append(_by_text(test.attr, test.value_matches, test.at_ns, facts))
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


def _by_value(attribute: str, value: str, at_ns: int | None, facts: Facts) -> Source:
    label = f"{attribute} = {value}"
    ends = None if at_ns is not None else facts.corpus.newest_with(attribute, value, EVERYTHING)
    if ends is not None:
        return Source(label, 3, ends=ends)
    return Source(label, 3, facts.corpus.with_value(attribute, value))


def _by_text(attribute: str, test: StringConstraint, at_ns: int | None, facts: Facts) -> Source:
    """By the values that there are: each is tested before its permanode is looked at."""
    value = exact(test)
    if value:
        return _by_value(attribute, value, at_ns, facts)
    beginning = _beginning(test)
    part = "" if test.regexp else longest_part(test)
    label, rank = f"values of {attribute} {beginning}…", 5 if beginning else 8
    if at_ns is None and beginning:
        ends = facts.corpus.beginning_now(attribute, beginning)
        if ends is not None:
            return Source(label, rank, ends=ends)
    elif at_ns is None and part:
        pieces = facts.corpus.containing(attribute, part)
        if pieces is not None:
            return Source(label, rank, ends=pieces)
    matching = (
        ref if value is None or (ref is not None and string_matches(test, value)) else None
        for value, ref in facts.corpus.values(attribute, beginning, part)
    )
    return Source(label, rank, matching)


def longest_part(test: StringConstraint) -> str:
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
        for ref in inner.only_refs():
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
    name, kind = exact(test.file_name), exact(test.mime_type)
    if name:
        found.append(Source(f"files named {name}", 2, facts.corpus.files_named(name)))
    if kind:
        found.append(Source(f"files of kind {kind}", 7, facts.corpus.files_of_kind(kind)))
    if beginning := _beginning(test.file_name):
        refs = facts.corpus.files_beginning(beginning)
        found.append(Source(f"files named {beginning}…", 7, refs))
    if beginning := _beginning(test.mime_type) or ("image/" if test.is_image else ""):
        refs = facts.corpus.files_of_kinds(beginning)
        found.append(Source(f"files of kind {beginning}…", 8, refs))
    return found


def _beginning(test: StringConstraint | None) -> str:
    """How what passes this test begins."""
    return "" if test is None or test.regexp or test.case_insensitive else test.has_prefix


def exact(test: StringConstraint | None) -> str:
    """The text that this test asks for, if there is only one."""
    return "" if test is None or test.regexp or test.case_insensitive else test.equals
