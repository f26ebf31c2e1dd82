"""Many who bring the same blob at once: one of them works, the others get what came of it."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future

from ..blob import Ref

Refused = dict[Ref, str]
Work = Callable[[dict[Ref, bytes]], Refused]
"""Handles blobs; gives those that it refuses, with the reason of each."""


class InFlight:
    """Merges the work on blobs that are under way. Safe to use from many threads."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._futures: dict[Ref, Future[Refused]] = {}

    def run(self, batch: Mapping[Ref, bytes]) -> Refused:
        """Return when the work on all these blobs is done, here or by others; what was refused.

        Raises what the work raises, here or there.
        """
        ours: Future[Refused] = Future()
        with self._lock:
            theirs = {ref: self._futures[ref] for ref in batch if ref in self._futures}
            own = {ref: data for ref, data in batch.items() if ref not in theirs}
            self._futures.update(dict.fromkeys(own, ours))
        refused = self._run_own(own, ours) if own else {}
        # Only now: who waited before his own work was done might be waited for himself.
        for ref, future in theirs.items():
            reason = future.result().get(ref)
            if reason is not None:
                refused[ref] = reason
        return refused

    def _run_own(self, own: dict[Ref, bytes], ours: "Future[Refused]") -> Refused:
        try:
            refused = self._work(own)
        except BaseException as error:
            self._forget(own)
            ours.set_exception(error)
            raise
        self._forget(own)
        ours.set_result(refused)
        return dict(refused)

    def _forget(self, own: Mapping[Ref, bytes]) -> None:
        with self._lock:
            for ref in own:
                del self._futures[ref]
