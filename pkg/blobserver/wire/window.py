"""How much a receiver lets its peer send ahead: what the line holds, and a little more. Pure."""

from collections import deque
from typing import Final

HEADROOM_BYTES: Final = 512 * 1024
"""Beyond rate x round trip: covers hiccups; what still arrives after STOP is kept small by it."""

LEAST_INTERVAL_S: Final = 0.02
INTERVALS: Final = 8


class Window:
    """Measures the rate of arrival and computes `target_bytes` from it.

    The best of the last intervals counts: a reader who pauses must not shrink the window. While
    the window itself is the limit, the target grows by the headroom with each round trip.
    """

    def __init__(self, first_bytes: int, largest_bytes: int) -> None:
        self.target_bytes = first_bytes
        self._largest_bytes = largest_bytes
        self._round_trip_s: float | None = None
        self._rates: deque[float] = deque(maxlen=INTERVALS)
        self._since = 0.0
        self._bytes = 0

    def round_trip(self, seconds: float) -> None:
        """A PING has come back. The shortest counts: the others waited in queues."""
        if self._round_trip_s is None or seconds < self._round_trip_s:
            self._round_trip_s = max(seconds, 0.0)

    def arrived(self, size_bytes: int, now: float) -> None:
        """Bytes have come; `now` in seconds."""
        round_trip_s = self._round_trip_s
        if not self._bytes:
            self._since, self._bytes = now, size_bytes
            return
        self._bytes += size_bytes
        elapsed_s = now - self._since
        if round_trip_s is None or elapsed_s < max(round_trip_s, LEAST_INTERVAL_S):
            return
        self._rates.append(self._bytes / elapsed_s)
        self._bytes = 0
        wanted = int(max(self._rates) * round_trip_s) + HEADROOM_BYTES
        self.target_bytes = min(wanted, self._largest_bytes)
