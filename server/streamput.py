"""Uploads of one stream: what has come is checked and stored in batches, one sync for each.

While one batch is being stored the next one gathers, so their sizes find themselves: a lone blob
is durable after one sync, of a flood a quarter of the window or more is stored at a time. What of
the next batch has come is checked meanwhile.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, NamedTuple

from ..blob import Ref
from ..blobserver.receive import check
from ..blobserver.storage import Storage
from ..blobserver.wire import Code, ServerMachine, unpack
from ..blobserver.wire.events import Put
from ..errors import Corrupt, StoreError
from .bridge import Bridge
from .streamcodes import Failure, codec, failure
from .uploads import receive_all

NO_RUSH_S: Final = 0.05
"""How long blobs without hurry wait for others, to be synced with them. A window lasts 200 ms at
20 MB/s: with a round trip of 100 ms the wait and the sync must fit into the other half."""


CHECKED_AHEAD_BYTES: Final = 512 * 1024
"""So much of the next batch is checked at a time: a hop costs as much as a blob."""


class Checked(NamedTuple):
    """What was found of some blobs. good: number of the request, name and bytes of each."""

    good: list[tuple[int, Ref, bytes]]
    refused: list[tuple[int, Failure]]


class Taken(NamedTuple):
    """What became of a batch. stored: numbers of requests."""

    stored: list[int]
    refused: list[tuple[int, Failure]]


def check_all(puts: Sequence[Put]) -> Checked:
    """Unpack blobs, and look whether they have their names. Blocks."""
    checked = Checked([], [])
    for put in puts:
        try:
            data = unpack(codec(), put.data, put.size) if put.packed else put.data
            check(put.ref, data)
        except Corrupt as error:
            checked.refused.append((put.request, Failure(Code.MISMATCH, error.reason)))
        except StoreError as error:
            checked.refused.append((put.request, failure(error)))
        else:
            checked.good.append((put.request, put.ref, data))
    return checked


def take(storage: Storage, puts: Sequence[Put], ahead: Sequence[Future[Checked]] = ()) -> Taken:
    """Check and store blobs durably, each for itself, behind those checked ahead. Blocks."""
    last = check_all(puts)
    parts = [*(future.result() for future in ahead), last]
    good = [blob for part in parts for blob in part.good]
    taken = Taken([], [failed for part in parts for failed in part.refused])
    refused = receive_all(storage, [(ref, data) for _, ref, data in good])
    for request, ref, _ in good:
        if ref in refused:
            taken.refused.append((request, failure(refused[ref])))
        else:
            taken.stored.append(request)
    return taken


class Putting:
    """The lane of one connection. `landed` is called when something was answered."""

    def __init__(
        self,
        machine: ServerMachine,
        storage: Storage,
        bridge: Bridge,
        landed: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._storage = storage
        self._bridge = bridge
        self._landed = landed
        self._waiting: list[Put] = []
        self._flying: list[Put] = []
        self._ahead: list[Future[Checked]] = []
        self._ahead_count = 0  # of those that wait, the first so many are in `_ahead`
        self._unchecked_bytes = 0
        self._is_urgent = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def add(self, put: Put) -> None:
        """Take a blob; call `go` when all that came with it is added."""
        self._waiting.append(put)
        self._unchecked_bytes += len(put.data)
        self._is_urgent = self._is_urgent or not put.no_rush

    def go(self) -> None:
        """Store what waits, if it is time."""
        if not self._waiting or self._is_closed:
            return
        if self._flying:
            if self._unchecked_bytes >= CHECKED_AHEAD_BYTES:
                self._check_ahead()
            return
        # Not half of it: two blobs more may not fit behind a batch of half a window.
        is_much = self._machine.unanswered_put_bytes * 4 >= self._machine.hello.window
        if self._is_urgent or is_much or self._machine.peer_leaves:
            self._start()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(NO_RUSH_S, self._hurry)

    def _hurry(self) -> None:
        self._timer = None
        self._is_urgent = True
        self.go()

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flying, self._waiting, self._is_urgent = self._waiting, [], False
        ahead, self._ahead = self._ahead, []
        unchecked = self._flying[self._ahead_count :]
        self._ahead_count = self._unchecked_bytes = 0
        self._task = asyncio.get_running_loop().create_task(self._store(unchecked, ahead))

    def _check_ahead(self) -> None:
        self._ahead.append(self._bridge.begin(check_all, self._waiting[self._ahead_count :]))
        self._ahead_count, self._unchecked_bytes = len(self._waiting), 0

    async def _store(self, unchecked: Sequence[Put], ahead: Sequence[Future[Checked]]) -> None:
        puts = self._flying
        try:
            taken = await self._bridge.call(take, self._storage, unchecked, ahead)
        except Exception as error:
            told = failure(error)
            taken = Taken([], [(put.request, told) for put in puts])
        self._flying = []
        if self._is_closed:
            self._keep_the_rest()
            return
        self._machine.ack(taken.stored)
        for request, (code, text) in taken.refused:
            self._machine.error(request, code, text)
        self.go()
        self._landed()

    def close(self, told: Failure | None = None) -> None:
        """Take nothing any more. told: what those hear that have no answer.

        A batch that is being stored goes on to its end. Where nobody listens (told is None), what
        has come whole is stored, too: it need not be sent again.
        """
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if told is not None:
            waiting = [put.request for put in (*self._flying, *self._waiting)]
            for request in (*waiting, *self._machine.begun_puts):
                self._machine.error(request, *told)
            self._waiting, self._ahead, self._ahead_count = [], [], 0
        self._keep_the_rest()

    def _keep_the_rest(self) -> None:
        if self._waiting and not self._flying:
            self._start()
