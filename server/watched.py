"""A store that tells its hub of every blob that becomes durable in it, whoever stored it."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..blob import Ref, SizedRef
from ..blobserver.hub import Hub
from ..blobserver.storage import Generation, Storage, StreamedBlob
from ..errors import Corrupt, NotFound

Watcher = Callable[[Sequence[tuple[Ref, bytes | None]]], None]
"""Called with blobs that are durable now, with their bytes where these are still at hand.

Must be quick and must not raise.
"""


class Watched(Storage):
    """Forwards everything. Combinators are given watched stores, so no way in goes unseen."""

    def __init__(self, inner: Storage) -> None:
        self.inner = inner
        self.hub = Hub()
        self._watchers: list[Watcher] = []
        self._lock = threading.Lock()
        self._unsynced: list[tuple[Ref, bytes]] = []

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
            # Listeners are told the ref; the bytes are not held on to.
            self._unsynced += [(ref, b"") for ref, _ in batch]
        return written

    def sync(self) -> None:
        with self._lock:
            arrived, self._unsynced = self._unsynced, []
        self.inner.sync()
        for watcher in list(self._watchers):
            watcher([(ref, None) for ref, _ in arrived])
        self.hub.notify(arrived)

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = list(blobs)
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
