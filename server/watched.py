"""A store that tells its hub of every blob that becomes durable in it, whoever stored it."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
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
        self._syncing: list[Future[None]] = []

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
        """Return when all that was written before is durable and told, whoever's sync took it.

        Fails with a sync under way: blobs of this one's caller may be among its blobs.
        """
        done: Future[None] = Future()
        with self._lock:
            arrived, self._unsynced, self._kept_bytes = self._unsynced, [], 0
            earlier = list(self._syncing)
            self._syncing.append(done)
        untold = arrived
        try:
            self.inner.sync()
            untold = []
            self._tell(arrived)
        except BaseException as error:
            self._end(done, untold)
            done.set_exception(error)
            raise
        self._end(done)
        done.set_result(None)
        for other in earlier:  # each is done without waiting for later ones
            other.result()

    def _end(self, done: Future[None], untold: Sequence[tuple[Ref, object]] = ()) -> None:
        """Forget a sync. untold: what the next one, which may succeed, is to tell of, too."""
        with self._lock:
            self._syncing.remove(done)
            self._unsynced = [(ref, None) for ref, _ in untold] + self._unsynced

    def _tell(self, arrived: Sequence[tuple[Ref, bytes | None]]) -> None:
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
        self._tell(batch)
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
