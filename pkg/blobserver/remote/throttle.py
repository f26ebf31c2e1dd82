"""The rate at which the requests of all threads to a server go."""

import http.client
import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from .pace import Pace

PIECE_BYTES: Final = 256 * 1024


class Throttle:
    """A limit in bytes per second that threads share; no limit where it is None.

    wait: waits for so many seconds, or less where all is to end.
    """

    def __init__(self, bytes_per_s: int | None, wait: Callable[[float], object]) -> None:
        self._pace = Pace(bytes_per_s)
        self._lock = threading.Lock()
        self._wait = wait

    @property
    def is_free(self) -> bool:
        return self._pace.bytes_per_s is None

    def paid(self, size_bytes: int) -> None:
        """Return when so many bytes are within the limit."""
        with self._lock:
            now = time.monotonic()
            self._pace.went(size_bytes, now)
            wait_s = self._pace.wait_s(now)
        if wait_s:
            self._wait(wait_s)

    def pieces(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """The same bytes, in smaller pieces, each when its turn has come."""
        step = min(PIECE_BYTES, self._pace.step_bytes)
        for whole in body:
            view = memoryview(whole)
            for start in range(0, len(view), step):
                piece = view[start : start + step]
                self.paid(len(piece))
                yield bytes(piece)

    def reader(self, answer: http.client.HTTPResponse) -> io.BufferedReader:
        """The bytes of an answer, not faster than the limit."""
        raw = answer if self.is_free else _Slow(answer, self, self._pace.step_bytes)
        return io.BufferedReader(raw, PIECE_BYTES)


class _Slow(io.RawIOBase):
    """An answer that is read in small steps."""

    def __init__(self, answer: http.client.HTTPResponse, throttle: Throttle, step: int) -> None:
        self._answer = answer
        self._throttle = throttle
        self._step = step

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        size = self._answer.readinto(memoryview(buffer)[: self._step])
        self._throttle.paid(size)
        return size
