"""Trying again what did not answer."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple, Self, TypeVar

from ..blob import Ref, SizedRef
from ..errors import ConfigError, Unavailable
from ..sorted.options import Options
from .fanout import Found
from .forward import Forward
from .storage import Storage, StreamedBlob

T = TypeVar("T")

_MAX_ATTEMPTS: Final = 100


class Patience(NamedTuple):
    """How often and how long. The n-th wait is up to `first_wait_s` doubled n - 1 times."""

    attempts: int = 5
    first_wait_s: float = 0.1
    longest_wait_s: float = 10.0
    limit_s: float = 60.0  # begun attempts are not cut off; none begins after this


class Retry(Forward):
    """Repeats a call that raised Unavailable, within bounds; other errors go to the caller.

    Every call may be repeated: writing and removing twice is as once. A listing or a stream goes
    on behind what it has yielded; having come further, it has all its attempts again.
    """

    def __init__(
        self,
        inner: Storage,
        patience: Patience = Patience(),  # noqa: B008 - immutable
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """clock: seconds. jitter: from 0 to 1; waits are spread between half and all."""
        super().__init__(inner)
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter

    @classmethod
    def from_config(cls, args: Mapping[str, object], resolve: Callable[[str], Storage]) -> Self:
        """Arguments: storage, attempts (optional)."""
        with Options("storage-retry", args) as options:
            inner = options.string("storage")
            attempts = options.integer("attempts", Patience().attempts)
        if not 1 <= attempts <= _MAX_ATTEMPTS:
            raise ConfigError("configure", "storage-retry, attempts", f"1 to {_MAX_ATTEMPTS}")
        return cls(resolve(inner), Patience(attempts))

    # -- calls that answer at once --------------------------------------------------------------

    def fetch(self, ref: Ref) -> bytes:
        return self._repeat(lambda: self._inner.fetch(ref))

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._repeat(lambda: self._inner.fetch_range(ref, offset, length))

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._repeat(lambda: self._inner.read_range(ref, offset, length))

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = list(blobs)
        return self._repeat(lambda: self._inner.write_many(batch))

    def sync(self) -> None:
        self._repeat(self._inner.sync)

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = list(blobs)
        return self._repeat(lambda: self._inner.receive_many(batch))

    def remove(self, refs: Iterable[Ref]) -> None:
        wanted = list(refs)
        self._repeat(lambda: self._inner.remove(wanted))

    def _repeat(self, call: Callable[[], T]) -> T:
        attempts = _Attempts(self)
        while True:
            try:
                return call()
            except Unavailable as error:
                attempts.wait_after(error)

    # -- calls that answer bit by bit -----------------------------------------------------------

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[Found]:
        left = list(refs)[::-1]
        for found in self._resumed(lambda: self._inner.fetch_many(left[::-1])):
            left.pop()
            yield found

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        left = dict.fromkeys(refs)
        for found in self._resumed(lambda: self._inner.stat(list(left))):
            left.pop(found.ref, None)
            yield found

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        listing = self._resumed(lambda: self._inner.enumerate(after))
        for found in listing:
            after = found.ref  # where the listing begins anew
            yield found

    def _resumed(self, begin: Callable[[], Iterator[T]]) -> Iterator[T]:
        """begin: called anew after a failure; yields what comes behind what was yielded."""
        attempts = _Attempts(self)
        while True:
            try:
                for found in begin():
                    attempts = _Attempts(self)
                    yield found
            except Unavailable as error:
                attempts.wait_after(error)
            else:
                return

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        attempts = _Attempts(self)
        last: str | None = None
        while True:
            try:
                for blob in self._inner.stream(token):
                    if blob.token != last:  # the blob of the token comes once more
                        last = token = blob.token
                        attempts = _Attempts(self)
                        yield blob
            except Unavailable as error:
                attempts.wait_after(error)
            else:
                return


class _Attempts:
    """The bounds of one call."""

    def __init__(self, owner: Retry) -> None:
        self._owner = owner
        self._failures = 0
        self._began = owner._clock()

    def wait_after(self, error: Unavailable) -> None:
        """Wait before the next attempt; raise the error when there is none."""
        owner = self._owner
        patience = owner._patience
        self._failures += 1
        most = min(patience.first_wait_s * 2 ** (self._failures - 1), patience.longest_wait_s)
        wait_s = most * (0.5 + owner._jitter() / 2)
        late = owner._clock() + wait_s - self._began > patience.limit_s
        if self._failures >= patience.attempts or late:
            raise error
        owner._sleep(wait_s)
