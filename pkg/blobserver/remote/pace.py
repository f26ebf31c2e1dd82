"""How fast bytes may go: a limit in bytes per second. Pure."""

from typing import Final

BURST_S: Final = 0.1
"""What has not been used is good for so long; then it is lost."""


class Pace:
    """Counts bytes against a limit; no limit where it is None."""

    def __init__(self, bytes_per_s: int | None) -> None:
        self.bytes_per_s = bytes_per_s
        self._free_at = 0.0
        """When what went so far is paid for."""

    def wait_s(self, now: float) -> float:
        """How long to wait until more may go; 0 at once."""
        return max(0.0, self._free_at - now) if self.bytes_per_s else 0.0

    def went(self, size_bytes: int, now: float) -> None:
        if self.bytes_per_s:
            self._free_at = max(self._free_at, now - BURST_S) + size_bytes / self.bytes_per_s

    @property
    def step_bytes(self) -> int:
        """How much should go at once, at most, for an even flow."""
        if not self.bytes_per_s:
            return 1 << 30
        return max(4096, int(self.bytes_per_s * BURST_S / 2))
