"""How far is read ahead of those who take it: the more readers, the less for each.

A reader who stops taking holds what was read for him, so what all of them hold has a limit.
"""

import math
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from ..blob import Ref
from ..blobserver.storage import Storage
from ..errors import Corrupt, NotFound

AHEAD_BYTES: Final = 1024 * 1024
"""What is read at a time for one reader among few."""

ALL_AHEAD_BYTES: Final = 16 * 1024 * 1024
"""The same for all readers together, as far as single blobs are not larger."""

LEAST_PAGE_BYTES: Final = 32 * 1024

GROWTH: Final = 8
"""A page is at most this part of what was given before."""

PAGE_BLOBS: Final = 256
"""Blobs that are fetched at a time, at most."""

USUAL_BYTES: Final = 64 * 1024
"""What a blob is taken to have until some have been seen."""

Found = bytes | NotFound | Corrupt


class Budget:
    """What the readers of a server share. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._left_at = -math.inf

    def enter(self) -> None:
        with self._lock:
            self._readers += 1

    def leave(self) -> None:
        with self._lock:
            self._readers -= 1
            self._left_at = time.monotonic()

    @contextmanager
    def reading(self) -> Iterator[None]:
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def used_at(self) -> float:
        """When somebody read last, by `time.monotonic`: now, while anybody does."""
        return time.monotonic() if self._readers else self._left_at

    @property
    def page_bytes(self) -> int:
        """How much to read for one of them at a time."""
        share = ALL_AHEAD_BYTES // max(self._readers, 1)
        return max(LEAST_PAGE_BYTES, min(share, AHEAD_BYTES))


class Ramp:
    """Sizes that begin small and grow with what was taken.

    The system takes some hundred KiB for a peer who takes nothing: so far there is no growth.
    """

    def __init__(self, first_bytes: int) -> None:
        self._first_bytes = first_bytes
        self._given_bytes = 0
        self.last_bytes = 0

    def next(self, most_bytes: int) -> int:
        grown = min(self._given_bytes // GROWTH, most_bytes)
        self.last_bytes = max(self._first_bytes, grown)
        self._given_bytes += self.last_bytes
        return self.last_bytes


class Batches:
    """Fetches as many blobs at a time as fit, going by the sizes of those before."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._usual_bytes = USUAL_BYTES

    def count(self, budget_bytes: int) -> int:
        """How many blobs to ask for."""
        return max(1, min(budget_bytes // self._usual_bytes, PAGE_BLOBS))

    def fetch(self, refs: Sequence[Ref], budget_bytes: int) -> list[Found]:
        """The first of these blobs, at least one, and not much more than the budget. Blocks."""
        found = fetched(self._storage, refs, budget_bytes)
        if found:
            size = sum(len(data) for data in found if isinstance(data, bytes))
            self._usual_bytes = max(1, size // len(found))
        return found


def fetched(storage: Storage, refs: Iterable[Ref], budget_bytes: int) -> list[Found]:
    """The first of these blobs, until there is twice the budget; all, if they are small. Blocks."""
    found: list[Found] = []
    size = 0
    answers = storage.fetch_many(refs)
    try:
        for _, data in answers:
            found.append(data)
            size += len(data) if isinstance(data, bytes) else 0
            if size >= budget_bytes * 2:
                break
    finally:
        # Left open, it would keep what the store has read ahead.
        close = getattr(answers, "close", None)
        if close is not None:
            close()
    return found
