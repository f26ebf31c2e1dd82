"""Which of a stream's questions is read for next, and how far ahead of its reader."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from ..blob import Ref
from ..blobserver.wire import ServerMachine
from .ahead import AHEAD_BYTES, LEAST_PAGE_BYTES, Budget, Ramp
from .bridge import Bridge
from .streamcodes import failure
from .streamget import Job, Missing, Page, hand_over

CLASSES: Final = 3

JOBS_AT_ONCE: Final = 32
"""Requests that one hop into the library serves."""


class Reading:
    """The questions of one connection. `landed` is called when answers were queued."""

    def __init__(
        self,
        machine: ServerMachine,
        bridge: Bridge,
        budget: Budget,
        landed: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._bridge = bridge
        self._budget = budget
        self._landed = landed
        self._queues: tuple[deque[Job], ...] = tuple(deque() for _ in range(CLASSES))
        self._is_flying = [False] * CLASSES
        self._ramps = [Ramp(LEAST_PAGE_BYTES) for _ in range(CLASSES)]
        self._jobs: dict[int, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, job: Job) -> None:
        """Take a question; call `go` when all that came with it is added."""
        if not self._jobs:
            self._budget.enter()
        self._jobs[job.request] = job
        self._queues[job.priority].append(job)

    def stop(self, request: int, refs: Sequence[Ref]) -> None:
        """These items, or without any the whole question, are not wanted any more."""
        job = self._jobs.get(request)
        if job is None:
            return
        if refs:
            job.stopped.update(refs)
        else:
            self._forget(job)

    def _forget(self, job: Job) -> None:
        if self._jobs.get(job.request) is not job:
            return
        del self._jobs[job.request]
        if job in self._queues[job.priority]:
            self._queues[job.priority].remove(job)
        if not self._jobs:
            self._budget.leave()

    def go(self, *, is_stuck: bool) -> None:
        """Read on in each class whose reader has taken most of what was read.

        is_stuck: the socket takes nothing now, so what is less urgent has time.
        """
        for priority, queue in enumerate(self._queues):
            queued_bytes = AHEAD_BYTES - self._machine.room(priority)
            is_hungry = queued_bytes == 0 or queued_bytes < self._ramps[priority].last_bytes // 2
            if queue and is_hungry and not self._is_flying[priority]:
                self._start(priority, queue)
            if self._is_flying[priority] or (is_stuck and queued_bytes > 0):
                break

    def _start(self, priority: int, queue: deque[Job]) -> None:
        """A page of each question in turn, so that none waits for the end of another."""
        page_bytes = self._ramps[priority].next(self._budget.page_bytes)
        jobs = [queue.popleft() for _ in range(min(len(queue), JOBS_AT_ONCE))]
        self._is_flying[priority] = True
        task = asyncio.get_running_loop().create_task(self._read(priority, jobs, page_bytes))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, priority: int, jobs: list[Job], page_bytes: int) -> None:
        pages = await self._bridge.call(read, jobs, page_bytes)
        self._is_flying[priority] = False
        for job, page in zip(jobs, pages, strict=True):
            if self._jobs.get(job.request) is not job:
                continue  # it was stopped
            if page is not None:
                hand_over(self._machine, job, page)
            if page is not None and page.is_last:
                self._forget(job)
            else:
                self._queues[priority].append(job)
        self._landed()

    @property
    def running(self) -> list[int]:
        """The numbers of the questions that are not answered."""
        return list(self._jobs)

    def close(self) -> None:
        """Forget all questions. What is being read goes on to its end."""
        for job in list(self._jobs.values()):
            self._forget(job)


def read(jobs: list[Job], budget_bytes: int) -> list[Page | None]:
    """A page of each job, until the budget is used up; None where it was. Blocks."""
    pages: list[Page | None] = []
    for job in jobs:
        if budget_bytes <= 0:
            pages.append(None)
            continue
        try:
            page = job.page(budget_bytes)
        except Exception as error:  # whatever it is, the others go on
            page = Page([Missing(None, failure(error))], is_last=True)
        pages.append(page)
        budget_bytes -= page.size_bytes
    return pages
