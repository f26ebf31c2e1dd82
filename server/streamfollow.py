"""Subscriptions of one stream: what arrives is told when it can be read (server/README.md)."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from ..blob import Ref, SizedRef
from ..blobserver.storage import Storage
from ..blobserver.wire import TOPIC_BLOBS, TOPIC_CHANGES, Code, ServerMachine
from ..blobserver.wire.events import Subscribe
from .answers import compact_json
from .bridge import Bridge
from .streamcodes import Failure, failure
from .streamlog import Logs, Positions

QUIET_S: Final = 0.02
"""What arrives within this time is told together."""

NO_TOPIC: Final = Failure(Code.UNSUPPORTED, "there is no such topic here")
NO_RIGHT: Final = Failure(Code.FORBIDDEN, "no right to enumerate")
TOO_OLD: Final = Failure(Code.GONE, "the cursor is too old: compare everything, subscribe anew")


class Follower:
    """One subscription. `landed` is called when something was queued."""

    def __init__(
        self,
        asked: Subscribe,
        machine: ServerMachine,
        storage: Storage,
        bridge: Bridge,
        logs: Logs,
        landed: Callable[[], None],
        ended: Callable[["Follower"], None],
    ) -> None:
        """ended: called once, when it is over, by whatever end."""
        self._asked = asked
        self._machine = machine
        self._storage = storage
        self._bridge = bridge
        self._logs = logs
        self._landed = landed
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._is_told = False
        self._has_room = asyncio.Event()
        self._forget = logs.listen(self._on_news)
        self._task = self._loop.create_task(self._follow())
        self._task.add_done_callback(lambda _: self._forget())
        self._task.add_done_callback(lambda _: ended(self))

    def _on_news(self) -> None:
        """In any thread. Once for a burst: each call would cost its uploader time."""
        if not self._is_told:
            self._is_told = True
            # When the loop has ended there is nobody to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._news.set)

    def drained(self) -> None:
        """Something of the queue has left."""
        self._has_room.set()

    def close(self) -> None:
        self._task.cancel()

    async def _follow(self) -> None:
        asked, logs, machine = self._asked, self._logs, self._machine
        request = asked.request
        try:
            place = logs.positions(asked.cursor) if asked.cursor else logs.now()
            if place is None or not self._is_kept(place):
                machine.error(request, *TOO_OLD)
                return
            machine.arrived(request, logs.cursor(place), [])
            self._landed()
            while machine.is_wanted(request):
                self._news.clear()
                self._is_told = False
                further = await self._tell(place)
                if further is None:
                    machine.error(request, *TOO_OLD)
                    return
                if further == place:
                    await self._news.wait()
                    await asyncio.sleep(QUIET_S)
                place = further
        except Exception as error:  # it is told, and the connection goes on
            machine.error(request, *failure(error))
        finally:
            self._landed()

    def _is_kept(self, place: Positions) -> bool:
        blobs, changes = place
        return (
            self._logs.blobs.after(blobs, 0) is not None
            and self._logs.changes.after(changes, 0) is not None
        )

    async def _tell(self, place: Positions) -> Positions | None:
        """Tell the next page of each topic; where that leads, or None where it is forgotten."""
        asked = self._asked
        blobs, changes = place
        if asked.topics & TOPIC_BLOBS:
            page = self._logs.blobs.after(blobs)
            if page is None:
                return None
            found = await self._bridge.call(sizes, self._storage, page.refs) if page.refs else []
            await self._room()
            blobs = page.next
            if found:
                self._machine.arrived(asked.request, self._logs.cursor((blobs, changes)), found)
        if asked.topics & TOPIC_CHANGES:
            page = self._logs.changes.after(changes)
            if page is None:
                return None
            changes = page.next
            if page.refs:
                await self._room()
                change = compact_json({"indexed": page.refs}).encode()
                self._machine.changed(asked.request, self._logs.cursor((blobs, changes)), change)
        self._landed()
        return blobs, changes

    async def _room(self) -> None:
        """Wait until the peer has taken most of what it was told."""
        while self._machine.event_room <= 0:
            self._has_room.clear()
            await self._has_room.wait()


def refusal(topics: int, logs: Logs, *, may_enumerate: bool) -> Failure | None:
    """Why a client can't subscribe to these topics, if it can't."""
    if not may_enumerate:
        return NO_RIGHT
    known = TOPIC_BLOBS | (TOPIC_CHANGES if logs.has_changes else 0)
    return None if topics and not topics & ~known else NO_TOPIC


def sizes(storage: Storage, refs: list[Ref]) -> list[SizedRef]:
    """Those that can be read by this store, in the order given. Blocks."""
    found: dict[Ref, int] = dict(storage.stat(refs))
    return [SizedRef(ref, found[ref]) for ref in refs if ref in found]
