"""The only way from the event loop into the library: a bounded number of threads.

One hop costs about as much as reading ten small blobs: enter once for a page or a batch, never
once for each blob. A plain pool, because a hop through anyio's costs half as much again.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

THREADS: Final = 32
"""Calls into the library at one time; the others wait their turn."""


class Bridge:
    """Runs blocking calls in threads."""

    def __init__(self, threads: int = THREADS, name: str = "bridge") -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def call(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run a blocking function in a thread; its errors are raised here.

        Who is cancelled while he waits leaves the call running to its end.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *args)

    def begin(self, function: Callable[[*Ts], T], *args: *Ts) -> Future[T]:
        """Let a thread run a blocking function. A later call may wait for this one."""
        return self._pool.submit(function, *args)

    async def pages(self, items: Iterator[T]) -> AsyncGenerator[T, None]:
        """Pull a blocking iterator, one hop for each item: make the items pages.

        The iterator is used by one thread at a time; leaving the loop closes it.
        """
        done = object()

        def step() -> object:
            return next(items, done)

        pulled: asyncio.Future[object] | None = None
        try:
            while True:
                pulled = asyncio.ensure_future(self.call(step))
                item = await asyncio.shield(pulled)
                if item is done:
                    return
                yield item  # type: ignore[misc]  # anything but `done` came from the iterator
        finally:
            await self._close(items, pulled)

    async def _close(
        self, items: Iterator[object], pulled: "asyncio.Future[object] | None"
    ) -> None:
        """Close the iterator, once no thread is in it any more."""
        close = getattr(items, "close", None)
        if close is None:
            return
        if pulled is not None and not pulled.done():
            await asyncio.wait([pulled])
        await self.call(close)

    def close(self) -> None:
        """Wait for the calls under way. Further ones are refused."""
        self._pool.shutdown()
