"""What a watched store tells, and when, with several uploaders at once."""

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.errors import Unavailable
from peatkeep.server import watched as module
from peatkeep.server.watched import Watched

REFS: Final = [Ref.of(b"one"), Ref.of(b"two")]
WITHIN_S: Final = 30


class Slow(Memory):
    """Its first sync waits until it is let go, then fails if it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go, self.second = (threading.Event() for _ in range(3))
        self.failure: Exception | None = None

    def sync(self) -> None:
        if self.begun.is_set():
            self.second.set()
        else:
            self.begun.set()
            assert self.go.wait(WITHIN_S)
            if self.failure is not None:
                raise self.failure
        super().sync()


class Arrivals:
    """A watcher that can be made to wait before it notes the refs."""

    def __init__(self) -> None:
        self.refs: list[Ref] = []
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, blobs: Iterable[tuple[Ref, bytes | None]]) -> None:
        refs = [ref for ref, _ in blobs]
        if refs:
            self.begun.set()
            assert self.go.wait(WITHIN_S)
        self.refs += refs


def test_a_sync_returns_when_the_sync_that_took_its_blobs_along_has_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second_waits_or_is_done = threading.Event()

    class Seen(Future[None]):
        def result(self, timeout: float | None = None) -> None:
            second_waits_or_is_done.set()
            super().result(timeout)

    monkeypatch.setattr(module, "Future", Seen)
    watched, arrivals = Watched(Memory()), Arrivals()
    watched.watch(arrivals)
    for ref, data in zip(REFS, (b"one", b"two"), strict=True):
        watched.write_many([(ref, data)])
    with ThreadPoolExecutor() as uploaders:
        first = uploaders.submit(watched.sync)
        assert arrivals.begun.wait(WITHIN_S)
        second = uploaders.submit(watched.sync)
        second.add_done_callback(lambda _: second_waits_or_is_done.set())
        assert second_waits_or_is_done.wait(WITHIN_S)
        was_done = second.done()
        arrivals.go.set()
        for sync in (first, second):
            sync.result(WITHIN_S)
    assert not was_done
    assert arrivals.refs == REFS


def test_a_sync_fails_with_the_one_that_took_its_blobs_and_the_next_tells_of_them() -> None:
    slow, told = Slow(), list[Ref]()
    slow.failure = Unavailable("sync", "disk", "no space")
    watched = Watched(slow)
    watched.hub.listen(told.append)
    watched.write_many([(REFS[0], b"one")])
    with ThreadPoolExecutor() as uploaders:
        first = uploaders.submit(watched.sync)
        assert slow.begun.wait(WITHIN_S)
        second = uploaders.submit(watched.sync)
        assert slow.second.wait(WITHIN_S)
        slow.go.set()
        for sync in (first, second):
            with pytest.raises(Unavailable, match="no space"):
                sync.result(WITHIN_S)
    assert told == []
    watched.sync()
    assert told == [REFS[0]]
