"""How far a backup or a restore has come, for whoever wants to show it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """Counters that worker threads move and a display reads.

    files, size_bytes: done so far, unchanged ones included. unchanged_files: known from the
    cache. sent_bytes: acknowledged by the server, or fetched from it. problems: every file that
    failed, with its error. files_total, total_bytes: what there is to do, once known.
    on_problem, on_file: told of each as it happens, from any thread, one at a time.
    """

    files: int = 0
    size_bytes: int = 0
    unchanged_files: int = 0
    sent_bytes: int = 0
    problems: list[Exception] = field(default_factory=list)
    files_total: int | None = None
    total_bytes: int | None = None
    on_problem: Callable[[Exception], None] | None = None
    on_file: Callable[[bytes, str], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def file_done(self, path: bytes, ref: str, size_bytes: int, *, unchanged: bool = False) -> None:
        with self._lock:
            self.files += 1
            self.size_bytes += size_bytes
            self.unchanged_files += unchanged
            if self.on_file is not None:
                self.on_file(path, ref)

    def sent(self, size_bytes: int) -> None:
        with self._lock:
            self.sent_bytes += size_bytes

    def failed(self, error: Exception) -> None:
        with self._lock:
            self.problems.append(error)
            if self.on_problem is not None:
                self.on_problem(error)
