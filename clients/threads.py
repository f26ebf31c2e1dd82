"""A few threads for blocking work: `concurrent.futures` takes longer to import than many a run."""

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Self


class Job:
    """Work that was handed to a thread."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work: Callable[[], None] | None = work
        self._over = threading.Event()
        self._error: BaseException | None = None

    def run(self) -> None:
        """Called by the thread."""
        work, self._work = self._work, None
        try:
            if work is not None:
                work()
        except BaseException as error:  # goes to whoever waits
            self._error = error
        finally:
            self._over.set()

    def give_up(self) -> None:
        """It need not be done, unless it has begun."""
        self._work = None

    def join(self) -> None:
        """Return when it is over, however it ended."""
        self._over.wait()

    def wait(self) -> None:
        """Return when it is over. Raises its error."""
        self.join()
        if self._error is not None:
            raise self._error


class Threads:
    """Does what is handed over, in its order, `count` at a time.

    Leaving waits for all of it; with an error, only for what has begun.
    """

    def __init__(self, count: int, name: str) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}_{number}") for number in range(count)
        ]

    def start(self, work: Callable[[], None]) -> Job:
        job = Job(work)
        self._jobs.put(job)
        return job

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    @staticmethod
    def _give_up(job: Job | None) -> None:
        if job is not None:
            job.give_up()
            job.run()

    def __exit__(self, error_type: object, *_: object) -> None:
        if error_type is not None:
            with suppress(Empty):
                while True:
                    self._give_up(self._jobs.get_nowait())
        for _thread in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
