"""A quick store in front of a slow one."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Self

from ..blob import Ref, SizedRef
from ..errors import ConfigError, Corrupt, Invalid, NotFound, StoreError, TooLarge, Unavailable
from ..sorted.kv import KeyValue
from ..sorted.options import Options
from ..sorted.registry import open_kv
from .cond import is_routed_as_schema
from .fanout import Found, fetched_side_by_side
from .forward import Forward
from .ledger import Entry, Ledger
from .storage import Storage, check_range
from .unsynced import Unsynced

DEFAULT_SIZE: Final = 512 * 1024 * 1024

_METADATA_SIZE: Final = 64 * 1024
"""Bytes; a schema blob up to this is kept longer than data."""

_ROOM: Final = 10
"""An eviction makes a tenth more room than is needed: each asks the origin a question."""

_HELD_SIZE: Final = 64 * 1024 * 1024
"""Bytes of written blobs that are held until their sync, to be cached then."""

_FILL_COUNT: Final = 100
_FILL_SIZE: Final = 8 * 1024 * 1024
"""Blobs and bytes that `fetch_many` collects before it caches them in one go."""


class ProxyCache(Forward):
    """Keeps what is read or written in `cache`, up to a size; everything is in `origin`.

    The origin alone says what there is: stat, listings, streams and the generation are its own.
    A cache that fails, or lists wrongly, costs time and nothing else. A copy is evicted only when
    the origin has just said that it has the blob. The stores belong to whoever passed them in;
    the rows are closed with this one.
    """

    def __init__(
        self,
        origin: Storage,
        cache: Storage,
        max_size: int = DEFAULT_SIZE,
        eviction: str = "lru",
        rows: KeyValue | None = None,
    ) -> None:
        """max_size: bytes of blobs in the cache. eviction: "lru" or "lfu". rows: see Ledger."""
        if max_size <= 0:
            raise ConfigError("configure", "storage-proxycache, maxCacheBytes", "more than 0")
        super().__init__(origin)
        self._cache = cache
        self._max_size = max_size
        self._ledger = Ledger(eviction, rows)
        self._making_room = threading.Lock()
        self._unsynced: Unsynced[bytes | None] = Unsynced()
        self._held_size = 0
        self._is_loaded = False
        self._load()

    @classmethod
    def from_config(cls, args: Mapping[str, object], resolve: Callable[[str], Storage]) -> Self:
        """Arguments: origin, cache, and optional: maxCacheBytes, eviction ("lru", "lfu"),
        accounting (a sorted store).
        """
        with Options("storage-proxycache", args) as options:
            origin = options.string("origin")
            cache = options.string("cache")
            max_size = options.integer("maxCacheBytes", DEFAULT_SIZE)
            eviction = options.string("eviction", "lru")
            rows = options.table("accounting") if "accounting" in args else None
        stores = resolve(origin), resolve(cache)
        return cls(*stores, max_size, eviction, open_kv(rows) if rows is not None else None)

    @property
    def cached_size(self) -> int:
        """Bytes of the blobs that the cache is known to hold."""
        return self._ledger.total_size

    # -- reading --------------------------------------------------------------------------------

    def fetch(self, ref: Ref) -> bytes:
        data = self._cached(ref, lambda: self._cache.fetch(ref))
        return data if data is not None else self._fetch_and_fill(ref)

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        part = self._cached(ref, lambda: self._cache.fetch_range(ref, offset, length))
        if part is not None:
            return part
        data = self._fetch_and_fill(ref)
        check_range(ref, offset, length, len(data))
        return data[offset : offset + length]

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        try:
            return self.fetch_range(ref, offset, length)
        except Corrupt:
            return self._inner.read_range(ref, offset, length)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[Found]:
        """What is cached as one batch from the cache, the rest as one from the origin."""
        wanted = list(refs)
        cached = {ref for ref in wanted if self._ledger.get(ref) is not None}
        new: dict[Ref, bytes] = {}
        with self._unsynced.watch() as removed:
            try:
                for ref, data in fetched_side_by_side(
                    wanted, lambda ref: 0 if ref in cached else 1, self._ask
                ):
                    if not isinstance(data, bytes) or not (ref in cached or ref.matches(data)):
                        yield from Storage.fetch_many(self, [ref])
                        continue
                    if not self._ledger.touch(ref):
                        new[ref] = data
                    if len(new) >= _FILL_COUNT or sum(map(len, new.values())) > _FILL_SIZE:
                        self._fill(new, removed)
                        new = {}
                    yield ref, data
            finally:
                self._fill(new, removed)

    def _ask(self, number: int, refs: list[Ref]) -> Iterator[Found]:
        if number:
            yield from self._inner.fetch_many(refs)
            return
        answered = 0
        try:
            for found in self._cache.fetch_many(refs):
                yield found
                answered += 1
        except StoreError:
            yield from ((ref, NotFound("fetch", ref)) for ref in refs[answered:])

    def _cached(self, ref: Ref, read: Callable[[], bytes]) -> bytes | None:
        """What the cache has of it; None sends the reader to the origin."""
        entry = self._ledger.get(ref)
        try:
            data = read()
        except NotFound:
            self._ledger.forget_same(ref, entry)
            return None
        except Invalid:
            raise
        except StoreError:
            return None
        if not self._ledger.touch(ref):
            self._count(ref)
        return data

    def _count(self, ref: Ref) -> None:
        """Take up a blob that is in the cache and was not counted: its listing was not whole."""
        try:
            for found in self._cache.stat([ref]):
                self._ledger.add(ref, found.size, is_metadata=False).is_kept = False
        except StoreError:
            pass  # it was read; the next read counts it

    def _fetch_and_fill(self, ref: Ref) -> bytes:
        with self._unsynced.watch() as removed:
            data = self._inner.fetch(ref)
            if not ref.matches(data):
                raise Corrupt("fetch", ref, "the origin of the cache gave other bytes")
            self._fill({ref: data}, removed)
        return data

    # -- writing --------------------------------------------------------------------------------

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = list(blobs)
        with self._unsynced.watch() as removed:
            written = self._inner.write_many(batch)
            self._hold(batch, removed)
        return written

    def _hold(self, blobs: Iterable[tuple[Ref, bytes]], removed: set[Ref]) -> None:
        """Keep what is written until its sync, for the cache; nothing of what was removed since."""
        with self._unsynced.lock:
            room = _HELD_SIZE - self._held_size
            for ref, data in blobs:
                if ref in removed:
                    continue
                held = data if len(data) <= room else None
                if self._unsynced.add([(ref, held)]) and held is not None:
                    self._held_size += len(held)
                    room -= len(held)

    def sync(self) -> None:
        begun = self._unsynced.begin()
        self._inner.sync()
        with self._unsynced.watch() as removed:
            with self._unsynced.finish(begun) as done:
                blobs = self._let_go(done)
            self._fill(blobs, removed)

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = list(blobs)
        with self._unsynced.watch() as removed:
            received = self._inner.receive_many(batch)
            self._fill(dict(batch), removed)
        return received

    def remove(self, refs: Iterable[Ref]) -> None:
        """From the origin, then from the cache: a copy left there would still be served."""
        wanted = list(refs)
        self._inner.remove(wanted)
        self._let_go(self._unsynced.drop(wanted))
        self._cache.remove(wanted)
        self._ledger.forget(wanted)

    def _let_go(self, held: Mapping[Ref, bytes | None]) -> dict[Ref, bytes]:
        blobs = {ref: data for ref, data in held.items() if data is not None}
        with self._unsynced.lock:
            self._held_size -= sum(map(len, blobs.values()))
        return blobs

    # -- pinning --------------------------------------------------------------------------------

    def pin(self, refs: Iterable[Ref]) -> None:
        """Bring blobs into the cache and keep them there until `unpin`.

        Raises TooLarge when they and what is pinned already do not fit, NotFound, and Unavailable
        when the cache does not take them. Lasts as long as the rows do.
        """
        for ref in refs:
            size = len(self.fetch(ref))
            entry = self._ledger.get(ref)
            if self._ledger.pinned_size + size > self._max_size:
                raise TooLarge("pin", ref, f"the cache has {self._max_size} bytes")
            if entry is None:
                raise Unavailable("pin", ref, "the cache did not take it")
            self._ledger.pin([ref], True)

    def unpin(self, refs: Iterable[Ref]) -> None:
        self._ledger.pin(refs, False)

    # -- the cache's content --------------------------------------------------------------------

    def _fill(self, blobs: Mapping[Ref, bytes], removed: set[Ref]) -> None:
        """Cache what is durable in the origin. A cache that fails is no error.

        removed: what was removed since the bytes were read; it must not come back.
        """
        fitting = {ref: data for ref, data in blobs.items() if len(data) <= self._max_size}
        if not fitting or not self._load():
            return
        entries = self._reserve(fitting)
        if entries is None:
            return
        try:
            self._cache.receive_many(fitting.items())
        except StoreError:
            self._recount(fitting)
        finally:
            for entry in entries:
                entry.is_kept = False
        with self._unsynced.lock:
            gone = [ref for ref in fitting if ref in removed]
        if gone:
            self._cache.remove(gone)
            self._ledger.forget(gone)

    def _load(self) -> bool:
        """Learn what is in the cache. False while it can't be listed: then nothing is added."""
        if not self._is_loaded:
            try:
                self._ledger.load(self._cache.enumerate())
                self._is_loaded = True
            except StoreError:
                return False
        return True

    def _reserve(self, blobs: Mapping[Ref, bytes]) -> list[Entry] | None:
        """Count blobs that are about to be written; None if there is no room for them."""
        with self._making_room:
            known = {ref for ref in blobs if self._ledger.get(ref) is not None}
            need = sum(len(data) for ref, data in blobs.items() if ref not in known)
            over = self._ledger.total_size + need - self._max_size
            if over > 0:
                self._evict(over + self._max_size // _ROOM)
            if self._ledger.total_size + need > self._max_size:
                return None
            return [
                self._ledger.add(ref, len(data), _is_metadata(data)) for ref, data in blobs.items()
            ]

    def _evict(self, size: int) -> None:
        """Remove so many bytes of copies from the cache, if the origin has them all.

        What the origin does not say that it has may be the last copy: it stays, and is not asked
        about again while this cache is open.
        """
        victims = self._ledger.victims(size)
        try:
            confirmed = set(self._inner.stat([ref for ref, _ in victims]))
            going = [found.ref for found in victims if found in confirmed]
            self._cache.remove(going)
        except StoreError:
            return
        self._ledger.forget(going)
        for found in victims:
            entry = self._ledger.get(found.ref)
            if entry is not None and found not in confirmed:
                entry.is_kept = True

    def _recount(self, blobs: Mapping[Ref, bytes]) -> None:
        """After a failed write: some may be there. What can't be asked stays counted."""
        try:
            there = {found.ref for found in self._cache.stat(list(blobs))}
        except StoreError:
            return
        self._ledger.forget(ref for ref in blobs if ref not in there)

    def close(self) -> None:
        self._ledger.close()


def _is_metadata(data: bytes) -> bool:
    return len(data) <= _METADATA_SIZE and is_routed_as_schema(data)
