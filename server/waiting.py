"""Long polls: sleeping until a blob arrives, by whatever way it comes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ..blob import Ref
from ..blobserver.hub import Hub

MAX_WAIT_S: Final = 30


async def wait_until(
    look: Callable[[], Awaitable[bool]],
    hubs: Sequence[Hub],
    wait_s: float,
    is_wanted: Callable[[Ref], bool],
) -> None:
    """Call `look` after each arrival that is wanted, until it says true or the time is up.

    is_wanted: called in the thread of the uploader: must be quick.
    It looks once more at the beginning, for what came before we listened, and at the end.
    """
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()

    def on_arrival(ref: Ref) -> None:
        if is_wanted(ref):
            loop.call_soon_threadsafe(arrived.set)

    forget = [hub.listen(on_arrival) for hub in hubs]
    try:
        async with asyncio.timeout(wait_s):
            while not await look():
                await arrived.wait()
                arrived.clear()
    except TimeoutError:
        await look()
    finally:
        for stop in forget:
            stop()
