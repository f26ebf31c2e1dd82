"""Reading from several stores that may hold the same blob."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress

from ..blob import Ref, SizedRef
from ..errors import Corrupt, NotFound, StoreError, Unavailable
from .fanout import Found
from .storage import Storage


class Readers:
    """The first good copy, in the order of the stores.

    "Not found" is the answer only if every store says so: where one did not answer, that is
    Unavailable; where a copy is damaged and there is no other, that is Corrupt.
    """

    def __init__(
        self,
        stores: Sequence[Storage],
        heal: Collection[Storage] = (),
        fill: Collection[Storage] = (),
        lock: "threading.Lock | None" = None,
    ) -> None:
        """heal, fill: those of the stores where a copy that turns out damaged, or to be lacking,
        is replaced from the good one that the read found behind it.
        lock: to be held while removing blobs, or a read might copy back what is half removed.
        """
        self._stores = list(stores)
        self._heal = list(heal)
        self._fill = list(fill)
        self._lock = lock or threading.Lock()

    def fetch(self, ref: Ref) -> bytes:
        return self._first_good(ref, lambda store: store.fetch(ref))

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._first_good(ref, lambda store: store.fetch_range(ref, offset, length))

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        """A good copy first: only where there is none, what is left of a damaged one."""
        try:
            return self.fetch_range(ref, offset, length)
        except Corrupt:
            return self._first_good(ref, lambda store: store.read_range(ref, offset, length))

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[Found]:
        """As one batch from the first store; what it lacks, one by one from the others."""
        wanted = list(refs)
        answered = 0
        try:
            for ref, data in self._stores[0].fetch_many(wanted):
                yield ref, data if isinstance(data, bytes) else self._fetched(ref)
                answered += 1
        except Unavailable:
            for ref in wanted[answered:]:
                yield ref, self._fetched(ref)

    def _fetched(self, ref: Ref) -> bytes | NotFound | Corrupt:
        try:
            return self.fetch(ref)
        except (NotFound, Corrupt) as error:
            return error

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        """Each store is asked for what those before it lack.

        Raises the error of a store only if a blob was found in no other: it may be there.
        """
        left = dict.fromkeys(refs)
        failure: StoreError | None = None
        for store in self._stores:
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

    def _first_good(self, ref: Ref, read: Callable[[Storage], bytes]) -> bytes:
        failures: list[StoreError] = []
        bad: list[Storage] = []
        for store in self._stores:
            try:
                data = read(store)
            except (NotFound, Corrupt, Unavailable) as error:
                failures.append(error)
                if self._needs_a_copy(store, ref, error):
                    bad.append(store)
            else:
                if bad:
                    self._replace(ref, store, bad)
                return data
        raise gravest(failures)

    def _needs_a_copy(self, store: Storage, ref: Ref, error: StoreError) -> bool:
        if isinstance(error, Corrupt):
            return store in self._heal
        if not isinstance(error, NotFound) or store not in self._fill:
            return False
        try:
            # An index knows the blob by its rows and has nothing to fetch: it lacks no copy.
            return not any(store.stat([ref]))
        except StoreError:
            return False

    def _replace(self, ref: Ref, good: Storage, bad: Iterable[Storage]) -> None:
        if not self._lock.acquire(blocking=False):
            return  # the next read will try again
        try:
            data = good.fetch(ref)  # again, for it may have been removed, or was read in part
            for store in bad:
                with suppress(StoreError):  # the copy stays bad, and says so when asked
                    store.receive(ref, data)
        except StoreError:
            pass  # the read itself succeeded
        finally:
            self._lock.release()


def gravest(failures: Sequence[StoreError]) -> StoreError:
    """What to answer when no store had a blob: "not found" only if every one of them says so."""
    for kind in (Unavailable, Corrupt):
        for failure in failures:
            if isinstance(failure, kind):
                return failure
    return failures[0]
