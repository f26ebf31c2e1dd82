"""Narrows candidates while a walk goes on: whatever comes to its end first has told enough."""

from collections.abc import Hashable, Iterator, Sequence
from itertools import islice
from typing import Final, Generic, NamedTuple, TypeVar

from ..blob import Ref
from .sources import Source

MAX_CANDIDATES: Final = 100_000
"""Refs that are collected from one source before it counts as no help."""

SHORT: Final = 200
"""Candidates without a known time that are looked at without further ado."""

A_LOOK: Final = 16
"""What a look at a candidate costs, in rows of a walk."""

HEAD_START: Final = 64 * A_LOOK
"""What a walk over likely matches may cost before the sources are pulled: a page of results.
As many rows of keys that tell the time are pulled before a walk over everything."""

_ROWS_A_STEP: Final = 256
_WORTH: Final = 20
"""Rows that are pulled for each candidate that might be saved."""

_T = TypeVar("_T", bound=Hashable)


class _Runner(NamedTuple, Generic[_T]):
    label: str
    rows: Iterator[_T | None]
    pulled: set[_T]


class _Field(Generic[_T]):
    """Sources of one kind. left: what all have that have ended; None: none has."""

    def __init__(self, sources: Sequence[tuple[str, Iterator[_T | None]]]) -> None:
        self.running: list[_Runner[_T]] = [_Runner(*source, set()) for source in sources]
        self.left: set[_T] | None = None

    def step(self) -> list[str]:
        """Pull each source a little. Returns the labels of those that have ended."""
        ended = []
        for runner in list(self.running):
            rows = list(islice(runner.rows, _ROWS_A_STEP))
            runner.pulled.update(row for row in rows if row is not None)
            if len(rows) < _ROWS_A_STEP:
                self.running.remove(runner)
                self.left = runner.pulled if self.left is None else self.left & runner.pulled
                ended.append(runner.label)
            elif len(runner.pulled) > MAX_CANDIDATES:
                self.running.remove(runner)
        return ended


class Race:
    """Pulls all sources at the same pace as a walk; each that ends narrows the candidates.

    refs, ends: what the sources of each kind that have ended leave; None: none has. label: how
    that was found.
    """

    def __init__(self, sources: Sequence[Source], only_refs: bool) -> None:
        """only_refs: for orders in which times of creation are of no use."""
        timed = [] if only_refs else [source for source in sources if source.ends is not None]
        untimed = [source for source in sources if source not in timed]
        self._refs: _Field[Ref] = _Field([(one.label, one.only_refs()) for one in untimed])
        self._ends: _Field[bytes] = _Field([(one.label, one.ends or iter(())) for one in timed])
        self._pulled = 0
        self._effort = 0
        self._ended: list[str] = []

    @property
    def label(self) -> str:
        return " and ".join(self._ended)

    @property
    def refs(self) -> set[Ref] | None:
        return self._refs.left

    @property
    def ends(self) -> set[bytes] | None:
        return self._ends.left

    @property
    def is_over(self) -> bool:
        """Whether no source can narrow the candidates at a price that is worth it."""
        if not (self._refs.running or self._ends.running):
            return True
        left = [len(found) for found in (self.refs, self.ends) if found is not None]
        return bool(left) and self._pulled > _WORTH * min(left)

    @property
    def is_short(self) -> bool:
        """Whether candidates are told that cost less than to go on with the walk.

        Those with times need but be sorted; of the others each must be read for that.
        """
        return self.ends is not None or (self.refs is not None and len(self.refs) <= SHORT)

    def wait(self) -> None:
        """Let a walk over likely matches have its head start."""
        self._effort = -HEAD_START

    def lead(self) -> None:
        """Let sources of keys that tell the time have it, before a walk over everything."""
        while self._ends.running and self._ends.left is None and self._pulled < HEAD_START:
            self._pulled += _ROWS_A_STEP
            self._ended += self._ends.step()

    def spend(self, rows: int) -> None:
        """Count what a walk has done, in rows, and pull the sources as far."""
        self._effort += rows
        if self._effort >= _ROWS_A_STEP:
            self._effort = 0
            if not self.is_over:
                self.step()

    def step(self) -> None:
        """Pull each source a little."""
        self._pulled += _ROWS_A_STEP
        self._ended += [*self._refs.step(), *self._ends.step()]
