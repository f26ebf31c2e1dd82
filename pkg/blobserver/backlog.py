"""Refs that some of several stores still have to be given."""

import threading
from collections.abc import Iterable
from itertools import islice
from typing import Final

from ..blob import Ref, parse_ref
from ..sorted.kv import Batch, KeyValue

_LIMIT: Final = 1_000_000
"""Rows; beyond that only a repair of everything helps."""


class Backlog:
    """Rows `<ref>` -> `1`. Safe to use from many threads."""

    def __init__(self, rows: KeyValue) -> None:
        self._rows = rows
        self._lock = threading.Lock()
        self._count = sum(1 for _ in rows.find())
        self.is_overfull = False
        """Whether refs were left out because there were too many."""

    def __len__(self) -> int:
        """How many refs wait."""
        return self._count

    def add(self, refs: Iterable[Ref]) -> None:
        """Note refs, durably."""
        keys = {ref.encode() for ref in refs}
        with self._lock:
            new = keys - self._rows.get_many(keys).keys()
            room = max(0, _LIMIT - self._count)
            self.is_overfull = self.is_overfull or len(new) > room
            batch = Batch()
            for key in islice(new, room):
                batch.set(key, b"1")
            self._rows.commit(batch)
            self._count += len(batch)

    def first(self, count: int) -> list[Ref]:
        """Some refs that wait."""
        refs = (parse_ref(key.decode()) for key, _ in self._rows.find())
        return [ref for ref in islice(refs, count) if ref is not None]

    def discard(self, refs: Iterable[Ref]) -> None:
        """These wait no longer."""
        with self._lock:
            batch = Batch()
            for key in self._rows.get_many({ref.encode() for ref in refs}):
                batch.delete(key)
            self._rows.commit(batch)
            self._count -= len(batch)

    def close(self) -> None:
        self._rows.close()
