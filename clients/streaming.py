"""Sends the blobs of files over the stream, and says when a file is safe.

Here no request has to be filled: blobs leave as they are made, a few together. They arrive in the
order in which they were given, and are stored in it, so a file's blob is sent right behind its
chunks.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from ..blob import Ref
from ..errors import Forbidden, ReadOnly, StoreError, Unavailable
from .caches import UploadCache
from .uploader import AnyUploader, Blob, Done, FileGroup

if TYPE_CHECKING:  # imported by whoever opens the stream: most runs have nothing to send
    from ..blobserver.remote.dialogue import Upload
    from ..blobserver.remote.stream import Stream

ANSWERS_AT_ONCE: Final = 1000

HELD_BYTES: Final = 512 * 1024
"""Blobs leave when there is so much of them: to wake the stream costs more than to send a blob."""


class StreamGroup:
    """The blobs of one file, in the making; as `uploader.Group`."""

    __slots__ = ("_uploader", "done", "error", "plain", "waiting")

    def __init__(self, uploader: "StreamUploader") -> None:
        self._uploader = uploader
        self.plain: FileGroup | None = None  # where requests are used after all
        self.waiting = 0  # blobs not acknowledged yet
        self.error: Exception | None = None
        self.done: Done | None = None

    def add(self, ref: Ref, data: bytes) -> None:
        """Send a chunk. Holds the caller up while too much is under way.

        Raises what made the uploader give up.
        """
        self._uploader.send(self, ref, data)

    def finish(self, last: Sequence[Blob], done: Done, *, vivify: bool = False) -> None:
        """Send the last blobs, those that refer to all before them; `done` is called when
        everything is durable, or with why it is not."""
        assert not vivify  # which a request alone can ask for
        self._uploader.finish(self, last, done)

    def over(self, plain: AnyUploader) -> FileGroup:
        """The same group of another uploader."""
        if self.plain is None:
            self.plain = plain.group()
        return self.plain


class StreamUploader:
    """Takes blobs from many threads; as `uploader.Uploader`.

    What waits for an acknowledgement is told by a thread of its own: the stream must not wait
    for those who are told.
    Some blobs are held back, to leave together; the last always. All go without hurry, so that the
    server syncs many at once, but the one before `drain`, which must not wait for others.
    """

    def __init__(
        self,
        open_stream: "Callable[[], Stream | None]",
        plain: Callable[[], AnyUploader],
        cache: UploadCache,
        sent: Callable[[int], None] = lambda _: None,
    ) -> None:
        """open_stream: called when there is something to send. plain: what sends it where no
        stream can be opened."""
        self._open_stream = open_stream
        self._make_plain = plain
        self._stream: Stream | None = None
        self._plain: AnyUploader | None = None
        self._opening = threading.Lock()
        self._cache = cache
        self._sent = sent
        self._lock = threading.Lock()
        self._settled = threading.Condition(self._lock)
        self._in_flight: dict[Ref, list[StreamGroup]] = {}
        self._leaving = threading.Lock()  # taken before the other: blobs keep their order
        self._held: list[Blob] = []
        self._held_bytes = 0
        self._answers: queue.SimpleQueue[Upload | None] = queue.SimpleQueue()
        self._unsettled = 0
        self._failure: Exception | None = None
        self._teller: threading.Thread | None = None

    @property
    def failure(self) -> Exception | None:
        """What made it give up, if it did."""
        return self._failure or (self._plain.failure if self._plain is not None else None)

    def group(self) -> StreamGroup:
        return StreamGroup(self)

    def send(self, group: StreamGroup, ref: Ref, data: bytes) -> None:
        """Called by the group."""
        if self._failure is not None:
            raise self._failure
        if self._cache.has(ref):
            return
        stream = self._opened()
        if stream is None:
            assert self._plain is not None
            group.over(self._plain).add(ref, data)
            return
        with self._leaving:
            with self._lock:
                group.waiting += 1
                waiters = self._in_flight.get(ref)
                if waiters is not None:
                    waiters.append(group)
                    return
                self._in_flight[ref] = [group]
                self._unsettled += 1
                if self._teller is None:
                    self._teller = threading.Thread(
                        target=self._tell, name="acknowledged", daemon=True
                    )
                    self._teller.start()
            self._held.append((ref, data))
            self._held_bytes += len(data)
            if self._held_bytes >= HELD_BYTES:
                self._let_go(stream)

    def _let_go(self, stream: "Stream") -> None:
        """Send what is held back, but the last. Whoever is leaving."""
        *held, last = self._held
        self._held, self._held_bytes = [last], len(last[1])
        self._put(stream, held, no_rush=True)

    def _put(self, stream: "Stream", blobs: Sequence[Blob], *, no_rush: bool) -> None:
        try:
            stream.put(blobs, self._answers.put, no_rush=no_rush)
        except StoreError as error:
            from ..blobserver.remote.dialogue import Upload

            for ref, _ in blobs:
                Upload(ref, b"", self._answers.put).end(error)  # told to those who wait for it

    def finish(self, group: StreamGroup, last: Sequence[Blob], done: Done) -> None:
        """Called by the group."""
        if any(not self._cache.has(ref) for ref, _ in last) and self._opened() is None:
            assert self._plain is not None
            group.over(self._plain).finish(last, done)
            return
        with self._lock:
            group.waiting += 1  # so that it does not end while the last are on their way
        try:
            if group.error is None:
                for ref, data in last:
                    self.send(group, ref, data)
        except Exception as error:  # goes to whoever waits
            group.error = group.error or error
        finally:
            with self._lock:
                group.done = done
                finished = self._one_less(group)
            if finished is not None:
                finished(group.error)

    def drain(self) -> None:
        """Return when all is acknowledged and told. Raises the failure, if any."""
        if self._plain is not None:
            self._plain.drain()
        with self._leaving:
            if self._held and self._stream is not None and self._failure is None:
                self._let_go(self._stream)
                last, self._held, self._held_bytes = self._held, [], 0
                self._put(self._stream, last, no_rush=False)
        with self._lock:
            while self._unsettled and self._failure is None:
                self._settled.wait()
            if self._failure is not None:
                raise self._failure

    def stop(self) -> None:
        """Give up what waits."""
        if self._plain is not None:
            self._plain.stop()
        with self._lock:
            if self._failure is None:
                self._failure = Unavailable("upload", "blobs", "stopped")
            self._settled.notify_all()
        self._answers.put(None)

    def _opened(self) -> "Stream | None":
        """The stream; None where `_plain` is to be used. Decided once, before the first blob."""
        if self._stream is None and self._plain is None:
            with self._opening:
                if self._stream is None and self._plain is None:
                    try:
                        self._stream = self._open_stream()
                    except StoreError as error:
                        self._failure = error
                        raise
                    if self._stream is None:
                        self._plain = self._make_plain()
        return self._stream

    # -- the telling thread -----------------------------------------------------------------------

    def _tell(self) -> None:
        while (upload := self._answers.get()) is not None:
            answered = [upload]
            while len(answered) < ANSWERS_AT_ONCE and not self._answers.empty():
                upload = self._answers.get()
                if upload is None:
                    self._settle(answered)
                    return
                answered.append(upload)
            self._settle(answered)

    def _settle(self, answered: "Sequence[Upload]") -> None:
        stored = [upload for upload in answered if upload.error is None]
        self._cache.remember_blobs(upload.ref for upload in stored)
        self._sent(sum(upload.size for upload in stored))
        finished: list[tuple[Done, Exception | None]] = []
        with self._lock:
            for upload in answered:
                if self._failure is None and _ends_all(upload.error):
                    self._failure = upload.error
                for group in self._in_flight.pop(upload.ref):
                    group.error = group.error or upload.error
                    done = self._one_less(group)
                    if done is not None:
                        finished.append((done, group.error))
        for done, error in finished:
            done(error)
        with self._lock:
            # Only now: who waits for all to be acknowledged waits for the calls, too.
            self._unsettled -= len(answered)
            self._settled.notify_all()

    @staticmethod
    def _one_less(group: StreamGroup) -> Done | None:
        """With the lock held: one blob of the group is answered. Returns whom to tell its end."""
        group.waiting -= 1
        if group.waiting or group.done is None:
            return None
        done, group.done = group.done, None
        return done


def _ends_all(error: StoreError | None) -> bool:
    """Whether others fare no better: the server is gone or full, or we have no right."""
    return isinstance(error, (Unavailable, ReadOnly, Forbidden))
