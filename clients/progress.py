"""How far a backup or a restore has come, for whoever wants to show it."""

import threading
from collections.abc import Callable


class Progress:
    """Counters that worker threads move and a display reads.

    files, size_bytes: done so far, unchanged ones included. unchanged_files: known from the
    cache. sent_bytes: acknowledged by the server, or fetched from it. problems: every file that
    failed, with its error. files_total, total_bytes: what there is to do, once known.
    on_problem: told of each as it happens, from any thread, one at a time.
    """

    def __init__(self) -> None:
        self.files = 0
        self.size_bytes = 0
        self.unchanged_files = 0
        self.sent_bytes = 0
        self.problems: list[Exception] = []
        self.files_total: int | None = None
        self.total_bytes: int | None = None
        self.on_problem: Callable[[Exception], None] | None = None
        self._lock = threading.Lock()

    def files_done(self, count: int, size_bytes: int, *, unchanged: bool = False) -> None:
        with self._lock:
            self.files += count
            self.size_bytes += size_bytes
            if unchanged:
                self.unchanged_files += count

    def sent(self, size_bytes: int) -> None:
        with self._lock:
            self.sent_bytes += size_bytes

    def failed(self, error: Exception) -> None:
        with self._lock:
            self.problems.append(error)
            if self.on_problem is not None:
                self.on_problem(error)
