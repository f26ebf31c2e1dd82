"""The same blobs in several stores."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, Self

from ..blob import Ref, SizedRef
from ..errors import ConfigError, StoreError, Unsupported
from ..sorted.kv import KeyValue
from ..sorted.memory import MemoryKeyValue
from ..sorted.options import Options
from ..sorted.registry import open_kv
from .backlog import Backlog
from .fanout import FanOut, Found, errors_in, streamed_by_ref
from .merge import merged
from .readers import Readers
from .repair import Repaired, complete, repair
from .storage import Generation, Storage, StreamedBlob

_CATCH_UP_COUNT: Final = 100
"""Blobs that a backend is given in one go of what it missed."""


class Replica(Storage):
    """Writes to every backend, reads from the first that has a good copy.

    A batch counts as stored when `min_writes` backends have it durably (`receive_many`; the two
    steps `write_many` and `sync` taken alone need every backend, since between them nobody can
    tell which backend took what). What a backend misses is noted, and given to it later. A copy
    that a read finds damaged or lacking is replaced from the one that it finds behind it.
    The backends belong to whoever passed them in: they are not closed with this one.
    """

    def __init__(
        self,
        backends: Sequence[Storage],
        read_backends: Sequence[Storage] = (),
        min_writes: int = 0,
        queue: KeyValue | None = None,
    ) -> None:
        """read_backends: where reads go, in this order; empty: to the backends.

        min_writes: 0 means all. Raises ConfigError when it is more than there are.
        queue: where to note what a backend missed; None: in memory, until this is closed. It is
        closed with this one.
        """
        if not backends:
            raise ConfigError("configure", "storage-replica, backends", "needs one at least")
        if not 0 <= min_writes <= len(backends):
            raise ConfigError(
                "configure",
                "storage-replica, minWritesForSuccess",
                f"{min_writes} of {len(backends)} backends can't be reached",
            )
        self._backends = list(backends)
        self._readers = list(read_backends or backends)
        self._min_writes = min_writes or len(backends)
        self._removing = threading.Lock()
        self._catching_up = threading.Lock()
        self._reading = Readers(self._readers, heal=backends, fill=backends, lock=self._removing)
        self._fan_out = FanOut(len(backends), "replica")
        self._backlog = Backlog(queue if queue is not None else MemoryKeyValue())

    @classmethod
    def from_config(cls, args: Mapping[str, object], resolve: Callable[[str], Storage]) -> Self:
        """Arguments: backends, and optional: readBackends, minWritesForSuccess, queue (a sorted
        store).
        """
        with Options("storage-replica", args) as options:
            backends = options.strings("backends")
            readers = options.strings("readBackends", [])
            min_writes = options.integer("minWritesForSuccess", 0)
            rows = options.table("queue") if "queue" in args else None
        stores = [resolve(name) for name in backends], [resolve(name) for name in readers]
        return cls(*stores, min_writes, open_kv(rows) if rows is not None else None)

    # -- reading --------------------------------------------------------------------------------

    def fetch(self, ref: Ref) -> bytes:
        return self._reading.fetch(ref)

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._reading.fetch_range(ref, offset, length)

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._reading.read_range(ref, offset, length)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[Found]:
        """As one batch from the first backend; what it lacks, one by one from the others."""
        return self._reading.fetch_many(refs)

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        """Each backend is asked for what those before it lack.

        Raises the error of a backend only if a blob was found in no other: it may be there.
        """
        return self._reading.stat(refs)

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        return merged(self._readers, after)

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        return streamed_by_ref(self, token)

    # -- writing --------------------------------------------------------------------------------

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = list(blobs)
        for store in self._backends:
            store.write_many(batch)
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def sync(self) -> None:
        for store in self._backends:
            store.sync()

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        """Store in the first backend, then in the others at once.

        The first leads because the others may need it: an index reads from it what the blobs
        refer to. Raises the first error when fewer than `min_writes` backends succeeded.
        """
        batch = list(blobs)
        first, *others = [partial(store.receive_many, batch) for store in self._backends]
        failures = errors_in(self._fan_out.attempt([first]))
        if len(self._backends) - len(failures) >= self._min_writes:
            failures += errors_in(self._fan_out.attempt(others))
        if len(self._backends) - len(failures) < self._min_writes:
            raise failures[0]
        if failures:
            self._backlog.add(ref for ref, _ in batch)
        elif len(self._backlog):
            self._fan_out.start(self._catch_up_behind)  # all backends are back
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def remove(self, refs: Iterable[Ref]) -> None:
        """Remove from every backend; if one of them fails, raises, after trying all."""
        wanted = list(refs)
        with self._removing:
            failures = errors_in(
                self._fan_out.attempt([partial(store.remove, wanted) for store in self._backends])
            )
            if len(self._backlog):
                self._backlog.discard(wanted)
        if failures:
            raise failures[0]

    # -- catching up ----------------------------------------------------------------------------

    @property
    def is_repair_due(self) -> bool:
        """Whether more was missed than the backlog holds: then only `repair` helps."""
        return self._backlog.is_overfull

    def catch_up(self) -> int:
        """Give backends what they missed while they were away. Returns how many refs still wait.

        Happens by itself, behind a batch that all backends took. Raises Unavailable while one of
        them is away.
        """
        while refs := self._backlog.first(_CATCH_UP_COUNT):
            with self._removing:
                complete(self._backends, refs)
                # Also what is in no backend whole: waiting longer would not bring it back.
                self._backlog.discard(refs)
        return len(self._backlog)

    def _catch_up_behind(self) -> None:
        if self._catching_up.acquire(blocking=False):
            try:
                self.catch_up()
            except StoreError:
                pass  # away again: the rows stay, the next batch tries again
            finally:
                self._catching_up.release()

    def repair(
        self, verify: bool = True, progress: Callable[[Repaired], None] | None = None
    ) -> Repaired:
        """Make all backends hold the same whole blobs (`repair.repair`)."""
        return repair(self._backends, verify=verify, lock=self._removing, progress=progress)

    # -- generation -----------------------------------------------------------------------------

    def generation(self) -> Generation | None:
        """The latest time; the tokens of those that have one, joined by `/`."""
        found = [one for store in self._backends if (one := store.generation()) is not None]
        if not found:
            return None
        return Generation(
            max(one.initialised for one in found), "/".join(one.token for one in found)
        )

    def reset_generation(self) -> None:
        able = [store for store in self._backends if store.generation() is not None]
        if not able:
            raise Unsupported("reset generation", type(self).__name__)
        for store in able:
            store.reset_generation()

    def close(self) -> None:
        self._fan_out.close()
        self._backlog.close()
