"""The only way from the event loop into the library: a bounded number of threads.

One hop costs about as much as reading ten small blobs: enter once for a page or a batch, never
once for each blob.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, TypeVar, TypeVarTuple

import anyio.to_thread
from anyio import CapacityLimiter

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

THREADS: Final = 32
"""Calls into the library at one time; the others wait their turn."""


class Bridge:
    """Runs blocking calls in threads."""

    def __init__(self, threads: int = THREADS) -> None:
        self._limiter = CapacityLimiter(threads)

    async def call(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run a blocking function in a thread; its errors are raised here."""
        return await anyio.to_thread.run_sync(function, *args, limiter=self._limiter)

    async def pages(self, items: Iterator[T]) -> AsyncIterator[T]:
        """Pull a blocking iterator, one hop for each item: make the items pages.

        The iterator is used by one thread at a time; leaving the loop closes it.
        """
        done = object()

        def step() -> object:
            return next(items, done)

        try:
            while (item := await self.call(step)) is not done:
                yield item  # type: ignore[misc]  # anything but `done` came from the iterator
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                with anyio.CancelScope(shield=True):
                    await self.call(close)
