"""Sends blobs in few large requests, several at once, and says when a file is safe.

A file's blob is sent when its chunks are acknowledged, or behind them in the same request: an
index reads the content when the file's blob arrives. Files share requests: a tree of a thousand
small files takes a handful.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from ..blob import Ref
from ..blobserver.remote import Uploaded
from ..errors import StoreError, Unavailable
from .caches import UploadCache

BATCH_BYTES: Final = 8 * 1024 * 1024
BATCH_BLOBS: Final = 1000
"""What fills a request. A server syncs its disk once for many blobs: the more, the better."""

EARLY_FRACTION: Final = 4
"""An idle server gets a request when a quarter of one has gathered."""

WAITING_BYTES: Final = 48 * 1024 * 1024
"""Blobs held in memory, waiting or under way, above which those who bring more are held up."""

SENDERS: Final = 3

Blob = tuple[Ref, bytes]
Done = Callable[[Exception | None], None]
"""Called once, from any thread: everything is durable on the server, or why it is not."""


class UploadTarget(Protocol):
    """Where blobs go: `Remote` is one."""

    def upload(self, batch: Sequence[Blob], vivify: bool = False) -> Uploaded:
        """Store blobs durably in the order given. Raises when none can be."""
        ...


class FileGroup(Protocol):
    """The blobs of one file, in the making; used by one thread."""

    def add(self, ref: Ref, data: bytes) -> None:
        """Send a blob. Holds the caller up while too much is under way.

        Raises what made the uploader give up.
        """
        ...

    def finish(self, last: Sequence[Blob], done: Done, *, vivify: bool = False) -> None:
        """Send the last blobs, those that refer to all before them, then call `done`."""
        ...


class AnyUploader(Protocol):
    """`Uploader`, or `streaming.StreamUploader`."""

    @property
    def failure(self) -> Exception | None:
        """What made it give up, if it did."""
        ...

    def group(self) -> FileGroup: ...

    def drain(self) -> None:
        """Send what waits, and return when all is acknowledged. Raises the failure, if any."""
        ...

    def stop(self) -> None:
        """Give up what waits."""
        ...


class Group:
    """The blobs of one file, in the making. Made by `Uploader.group`; used by one thread."""

    __slots__ = ("_last", "_vivify", "done", "error", "in_requests", "uploader", "waiting")

    def __init__(self, uploader: "Uploader") -> None:
        self.uploader = uploader
        self.waiting = 0  # blobs not acknowledged yet
        self.in_requests = 0  # those of them that are in a request already
        self.error: Exception | None = None
        self.done: Done | None = None
        self._last: Sequence[Blob] = ()
        self._vivify = False

    def add(self, ref: Ref, data: bytes) -> None:
        """Send a blob. Holds the caller up while too much is under way.

        Raises what made the uploader give up.
        """
        self.uploader.send(self, ref, data)

    def finish(self, last: Sequence[Blob], done: Done, *, vivify: bool = False) -> None:
        """Send the last blobs, those that refer to all before them, then call `done`."""
        self._last, self._vivify = last, vivify
        self.uploader.finish(self, done)

    def take_last(self) -> tuple[Sequence[Blob], bool]:
        last, self._last = self._last, ()
        return last, self._vivify

    @property
    def may_share_request(self) -> bool:
        return not self._vivify


class _Batch:
    """Blobs for one request, in order."""

    __slots__ = ("blobs", "size_bytes", "vivify")

    def __init__(self, vivify: bool) -> None:
        self.blobs: list[Blob] = []
        self.size_bytes = 0
        self.vivify = vivify


class Uploader:
    """Takes blobs from many threads and sends them from a few of its own.

    cache: blobs that it has are not sent; acknowledged ones are added to it.
    sent: told of the bytes of each request that was acknowledged.
    """

    def __init__(
        self,
        target: UploadTarget,
        cache: UploadCache,
        sent: Callable[[int], None] = lambda _: None,
        *,
        senders: int = SENDERS,
    ) -> None:
        self._target = target
        self._cache = cache
        self._sent = sent
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._waiting_bytes = 0
        self._current = _Batch(vivify=False)
        self._in_flight: dict[Ref, list[Group]] = {}
        self._requests: queue.SimpleQueue[_Batch | None] = queue.SimpleQueue()
        self._under_way = 0
        self._failure: Exception | None = None
        self._senders = senders
        self._threads: list[threading.Thread] = []

    @property
    def failure(self) -> Exception | None:
        """What made it give up, if it did."""
        return self._failure

    def group(self) -> Group:
        return Group(self)

    # -- called by those who have blobs -------------------------------------------------------

    def send(self, group: Group, ref: Ref, data: bytes) -> None:
        """Called by Group.add."""
        if self._failure is not None:
            raise self._failure
        if self._cache.has(ref):
            return
        with self._lock:
            while self._waiting_bytes > WAITING_BYTES and self._failure is None:
                self._room.wait()
            if self._failure is not None:
                raise self._failure
            self._append(group, ref, data, self._current)
            self._dispatch_if_full()

    def finish(self, group: Group, done: Done) -> None:
        """Called by Group.finish."""
        with self._lock:
            group.done = done
            finished = self._go_on(group)
        _call(finished)

    def drain(self) -> None:
        """Send what waits, and return when all is acknowledged. Raises the failure, if any."""
        with self._lock:
            while self._failure is None:
                if self._current.blobs:
                    self._dispatch()
                elif self._under_way:
                    self._room.wait()
                else:
                    return
            raise self._failure

    def stop(self) -> None:
        """Give up what waits. Requests under way are left to end by themselves."""
        with self._lock:
            if self._failure is None:
                self._failure = Unavailable("upload", "blobs", "stopped")
            self._room.notify_all()
        for _ in self._threads:
            self._requests.put(None)

    # -- with the lock held -------------------------------------------------------------------

    def _append(self, group: Group, ref: Ref, data: bytes, batch: _Batch) -> None:
        group.waiting += 1
        waiters = self._in_flight.get(ref)
        if waiters is not None:
            waiters.append(group)
            # It may be in the current batch still, but taking it as sent is always right.
            group.in_requests += 1
            return
        self._in_flight[ref] = [group]
        batch.blobs.append((ref, data))
        batch.size_bytes += len(data)
        self._waiting_bytes += len(data)

    def _dispatch_if_full(self) -> None:
        batch = self._current
        share = 1 if self._under_way else EARLY_FRACTION
        if batch.size_bytes * share >= BATCH_BYTES or len(batch.blobs) * share >= BATCH_BLOBS:
            self._dispatch()

    def _dispatch(self) -> None:
        batch, self._current = self._current, _Batch(vivify=False)
        for ref, _ in batch.blobs:
            self._in_flight[ref][0].in_requests += 1
        self._hand_over(batch)

    def _hand_over(self, batch: _Batch) -> None:
        self._under_way += 1
        if len(self._threads) < self._senders:
            thread = threading.Thread(target=self._send_batches, name="uploader", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._requests.put(batch)

    def _go_on(self, group: Group) -> list[tuple[Done, Exception | None]]:
        """Send the last blobs of a finished group if they may be sent, or end it."""
        if group.done is None:
            return []
        may_follow = group.in_requests == 0 and group.may_share_request
        if group.error is None and (group.waiting == 0 or may_follow):
            last, vivify = group.take_last()
            batch = _Batch(vivify=True) if vivify else self._current
            for ref, data in last:
                if not self._cache.has(ref) or vivify:
                    self._append(group, ref, data, batch)
            if vivify and batch.blobs:
                for ref, _ in batch.blobs:
                    self._in_flight[ref][0].in_requests += 1
                self._hand_over(batch)
            else:
                self._dispatch_if_full()
        if group.waiting:
            return []
        done, group.done = group.done, None
        return [(done, group.error)]

    # -- the sending threads --------------------------------------------------------------------

    def _send_batches(self) -> None:
        while (batch := self._requests.get()) is not None:
            try:
                outcome = self._outcome(batch)
            except Exception as error:  # goes to whoever waits
                self._settle(batch, {}, error)
                continue
            refused = dict(outcome.refused)
            self._cache.remember_blobs(ref for ref, _ in batch.blobs if ref not in refused)
            self._sent(batch.size_bytes)
            self._settle(batch, refused, None)

    def _outcome(self, batch: _Batch) -> Uploaded:
        if self._failure is not None:
            raise self._failure
        if not batch.vivify:
            return self._target.upload(batch.blobs)
        outcome = self._target.upload(batch.blobs, vivify=True)
        file, _ = batch.blobs[-1]
        if file in outcome.vivified or outcome.refused:
            return outcome
        error = Unavailable("vivify", file, outcome.text or "the server made no permanode")
        return Uploaded(outcome.received, [(file, error)])

    def _settle(
        self, batch: _Batch, refused: dict[Ref, StoreError], failure: Exception | None
    ) -> None:
        finished: list[tuple[Done, Exception | None]] = []
        with self._lock:
            self._failure = self._failure or failure
            self._waiting_bytes -= batch.size_bytes
            for ref, _ in batch.blobs:
                for group in self._in_flight.pop(ref):
                    group.waiting -= 1
                    group.in_requests -= 1
                    group.error = group.error or failure or refused.get(ref)
                    finished += self._go_on(group)
        _call(finished)
        with self._lock:
            # Only now: who waits for all to be acknowledged waits for the calls, too.
            self._under_way -= 1
            self._room.notify_all()


def _call(finished: Iterable[tuple[Done, Exception | None]]) -> None:
    for done, error in deque(finished):
        done(error)
