"""A store that fails on purpose, repeatably: what other parts are tried against."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Final, NamedTuple, Self, TypeVar

from ..blob import Ref, SizedRef
from ..errors import ConfigError, Corrupt, NotFound, ReadOnly, StoreError, Unavailable
from ..sorted.options import Options
from .fanout import Found
from .forward import Forward
from .storage import Storage, StreamedBlob

OPERATIONS: Final = (
    *("fetch", "fetch_range", "read_range", "fetch_many", "stat", "enumerate", "stream"),
    *("write_many", "sync", "receive_many", "remove"),
)

ERRORS: Final[Mapping[str, type[StoreError]]] = {
    "unavailable": Unavailable,
    "readonly": ReadOnly,
    "corrupt": Corrupt,
    "notfound": NotFound,
}
"""Effects that raise, before anything was done, half-way or after all was done."""

LIES: Final = ("empty", "partial", "late", "stale")
"""Effects on `enumerate` and `stat` that look like success: nothing is yielded; some are left out;
what was stored last is left out; what was removed last is still yielded as well."""

DAMAGES: Final = ("flip", "cut")
"""Effects on what is read: one bit is wrong; the end is missing."""

_MEMORY: Final = 10
"""Blobs stored or removed last, which `late` and `stale` know."""

_REACH: Final = 20
"""An error of a call that answers bit by bit comes before so many steps, or at the end."""

T = TypeVar("T")


class Fault(NamedTuple):
    """What goes wrong, and when: with a probability, or at certain calls, or both."""

    effect: str  # a key of ERRORS, or one of LIES or DAMAGES
    operations: Sequence[str] = OPERATIONS
    rate: float = 0.0
    calls: Sequence[int] = ()  # of each of the operations, counted from 1


class Faulty(Forward):
    """Passes calls on, and lets some fail. The same seed and calls give the same failures.

    Unlike other stores it may break the contract: that is what lies and damages are.
    """

    def __init__(self, inner: Storage, faults: Sequence[Fault], seed: int = 0) -> None:
        super().__init__(inner)
        for fault in faults:
            _check(fault)
        self.faults = list(faults)
        """May be changed at any time; empty: the store works."""
        self.failures = 0
        """How many calls went wrong so far."""
        self._random = random.Random(seed)  # noqa: S311 - repeatable is the point
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._stored: dict[Ref, None] = {}
        self._removed: dict[Ref, SizedRef] = {}

    @classmethod
    def from_config(cls, args: Mapping[str, object], resolve: Callable[[str], Storage]) -> Self:
        """Arguments: storage; effect, operations (default: all), rate in percent, seed."""
        with Options("storage-faulty", args) as options:
            inner = options.string("storage")
            effect = options.string("effect", "unavailable")
            operations = options.strings("operations", list(OPERATIONS))
            percent = options.integer("percent", 0)
            seed = options.integer("seed", 0)
        return cls(resolve(inner), [Fault(effect, operations, percent / 100)], seed)

    # -- reading --------------------------------------------------------------------------------

    def fetch(self, ref: Ref) -> bytes:
        return self._read("fetch", lambda: self._inner.fetch(ref))

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._read("fetch_range", lambda: self._inner.fetch_range(ref, offset, length))

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._read("read_range", lambda: self._inner.read_range(ref, offset, length))

    def _read(self, operation: str, call: Callable[[], bytes]) -> bytes:
        effect = self._effect(operation)
        self._raise(effect, operation)
        return self._damaged(effect, call())

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[Found]:
        effect = self._effect("fetch_many")
        for ref, data in self._broken_off(effect, "fetch_many", self._inner.fetch_many(refs)):
            yield ref, self._damaged(effect, data) if isinstance(data, bytes) else data

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        effect = self._effect("stream")
        for blob in self._broken_off(effect, "stream", self._inner.stream(token)):
            yield blob._replace(data=self._damaged(effect, blob.data))

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        effect = self._effect("stat")
        wanted = list(refs)
        with self._lock:
            stale = sorted(self._removed[ref] for ref in set(wanted) if ref in self._removed)
        found = self._lied(effect, self._inner.stat(wanted), stale)
        return self._broken_off(effect, "stat", found)

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        effect = self._effect("enumerate")
        with self._lock:
            stale = sorted(found for ref, found in self._removed.items() if ref > after)
        listing = self._lied(effect, self._inner.enumerate(after), stale)
        return self._broken_off(effect, "enumerate", listing)

    # -- writing --------------------------------------------------------------------------------

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        return self._written("write_many", list(blobs), self._inner.write_many)

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        return self._written("receive_many", list(blobs), self._inner.receive_many)

    def _written(
        self,
        operation: str,
        batch: list[tuple[Ref, bytes]],
        write: Callable[[list[tuple[Ref, bytes]]], list[SizedRef]],
    ) -> list[SizedRef]:
        effect = self._effect(operation)
        batch_taken = batch[: self._how_far(effect, len(batch))]
        written = write(batch_taken) if batch_taken or not batch else []
        with self._lock:
            for ref, _ in batch_taken:
                self._removed.pop(ref, None)
                self._stored[ref] = None
            _forget_oldest(self._stored)
        self._raise(effect, operation)
        return written

    def sync(self) -> None:
        effect = self._effect("sync")
        if self._how_far(effect, 1):
            self._inner.sync()
        self._raise(effect, "sync")

    def remove(self, refs: Iterable[Ref]) -> None:
        effect = self._effect("remove")
        wanted = list(refs)
        wanted = wanted[: self._how_far(effect, len(wanted))]
        gone = list(self._inner.stat(wanted))
        self._inner.remove(wanted)
        with self._lock:
            for found in gone:
                self._stored.pop(found.ref, None)
                self._removed[found.ref] = found
            _forget_oldest(self._removed)
        self._raise(effect, "remove")

    # -- what goes wrong ------------------------------------------------------------------------

    def _effect(self, operation: str) -> str:
        """The effect on this call; "" for none. The first fault that is due counts."""
        with self._lock:
            self._calls[operation] += 1
            number = self._calls[operation]
            for fault in self.faults:
                if operation in fault.operations and (
                    number in fault.calls or (fault.rate and self._random.random() < fault.rate)
                ):
                    self.failures += 1
                    return fault.effect
        return ""

    def _raise(self, effect: str, operation: str) -> None:
        if effect in ERRORS:
            raise ERRORS[effect](operation, "blobs", "a planted fault")

    def _how_far(self, effect: str, steps: int) -> int:
        """How many of the steps are done: all, if nothing is raised."""
        if effect not in ERRORS:
            return steps
        with self._lock:
            return self._random.choice((0, steps // 2, steps))

    def _broken_off(self, effect: str, operation: str, found: Iterator[T]) -> Iterator[T]:
        """What is yielded before the error, if there is one."""
        if effect in ERRORS:
            with self._lock:
                steps = self._random.randrange(_REACH)
            yield from islice(found, steps)
            self._raise(effect, operation)
        yield from found

    def _damaged(self, effect: str, data: bytes) -> bytes:
        if not data or effect not in DAMAGES:
            return data
        with self._lock:
            place = self._random.randrange(len(data))
        if effect == "cut":
            return data[:place]
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    def _lied(
        self, effect: str, found: Iterator[SizedRef], stale: Sequence[SizedRef]
    ) -> Iterator[SizedRef]:
        if effect == "empty":
            return iter(())
        if effect == "partial":
            with self._lock:
                share = self._random.random()
                left_out = [self._random.random() > share for _ in range(_REACH)]
            return (one for one, out in zip(found, cycle(left_out), strict=False) if not out)
        if effect in ("late", "stale"):
            kept = [one for one in found if one.ref not in self._stored]
            return iter(sorted(kept + list(stale) if effect == "stale" else kept))
        return found


def _forget_oldest(memory: dict[Ref, T]) -> None:
    while len(memory) > _MEMORY:
        del memory[next(iter(memory))]


def _check(fault: Fault) -> None:
    wrong = sorted(set(fault.operations) - set(OPERATIONS))
    if fault.effect not in (*ERRORS, *LIES, *DAMAGES):
        raise ConfigError("configure", "storage-faulty, effect", f"unknown: {fault.effect}")
    if wrong:
        raise ConfigError("configure", "storage-faulty, operations", f"unknown: {wrong}")
    if not 0 <= fault.rate <= 1:
        raise ConfigError("configure", "storage-faulty, rate", "from 0 to 1 (100 percent)")
