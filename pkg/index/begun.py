"""Digests of long files, begun while their chunks arrive: the file blob then has not to wait.

Chunks come in the order of their file, which only the blob behind them tells. So what comes behind
a chunk as every long file begins with is digested on the chance that it is one file, and the names
of the chunks with it: these have to be those of the file.
"""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from ..blob import Ref
from ..schema.chunker import FIRST_CHUNK_SIZE
from ..schema.filereader import Leaf

if TYPE_CHECKING:
    from hashlib import _Hash

MARKED_CHUNKS: Final = 64
MOST_MARKS: Final = 1024

MOST_PASSED: Final = 16
"""Files of which several arrive at once can't be told apart: after each that was digested in
vain, more of them are left alone, up to this many."""


class _Mark(NamedTuple):
    """After some chunks: the digest of their names, and the state of that of their bytes."""

    names: bytes
    content: "_Hash"


class _Run:
    """Chunks that came one after the other."""

    def __init__(self) -> None:
        self.names = hashlib.sha224()
        self.content = hashlib.sha224()
        self.count = 0
        self.last = 0
        """How many chunks the last mark is behind."""
        self.marks: dict[int, _Mark] = {}
        self.every = MARKED_CHUNKS
        self.was_used = False

    def add(self, ref: Ref, data: bytes) -> None:
        self.names.update(_name(ref, len(data)))
        self.content.update(data)
        self.count += 1
        if self.count % self.every == 0:
            if len(self.marks) >= MOST_MARKS:
                self.every *= 2
                self.marks = {at: mark for at, mark in self.marks.items() if at % self.every == 0}
            self.marks[self.count] = _Mark(self.names.digest(), self.content.copy())
            self.last = self.count


class Begun:
    """The run of the file that seems to arrive. `add` is called by one thread at a time."""

    def __init__(self) -> None:
        self._run: _Run | None = None
        self._passes = 0  # files that are left alone after the next run in vain
        self._to_pass = 0  # of those, how many are still to come

    def add(self, ref: Ref, data: bytes) -> None:
        """The next chunk, verified."""
        if len(data) == FIRST_CHUNK_SIZE:
            self._begin()
        if self._run is not None:
            self._run.add(ref, data)

    def _begin(self) -> None:
        """A file begins, perhaps while another still arrives."""
        if self._run is not None:
            self._passes = 0 if self._run.was_used else min(2 * self._passes + 1, MOST_PASSED)
            self._to_pass = self._passes
        self._run = None if self._to_pass else _Run()
        self._to_pass = max(self._to_pass - 1, 0)

    def digest(self, leaves: Iterator[Leaf]) -> tuple["_Hash", list[Leaf]]:
        """The digest of the first leaves of a file as far as it was begun here; and those of the
        leaves taken from the iterator that are not in it."""
        run = self._run
        names, content = hashlib.sha224(), hashlib.sha224()
        taken: list[Leaf] = []
        if run is None:
            return content, taken
        marks = run.marks
        for count in range(1, run.last + 1):
            leaf = next(leaves, None)
            if leaf is None:
                break
            taken.append(leaf)
            if leaf.ref is None or leaf.offset:
                break
            names.update(_name(leaf.ref, leaf.length))
            mark = marks.get(count)
            if mark is not None:
                if mark.names != names.digest():
                    break
                content = mark.content.copy()
                taken.clear()
                run.was_used = True
        return content, taken


def _name(ref: Ref, size: int) -> bytes:
    return f"{ref} {size}\n".encode()
