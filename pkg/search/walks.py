"""Rows that have all matches of a constraint in the order of the answer, so that few are read."""

from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import groupby
from typing import Final, Generic, NamedTuple, TypeVar

from ..blob import Ref
from ..index.corpus import Corpus, Span
from .constraint import AND, OR, Constraint, FileConstraint, PermanodeConstraint, operands
from .sources import exact, longest_part

MOST_WORDS: Final = 400
"""Walks that are merged into one: to begin one costs as much as a look at a candidate."""

_T = TypeVar("_T", Ref, bytes)


class Walk(NamedTuple, Generic[_T]):
    """All matches and perhaps others, none twice. label: what they are, to explain."""

    label: str
    rows: Iterator[_T]


class _Option(NamedTuple, Generic[_T]):
    """rank: how long it is likely to be. begin: None if the rows do not tell in this case."""

    label: str
    rank: int
    begin: Callable[[], Iterator[_T] | None]


_Finder = Callable[[Constraint], list[_Option[_T]]]


def newest_first(constraint: Constraint, corpus: Corpus, bounds: Span) -> Walk[bytes] | None:
    """Over ends of keys within bounds, as `Corpus.newest`; None: no rows tell."""

    def own(part: Constraint) -> list[_Option[bytes]]:
        test = part.permanode
        return [] if test is None else _by_time(test, corpus, bounds)

    return _first(_options(constraint, own))


def by_ref(constraint: Constraint, corpus: Corpus) -> Walk[Ref] | None:
    """Over refs, ascending; None: no rows tell."""

    def own(part: Constraint) -> list[_Option[Ref]]:
        found = [] if part.permanode is None else _by_value(part.permanode, corpus)
        return found if part.file is None else found + _by_file(part.file, corpus)

    return _first(_options(constraint, own))


def _options(constraint: Constraint, own: _Finder[_T]) -> list[_Option[_T]]:
    found = own(constraint)
    logical = constraint.logical
    if logical is not None and logical.op == AND:
        found += [option for part in operands(logical) for option in _options(part, own)]
    elif logical is not None and logical.op == OR:
        sides = [_options(part, own) for part in operands(logical)]
        if all(sides):
            found.append(_either(sides))
    return found


def _first(options: Iterable[_Option[_T]]) -> Walk[_T] | None:
    """The one that is likely to be the shortest, of those whose rows tell."""
    for option in sorted(options, key=lambda option: option.rank):
        rows = option.begin()
        if rows is not None:
            return Walk(option.label, rows)
    return None


def _either(sides: list[list[_Option[_T]]]) -> _Option[_T]:
    best = [min(side, key=lambda option: option.rank) for side in sides]

    def begin() -> Iterator[_T] | None:
        walks = [walk for side in sides if (walk := _first(side)) is not None]
        if len(walks) < len(sides):
            return None
        return (row for row, _ in groupby(merge(*(walk.rows for walk in walks))))

    label = " or ".join(option.label for option in best)
    return _Option(label, max(option.rank for option in best), begin)


def _by_time(test: PermanodeConstraint, corpus: Corpus, bounds: Span) -> list[_Option[bytes]]:
    if not test.attr or test.at_ns is not None:
        return []
    attribute, matches = test.attr, test.value_matches
    found: list[_Option[bytes]] = []
    value = test.value or exact(matches)
    if value:
        found.append(
            _Option(
                f"{attribute} = {value}",
                3,
                lambda: corpus.newest_with(attribute, value, bounds),
            )
        )
    part = "" if matches is None or matches.regexp else longest_part(matches)
    # What begins so is found among the values sooner: its words contain that in many places.
    if part and (matches is None or matches.case_insensitive or not matches.has_prefix):
        found.append(
            _Option(
                f"{attribute} with {part}",
                2,
                lambda: corpus.newest_containing(attribute, part, bounds, MOST_WORDS),
            )
        )
    return found


def _by_value(test: PermanodeConstraint, corpus: Corpus) -> list[_Option[Ref]]:
    attribute, value = test.attr, test.value or exact(test.value_matches)
    if not attribute or not value:
        return []
    label = f"{attribute} = {value}"
    return [_Option(label, 3, lambda: corpus.with_value(attribute, value))]


def _by_file(test: FileConstraint, corpus: Corpus) -> list[_Option[Ref]]:
    found: list[_Option[Ref]] = []
    name, kind, whole = exact(test.file_name), exact(test.mime_type), test.whole_ref
    if whole is not None:
        found.append(_Option(f"files of {whole}", 1, lambda: corpus.files_of(whole)))
    if name:
        found.append(_Option(f"files named {name}", 2, lambda: corpus.files_named(name)))
    if kind:
        found.append(_Option(f"files of kind {kind}", 7, lambda: corpus.files_of_kind(kind)))
    return found
