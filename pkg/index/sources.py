"""Where extraction gets blobs from: the batch in hand, what came just before, then the store."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

from ..blob import Fetcher, Ref

RECENT_BYTES: Final = 16 * 1024 * 1024
"""Chunks that arrived last: most files of a backup are described by then by a blob behind them."""


class Recent:
    """A bounded memory of the verified blobs that arrived last. Safe to use from many threads."""

    def __init__(self, limit_bytes: int = RECENT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._blobs: OrderedDict[Ref, bytes] = OrderedDict()
        self._size_bytes = 0

    def add(self, blobs: Iterable[tuple[Ref, bytes]]) -> None:
        with self._lock:
            for ref, data in blobs:
                if ref not in self._blobs:
                    self._blobs[ref] = data
                    self._size_bytes += len(data)
            while self._size_bytes > self._limit_bytes:
                _, data = self._blobs.popitem(last=False)
                self._size_bytes -= len(data)

    def get(self, ref: Ref) -> bytes | None:
        return self._blobs.get(ref)


class LocalFirst:
    """A Fetcher that looks into a batch and a memory first: none of them is read from the store."""

    __slots__ = ("_batch", "_blobs", "_recent")

    def __init__(self, batch: Mapping[Ref, bytes], recent: Recent, blobs: Fetcher) -> None:
        self._batch = batch
        self._recent = recent
        self._blobs = blobs

    def fetch(self, ref: Ref) -> bytes:
        data = self._batch.get(ref)
        if data is None:
            data = self._recent.get(ref)
        return data if data is not None else self._blobs.fetch(ref)
