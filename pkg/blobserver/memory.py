"""Blobs in memory, gone with the process."""

import threading
from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Self

from ..blob import Ref, SizedRef
from ..errors import Corrupt, NotFound
from ..sorted.options import Options
from .storage import Storage, check_range


class Memory(Storage):
    """A dictionary of blobs. `sync` makes them visible; there is nothing to make durable."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blobs: dict[Ref, bytes] = {}
        self._order: list[Ref] = []
        self._unsynced: dict[Ref, bytes] = {}

    @classmethod
    def from_config(cls, args: Mapping[str, object], _: Callable[[str], Storage]) -> Self:
        with Options("storage-memory", args):
            return cls()

    def fetch(self, ref: Ref) -> bytes:
        data = self._blobs.get(ref)
        if data is None:
            raise NotFound("fetch", ref)
        if not ref.matches(data):
            raise Corrupt("fetch", ref, "in memory: the bytes have another digest")
        return data

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        data = self._blobs.get(ref)
        if data is None:
            raise NotFound("fetch", ref)
        check_range(ref, offset, length, len(data))
        return data[offset : offset + length]

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = [(ref, bytes(data)) for ref, data in blobs]
        with self._lock:
            self._unsynced.update(batch)
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def sync(self) -> None:
        with self._lock:
            for ref, data in self._unsynced.items():
                if ref not in self._blobs:
                    insort(self._order, ref)
                self._blobs[ref] = data
            self._unsynced.clear()

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        for ref in dict.fromkeys(refs):
            data = self._blobs.get(ref)
            if data is not None:
                yield SizedRef(ref, len(data))

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        while True:
            with self._lock:
                start = bisect_right(self._order, after)
                page = self._order[start : start + 1000]
            if not page:
                return
            yield from self.stat(page)
            after = page[-1]

    def remove(self, refs: Iterable[Ref]) -> None:
        with self._lock:
            for ref in refs:
                self._unsynced.pop(ref, None)
                if self._blobs.pop(ref, None) is not None:
                    del self._order[bisect_right(self._order, ref) - 1]
