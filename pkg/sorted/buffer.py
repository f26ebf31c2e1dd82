"""Memory in front of a slower store: many small commits become few large ones."""

import threading
from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Final, Self

from ..errors import ConfigError
from .kv import Batch, KeyValue
from .memory import MemoryKeyValue
from .options import Options
from .registry import open_kv

_DELETED: Final = b"\xff"
"""Stands in the buffer for a row that the store behind must lose. No value is that: not UTF-8."""

USUAL_SIZE_BYTES: Final = 16 << 20


class BufferKeyValue(KeyValue):
    """Keeps commits that need not be durable in memory until `flush`, and reads both as one.

    A flush is one atomic commit of the store behind. Therefore, when the process ends without
    `close`, exactly the commits after the last flush are lost, never some in the middle, and no
    batch in part. A durable commit flushes first, then goes straight to the store behind: it is
    as safe as there, and as slow.
    """

    def __init__(self, behind: KeyValue, size_bytes: int = USUAL_SIZE_BYTES) -> None:
        """behind: becomes ours, `close` closes it. size_bytes: keys and values held at most."""
        self._behind = behind
        self._size_bytes = size_bytes
        # Held throughout a commit and a flush: so nothing is added to the buffer while its rows
        # go to the store behind, and the two never disagree.
        self._write_lock = threading.Lock()
        # Held for moments: the buffer changes, or a find takes its snapshot of both.
        self._lock = threading.Lock()
        self._buffer = MemoryKeyValue()
        self._held_bytes = 0

    @classmethod
    def from_config(cls, args: Mapping[str, object]) -> Self:
        with Options("buffer", args) as options:
            behind = options.table("storage")
            size_bytes = options.integer("sizeBytes", USUAL_SIZE_BYTES)
        if size_bytes < 0:
            raise ConfigError("configure", "buffer, sizeBytes", "must not be negative")
        return cls(open_kv(behind), size_bytes)

    @property
    def held_bytes(self) -> int:
        """Bytes of keys and values written since the last flush."""
        return self._held_bytes

    def get(self, key: bytes) -> bytes | None:
        value = self._buffer.get(key)
        if value is None:
            return self._behind.get(key)
        return None if value == _DELETED else value

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        wanted = list(keys)
        held = self._buffer.get_many(wanted)
        found = self._behind.get_many(key for key in wanted if key not in held)
        return found | {key: value for key, value in held.items() if value != _DELETED}

    def find(self, start: bytes = b"", end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        with self._lock:
            held = self._buffer.find(start, end)
            ahead = list(islice(held, 1))  # the first step fixes the snapshot
            rows = self._behind.find(start, end)
            behind = list(islice(rows, 1))
        try:
            yield from _merged(chain(ahead, held), chain(behind, rows))
        finally:
            if isinstance(rows, Generator):
                rows.close()

    def commit(self, batch: Batch, durable: bool = True) -> None:
        """A batch larger than the buffer goes straight to the store behind, durably."""
        size = sum(len(key) + len(value or b"") for key, value in batch.operations)
        with self._write_lock:
            if not durable and size <= self._size_bytes:
                if self._held_bytes + size > self._size_bytes:
                    self._flush()
                self._hold(batch, size)
                return
            # Two commits: were the rows held merged with these, a reader could see a part of
            # these behind while the buffer still hides the rest.
            self._flush()
            self._behind.commit(batch)

    def flush(self) -> None:
        """Return when every commit so far is durable in the store behind."""
        with self._write_lock:
            self._flush()

    def wipe(self) -> None:
        with self._write_lock, self._lock:
            self._behind.wipe()
            self._empty()

    def close(self) -> None:
        """Flush, and close the store behind, even when flushing failed."""
        try:
            self.flush()
        finally:
            self._behind.close()

    def _hold(self, batch: Batch, size: int) -> None:
        held = Batch()
        held.operations = [
            (key, _DELETED if value is None else value) for key, value in batch.operations
        ]
        with self._lock:
            self._buffer.commit(held)
            self._held_bytes += size

    def _flush(self) -> None:
        """When it fails, all stays in the buffer. The caller holds the write lock.

        Always durable: otherwise a later flush of nothing would have to sync what this one wrote.
        """
        batch = Batch()
        batch.operations = [
            (key, None if value == _DELETED else value) for key, value in self._buffer.find()
        ]
        if not batch:
            return
        self._behind.commit(batch)
        with self._lock:
            self._empty()

    def _empty(self) -> None:
        self._buffer = MemoryKeyValue()
        self._held_bytes = 0


def _merged(
    held: Iterator[tuple[bytes, bytes]], behind: Iterator[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bytes]]:
    """Both in key order; where both have a key, the held row counts."""
    ahead = next(held, None)
    for row in behind:
        while ahead is not None and ahead[0] < row[0]:
            if ahead[1] != _DELETED:
                yield ahead
            ahead = next(held, None)
        if ahead is None or ahead[0] != row[0]:
            yield row
    while ahead is not None:
        if ahead[1] != _DELETED:
            yield ahead
        ahead = next(held, None)
