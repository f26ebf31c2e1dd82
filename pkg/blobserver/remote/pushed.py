"""The blobs of a file in the order in which a server sends them, for one who reads it in order."""

from collections.abc import Generator, Iterable, Iterator
from typing import NamedTuple, Protocol, Self

from ...blob import Ref
from ..framing import Found


class Arrival(NamedTuple):
    """A blob of a file, verified. is_schema: it describes others."""

    ref: Ref
    found: Found
    is_schema: bool


class Fetcher(Protocol):
    def fetch(self, ref: Ref) -> bytes: ...

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, Found]]: ...


class Pushed:
    """Gives the blobs of a file to a reader who asks for them one after the other.

    The server is believed nothing: a blob goes to who asks for its ref, and what does not come is
    fetched. arrivals: schema blobs before what they describe, chunks in order. For one thread.
    """

    def __init__(self, arrivals: Generator[Arrival], others: Fetcher) -> None:
        self._arrivals = arrivals
        self._others = others
        self._next: Arrival | None = None
        self._schema: dict[Ref, Found] = {}

    def fetch(self, ref: Ref) -> bytes:
        """A schema blob. Raises NotFound, Corrupt, Unavailable."""
        while ref not in self._schema and (first := self._first()) is not None and first.is_schema:
            self._pass()
        found = self._schema.pop(ref, None)
        if found is None:
            return self._others.fetch(ref)
        if isinstance(found, bytes):
            return found
        raise found

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, Found]]:
        """Chunks, each when it has come."""
        for ref in refs:
            while (first := self._first()) is not None and first.ref != ref:
                self._pass()
            if first is None:
                yield from self._others.fetch_many([ref])
            else:
                self._next = None
                yield ref, first.found

    def _first(self) -> Arrival | None:
        if self._next is None:
            self._next = next(self._arrivals, None)
        return self._next

    def _pass(self) -> None:
        """Keep the first if it is a schema blob; a chunk nobody asked for is dropped."""
        first, self._next = self._next, None
        if first is not None and first.is_schema:
            self._schema[first.ref] = first.found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._arrivals.close()
