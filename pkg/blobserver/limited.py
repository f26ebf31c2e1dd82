"""A store that is not asked faster than at a given rate."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, Self

from ..blob import Ref, SizedRef
from ..errors import ConfigError
from ..sorted.options import Options
from .fanout import Found
from .forward import Forward
from .storage import Storage, StreamedBlob

_PAGE: Final = 1000
"""Rows of a listing or refs of a question that count as one operation."""


class Rate:
    """So many units a second, over all threads; after idleness, one second's worth at once."""

    def __init__(
        self,
        per_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """per_s: 0 means without limit."""
        self._per_s = per_s
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._paid_until = clock() - 1

    def take(self, units: float) -> None:
        """Wait until these units are due. More than a second's worth puts later takers off."""
        if not self._per_s:
            return
        with self._lock:
            now = self._clock()
            self._paid_until = max(self._paid_until, now - 1) + units / self._per_s
            wait_s = self._paid_until - now
        if wait_s > 0:
            self._sleep(wait_s)


class Limited(Forward):
    """Waits before operations and for bytes, as two rates allow.

    Bytes of a write are paid for before it, those of a read after it: only then is the size known.
    """

    def __init__(self, inner: Storage, size: Rate, operations: Rate) -> None:
        """size: in bytes a second, both directions together."""
        super().__init__(inner)
        self._size = size
        self._operations = operations

    @classmethod
    def from_config(cls, args: Mapping[str, object], resolve: Callable[[str], Storage]) -> Self:
        """Arguments: storage, bytesPerSecond and operationsPerSecond (optional; 0: no limit)."""
        with Options("storage-limited", args) as options:
            inner = options.string("storage")
            size_per_s = options.integer("bytesPerSecond", 0)
            operations_per_s = options.integer("operationsPerSecond", 0)
        if min(size_per_s, operations_per_s) < 0:
            raise ConfigError("configure", "storage-limited", "a rate can't be negative")
        return cls(resolve(inner), Rate(size_per_s), Rate(operations_per_s))

    def fetch(self, ref: Ref) -> bytes:
        return self._read(lambda: self._inner.fetch(ref))

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._read(lambda: self._inner.fetch_range(ref, offset, length))

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._read(lambda: self._inner.read_range(ref, offset, length))

    def _read(self, call: Callable[[], bytes]) -> bytes:
        self._operations.take(1)
        data = call()
        self._size.take(len(data))
        return data

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[Found]:
        self._operations.take(1)
        for ref, data in self._inner.fetch_many(refs):
            if isinstance(data, bytes):
                self._size.take(len(data))
            yield ref, data

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        left = iter(dict.fromkeys(refs))
        while page := list(islice(left, _PAGE)):
            self._operations.take(1)
            yield from self._inner.stat(page)

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        for number, found in enumerate(self._inner.enumerate(after)):
            if number % _PAGE == 0:
                self._operations.take(1)
            yield found

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        self._operations.take(1)
        for blob in self._inner.stream(token):
            self._size.take(len(blob.data))
            yield blob

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        return self._inner.write_many(self._paid(blobs))

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        return self._inner.receive_many(self._paid(blobs))

    def _paid(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[tuple[Ref, bytes]]:
        batch = list(blobs)
        self._operations.take(1)
        self._size.take(sum(len(data) for _, data in batch))
        return batch

    def sync(self) -> None:
        self._operations.take(1)
        self._inner.sync()

    def remove(self, refs: Iterable[Ref]) -> None:
        self._operations.take(1)
        self._inner.remove(refs)
