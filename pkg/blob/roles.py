"""The parts of a store that a function may ask for, instead of asking for the whole."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from .ref import Ref, SizedRef


class Fetcher(Protocol):
    def fetch(self, ref: Ref) -> bytes:
        """Return the blob, verified. Raises NotFound, Corrupt."""
        ...


class Receiver(Protocol):
    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        """Store blobs; when it returns they are durable. In the order given."""
        ...


class Statter(Protocol):
    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        """Yield the blobs that are there, in any order; the others are left out."""
        ...


class Enumerator(Protocol):
    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        """Yield every blob whose ref text is greater than `after`, in ascending order."""
        ...
