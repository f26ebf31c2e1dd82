"""A store that tells its hub of every blob that becomes durable in it, whoever stored it."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from ..blob import Ref, SizedRef
from ..blobserver.hub import Hub
from ..blobserver.storage import Generation, Storage, StreamedBlob
from ..errors import Corrupt, NotFound

Watcher = Callable[[Sequence[tuple[Ref, bytes | None]]], None]
"""Called with blobs that are durable now, with their bytes where these are still at hand.

Holds up whoever stored them: must be quick. Must not raise.
"""

KEPT_BYTES: Final = 64 * 1024 * 1024
"""Bytes of written blobs that are kept until they are synced. Their writers hold them, too."""


class Watched(Storage):
    """Forwards everything. Combinators are given watched stores, so no way in goes unseen."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.hub = Hub()
        self._watchers: list[Watcher] = []
        self._lock = threading.Lock()
        # Whether a sync of `inner` is all that its own way of receiving adds to writing.
        self._syncs_all = type(inner).receive_many is Storage.receive_many
        self._unsynced: list[tuple[Ref, bytes | None]] = []
        self._kept_bytes = 0

    def fetch(self, ref: Ref) -> bytes:
        return self.inner.fetch(ref)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Register a watcher. Returns a function that unregisters it."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = list(blobs)
        written = self.inner.write_many(batch)
        with self._lock:
            for ref, data in batch:
                keeps = self._kept_bytes + len(data) <= KEPT_BYTES
                self._unsynced.append((ref, data if keeps else None))
                self._kept_bytes += len(data) if keeps else 0
        return written

    def sync(self) -> None:
        with self._lock:
            arrived, self._unsynced, self._kept_bytes = self._unsynced, [], 0
        try:
            self.inner.sync()
        except BaseException:
            with self._lock:  # the next sync may succeed: it tells of these, too
                self._unsynced = [(ref, None) for ref, _ in arrived] + self._unsynced
            raise
        for watcher in list(self._watchers):
            watcher(arrived)
        # Listeners are told the ref.
        self.hub.notify([(ref, data or b"") for ref, data in arrived])

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = list(blobs)
        if self._syncs_all:
            # So that what was written before, and may be referred to, is told before or with it.
            received = self.write_many(batch)
            self.sync()
            return received
        received = self.inner.receive_many(batch)
        for watcher in list(self._watchers):
            watcher(batch)
        self.hub.notify(batch)
        return received

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        return self.inner.stat(refs)

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        return self.inner.enumerate(after)

    def remove(self, refs: Iterable[Ref]) -> None:
        self.inner.remove(refs)

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self.inner.fetch_range(ref, offset, length)

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self.inner.read_range(ref, offset, length)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, bytes | NotFound | Corrupt]]:
        return self.inner.fetch_many(refs)

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        return self.inner.stream(token)

    def generation(self) -> Generation | None:
        return self.inner.generation()

    def reset_generation(self) -> None:
        self.inner.reset_generation()

    def close(self) -> None:
        self.inner.close()
