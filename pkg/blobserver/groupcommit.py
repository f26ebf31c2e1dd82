"""One sync for many who wait."""

import threading
from collections.abc import Callable


class GroupCommit:
    """Turns many concurrent calls of `sync` into few calls of `commit`.

    Callers say `wrote` after their write is in place, then `sync`. Who finds that another has
    written the same, and leaves it to them, says so too: else their `sync` could return before
    the other has said it. One of them leads: it commits all that was written so far. Those who
    wait meanwhile find their work done, or one of them leads the next commit.

    commit: makes durable everything written before it is called; what it raises goes to the
    leader, and the next caller tries again. Never called by two threads at once.
    """

    def __init__(self, commit: Callable[[], None]) -> None:
        self._commit = commit
        self._count_lock = threading.Lock()
        self._leader_lock = threading.Lock()
        self._written = 0
        self._durable = 0

    def wrote(self) -> None:
        with self._count_lock:
            self._written += 1

    def sync(self) -> None:
        """Return when all that was written before this call is durable."""
        upto = self._written
        with self._leader_lock:
            if self._durable >= upto:
                return
            upto = self._written
            self._commit()
            self._durable = upto

    def alone(self) -> threading.Lock:
        """The lock to hold for work that must not meet a commit."""
        return self._leader_lock
