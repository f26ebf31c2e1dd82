"""What was written and waits for its sync: in combinators that keep rows about blobs, and in
stores to which blobs are uploaded."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

from ..blob import Ref, SizedRef

T = TypeVar("T")


class _Waiting(NamedTuple, Generic[T]):
    ticket: int
    value: T


class Unsynced(Generic[T]):
    """Refs that wait, each with a value. Safe to use from many threads.

    A sync goes: `begin`, sync the store below, then, inside `finish` with what `begin` gave, the
    commit of the rows. What is received in one step is under a `watch`. A removal calls `drop`.
    `lock` is held around `drop`, or the end of a `watch`, and the commit of the rows: a sync under
    way would bring a removed blob back.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._tickets = 0
        self._waiting: dict[Ref, _Waiting[T]] = {}
        self._watches: list[set[Ref]] = []

    def add(self, values: Iterable[tuple[Ref, T]]) -> int:
        """Call it after the store below took the blobs: then a sync that sees them covers them.

        Returns how many did not wait already; the others keep the value that they have.
        """
        added = 0
        with self.lock:
            for ref, value in values:
                if ref not in self._waiting:
                    self._tickets += 1
                    self._waiting[ref] = _Waiting(self._tickets, value)
                    added += 1
        return added

    def begin(self) -> dict[Ref, _Waiting[T]]:
        with self.lock:
            return dict(self._waiting)

    @contextmanager
    def finish(self, begun: dict[Ref, _Waiting[T]]) -> Iterator[dict[Ref, T]]:
        """Give what of it was not removed since; it waits no longer if no error ends the block.

        Holds the lock.
        """
        with self.lock:
            done = {
                ref: waiting.value
                for ref, waiting in begun.items()
                if ref in self._waiting and self._waiting[ref].ticket == waiting.ticket
            }
            yield done
            for ref in done:
                self._waiting.pop(ref, None)

    def drop(self, refs: Iterable[Ref]) -> dict[Ref, T]:
        """Let them wait no longer. Returns what did wait."""
        dropped: dict[Ref, T] = {}
        with self.lock:
            for ref in refs:
                waiting = self._waiting.pop(ref, None)
                if waiting is not None:
                    dropped[ref] = waiting.value
                for removed in self._watches:
                    removed.add(ref)
        return dropped

    @contextmanager
    def watch(self) -> Iterator[set[Ref]]:
        """Give a set that collects what is dropped until the end. Read it under `lock`."""
        removed: set[Ref] = set()
        with self.lock:
            self._watches.append(removed)
        try:
            yield removed
        finally:
            with self.lock:
                self._watches[:] = [one for one in self._watches if one is not removed]


class Held:
    """Whole blobs in memory until a sync uploads them. Safe to use from many threads.

    For stores where what is uploaded is durable and seen at once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blobs: dict[Ref, list[bytes]] = {}  # a list for each call of `add`, never changed

    def add(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = [(ref, bytes(data)) for ref, data in blobs]
        with self._lock:
            self._blobs.update((ref, [data]) for ref, data in batch)
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def upload(self, receive_many: Callable[[Iterable[tuple[Ref, bytes]]], object]) -> None:
        """Hand everything on. What could not be stored stays, for the next call."""
        with self._lock:
            begun = dict(self._blobs)
        receive_many((ref, data) for ref, [data] in begun.items())
        with self._lock:
            for ref, held in begun.items():
                # What was added since may have been removed below after it was uploaded.
                if self._blobs.get(ref) is held:
                    del self._blobs[ref]

    def drop(self, refs: Iterable[Ref]) -> None:
        with self._lock:
            for ref in refs:
                self._blobs.pop(ref, None)
