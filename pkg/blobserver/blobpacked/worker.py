"""Work that is done after the answer, by one thread or by who waits for it."""

import threading
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

LIMIT: Final = 100_000
"""Jobs that may wait; further ones are dropped, which `overflowed` says."""

Job = TypeVar("Job", bound=Hashable)


class Worker(Generic[Job]):
    """Does jobs one after the other, in the order in which they came; equal ones wait once.

    work: does one job and raises nothing.
    """

    def __init__(self, work: Callable[[Job], None], name: str, has_thread: bool) -> None:
        """has_thread: else the jobs are done in `wait`, by its caller."""
        self._work = work
        self._name = name
        self._has_thread = has_thread
        self._jobs: dict[Job, None] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_busy = False
        self._is_closing = False
        self.overflowed = False

    @property
    def is_closing(self) -> bool:
        return self._is_closing

    def add(self, job: Job) -> None:
        with self._changed:
            if self._is_closing:
                return
            if len(self._jobs) >= LIMIT:
                self.overflowed = True
                return
            self._jobs[job] = None
            if self._thread is None and self._has_thread:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, wait_s: float | None = None) -> bool:
        """Wait until nothing is left to do. False when the time ran out."""
        while not self._has_thread and self._jobs:
            self._work(self._take())
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs and not self._is_busy, wait_s)

    def close(self) -> None:
        """Drop the jobs that wait and wait for the one in hand."""
        with self._changed:
            self._is_closing = True
            self._jobs.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _take(self) -> Job:
        job = next(iter(self._jobs))
        del self._jobs[job]
        return job

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._is_closing)
                if self._is_closing:
                    return
                job = self._take()
                self._is_busy = True
            try:
                self._work(job)
            finally:
                with self._changed:
                    self._is_busy = False
                    self._changed.notify_all()
