"""What a cache holds, and what of it goes first."""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from ..blob import Ref, SizedRef, parse_ref
from ..errors import ConfigError
from ..sorted.kv import Batch, KeyValue

_GUESSED_METADATA_SIZE: Final = 2048
"""Bytes. A blob found in the cache of which nothing else is known counts as metadata up to here."""

_ROWS_PER_COMMIT: Final = 1000


class Entry:
    """One cached blob. Compared by identity: an entry made anew is another one."""

    __slots__ = ("is_kept", "is_metadata", "is_pinned", "last_use", "size", "uses")

    def __init__(self, size: int, is_metadata: bool) -> None:
        self.size = size
        self.is_metadata = is_metadata
        self.is_pinned = False
        self.is_kept = False  # not to be evicted for now
        self.uses = 0
        self.last_use = 0  # a count of uses of the whole cache


_ORDERS: Final[Mapping[str, Callable[[Entry], tuple[int, ...]]]] = {
    "lru": lambda entry: (entry.is_metadata, entry.last_use),
    "lfu": lambda entry: (entry.is_metadata, entry.uses, entry.last_use),
}
"""What goes first: data before metadata, then what was used longest ago, or least often."""


class Ledger:
    """Counts what is in a cache. Safe to use from many threads.

    Presence and sizes come from the cache's own listing. Rows, where there are some, remember
    only what a listing does not tell: `<ref>` -> `<last use> <uses> <metadata> <pinned>`.
    """

    def __init__(self, eviction: str, rows: KeyValue | None = None) -> None:
        if eviction not in _ORDERS:
            known = ", ".join(_ORDERS)
            raise ConfigError("configure", "storage-proxycache, eviction", f"one of {known}")
        self._order = _ORDERS[eviction]
        self._rows = rows
        self._lock = threading.RLock()
        self._entries: dict[Ref, Entry] = {}
        self._changed: dict[Ref, None] = {}
        self._clock = 0
        self._total_size = 0

    @property
    def total_size(self) -> int:
        """Bytes of all entries."""
        return self._total_size

    @property
    def pinned_size(self) -> int:
        with self._lock:
            return sum(entry.size for entry in self._entries.values() if entry.is_pinned)

    def load(self, listing: Iterable[SizedRef]) -> None:
        """Begin anew with what the cache lists. An error of the listing leaves all as it was."""
        there = dict(listing)
        remembered = self._remembered()
        with self._lock:
            entries = {ref: _known(size, remembered.get(ref)) for ref, size in there.items()}
            self._entries = entries
            self._total_size = sum(entry.size for entry in entries.values())
            self._clock = max((entry.last_use for entry in entries.values()), default=0)
            self._changed = dict.fromkeys(ref for ref in remembered if ref not in entries)
            self._save_if(len(self._changed) > 0)

    def get(self, ref: Ref) -> Entry | None:
        return self._entries.get(ref)

    def add(self, ref: Ref, size: int, is_metadata: bool) -> Entry:
        """Count a blob; `is_kept` is set until the caller has written it."""
        with self._lock:
            entry = self._entries.get(ref)
            if entry is None or entry.size != size:
                self._total_size += size - (entry.size if entry is not None else 0)
                entry = self._entries[ref] = Entry(size, is_metadata)
            entry.is_metadata = is_metadata
            entry.is_kept = True
            self._use(ref, entry)
            return entry

    def touch(self, ref: Ref) -> bool:
        """Count a use. False if the blob is not known to be there."""
        with self._lock:
            entry = self._entries.get(ref)
            if entry is not None:
                self._use(ref, entry)
            return entry is not None

    def pin(self, refs: Iterable[Ref], is_pinned: bool) -> None:
        with self._lock:
            for ref in refs:
                entry = self._entries.get(ref)
                if entry is not None:
                    entry.is_pinned = is_pinned
                    self._changed[ref] = None
            self._save_if(True, durable=True)

    def forget(self, refs: Iterable[Ref]) -> None:
        with self._lock:
            for ref in refs:
                entry = self._entries.pop(ref, None)
                if entry is not None:
                    self._total_size -= entry.size
                    self._changed[ref] = None
            self._save_if(len(self._changed) >= _ROWS_PER_COMMIT)

    def forget_same(self, ref: Ref, entry: Entry | None) -> None:
        """Forget what turned out not to be there, unless it was written meanwhile."""
        with self._lock:
            if entry is not None and self._entries.get(ref) is entry and not entry.is_kept:
                self.forget([ref])

    def victims(self, size: int) -> list[SizedRef]:
        """What to evict first, up to so many bytes together or a little more."""
        with self._lock:
            able = [
                (self._order(entry), ref, entry.size)
                for ref, entry in self._entries.items()
                if not (entry.is_pinned or entry.is_kept)
            ]
            for entry in self._entries.values():
                entry.uses //= 2  # what was popular long ago has to earn it again
        found: list[SizedRef] = []
        for _, ref, entry_size in sorted(able):
            if size <= 0:
                break
            found.append(SizedRef(ref, entry_size))
            size -= entry_size
        return found

    def save(self) -> None:
        """Write what the rows do not know yet."""
        with self._lock:
            self._save_if(True)

    def close(self) -> None:
        self.save()
        if self._rows is not None:
            self._rows.close()

    def _use(self, ref: Ref, entry: Entry) -> None:
        self._clock += 1
        entry.last_use = self._clock
        entry.uses += 1
        self._changed[ref] = None
        self._save_if(len(self._changed) >= _ROWS_PER_COMMIT)

    def _save_if(self, due: bool, durable: bool = False) -> None:
        if not due:
            return
        changed, self._changed = self._changed, {}
        if self._rows is None:
            return
        batch = Batch()
        for ref in changed:
            entry = self._entries.get(ref)
            if entry is None:
                batch.delete(ref.encode())
            else:
                numbers = (entry.last_use, entry.uses, entry.is_metadata, entry.is_pinned)
                batch.set(ref.encode(), b" ".join(b"%d" % number for number in numbers))
        self._rows.commit(batch, durable=durable)

    def _remembered(self) -> dict[Ref, list[int]]:
        found: dict[Ref, list[int]] = {}
        for key, value in self._rows.find() if self._rows is not None else ():
            ref = parse_ref(key.decode())
            numbers = value.split(b" ")
            if ref is not None and len(numbers) == 4 and all(n.isdigit() for n in numbers):
                found[ref] = [int(number) for number in numbers]
        return found


def _known(size: int, remembered: list[int] | None) -> Entry:
    if remembered is None:
        return Entry(size, size <= _GUESSED_METADATA_SIZE)
    entry = Entry(size, bool(remembered[2]))
    entry.last_use, entry.uses = remembered[:2]
    entry.is_pinned = bool(remembered[3])
    return entry
