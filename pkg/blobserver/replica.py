"""The same blobs in several stores."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Self

from ..blob import Ref, SizedRef
from ..errors import ConfigError, Corrupt, NotFound, StoreError, Unavailable, Unsupported
from ..sorted.options import Options
from .merge import merged
from .storage import Generation, Storage

_THREADS_PER_BACKEND: Final = 4
"""Batches that wait for one backend at the same time; more wait their turn."""


class Replica(Storage):
    """Writes to every backend, reads from the first that has a good copy.

    A batch counts as stored when `min_writes` backends have it durably (`receive_many`; the two
    steps `write_many` and `sync` taken alone need every backend, since between them nobody can
    tell which backend took what). A damaged copy that another backend can replace is replaced.
    The backends belong to whoever passed them in: they are not closed with this one.
    """

    def __init__(
        self,
        backends: Sequence[Storage],
        read_backends: Sequence[Storage] = (),
        min_writes: int = 0,
    ) -> None:
        """read_backends: where reads go, in this order; empty: to the backends.

        min_writes: 0 means all. Raises ConfigError when it is more than there are.
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
        self._threads = ThreadPoolExecutor(
            max_workers=_THREADS_PER_BACKEND * len(backends), thread_name_prefix="replica"
        )

    @classmethod
    def from_config(cls, args: Mapping[str, object], resolve: Callable[[str], Storage]) -> Self:
        """Arguments: backends, readBackends (optional), minWritesForSuccess (optional)."""
        with Options("storage-replica", args) as options:
            backends = options.strings("backends")
            readers = options.strings("readBackends", [])
            min_writes = options.integer("minWritesForSuccess", 0)
        return cls([resolve(name) for name in backends], [resolve(n) for n in readers], min_writes)

    # -- reading --------------------------------------------------------------------------------

    def fetch(self, ref: Ref) -> bytes:
        return self._first_good(ref, lambda store: store.fetch(ref))

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._first_good(ref, lambda store: store.fetch_range(ref, offset, length))

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, bytes | NotFound | Corrupt]]:
        """As one batch from the first backend; what it lacks, one by one from the others."""
        wanted = list(refs)
        answered = 0
        try:
            for ref, data in self._readers[0].fetch_many(wanted):
                if isinstance(data, bytes):
                    yield ref, data
                else:
                    yield from super().fetch_many([ref])
                answered += 1
        except Unavailable:
            yield from super().fetch_many(wanted[answered:])

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        """Each backend is asked for what those before it lack.

        Raises the error of a backend only if a blob was found in no other: it may be there.
        """
        left = dict.fromkeys(refs)
        failure: StoreError | None = None
        for store in self._readers:
            if not left:
                return
            try:
                for found in store.stat(list(left)):
                    if found.ref in left:
                        del left[found.ref]
                        yield found
            except Unavailable as error:
                failure = failure or error
        if left and failure is not None:
            raise failure

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        return merged(self._readers, after)

    def _first_good(self, ref: Ref, read: Callable[[Storage], bytes]) -> bytes:
        failures: list[StoreError] = []
        damaged: list[Storage] = []
        for store in self._readers:
            try:
                data = read(store)
            except (NotFound, Unavailable) as error:
                failures.append(error)
            except Corrupt as error:
                failures.append(error)
                damaged.append(store)
            else:
                if damaged:
                    self._heal(ref, store, damaged)
                return data
        raise _gravest(failures)

    def _heal(self, ref: Ref, good: Storage, damaged: Iterable[Storage]) -> None:
        for store in damaged:
            try:
                store.receive(ref, good.fetch(ref))
            except StoreError:
                pass  # the read itself succeeded; the copy stays damaged, and says so when asked

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
        failures: list[StoreError] = []
        self._gather(failures, lambda: self._backends[0].receive_many(batch))
        if len(self._backends) > 1 and len(self._backends) - len(failures) >= self._min_writes:
            *others, last = self._backends[1:]
            answers = [self._threads.submit(store.receive_many, batch) for store in others]
            self._gather(failures, lambda: last.receive_many(batch))
            for answer in answers:
                self._gather(failures, answer.result)
        if len(self._backends) - len(failures) < self._min_writes:
            raise failures[0]
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def remove(self, refs: Iterable[Ref]) -> None:
        """Remove from every backend; if one of them fails, raises, after trying all."""
        wanted = list(refs)
        failures: list[StoreError] = []
        for store in self._backends:
            self._gather(failures, partial(store.remove, wanted))
        if failures:
            raise failures[0]

    @staticmethod
    def _gather(failures: list[StoreError], work: Callable[[], object]) -> None:
        try:
            work()
        except StoreError as error:
            failures.append(error)

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
        self._threads.shutdown()


def _gravest(failures: Sequence[StoreError]) -> StoreError:
    """What to answer when no backend had a blob: "not found" only if every one of them says so."""
    for kind in (Unavailable, Corrupt):
        for failure in failures:
            if isinstance(failure, kind):
                return failure
    return failures[0]
