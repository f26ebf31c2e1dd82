"""Requests: in which order, how many at once, and what happens to those who wait."""

import random
import threading
from collections.abc import Sequence

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.remote import Uploaded
from peatkeep.clients.caches import UploadCache
from peatkeep.clients.uploader import BATCH_BLOBS, SENDERS, WAITING_BYTES, Uploader
from peatkeep.errors import Unavailable
from tests.waiting import GUARD_S

from .stores import Target


def blob(number: int, size: int = 100) -> tuple[Ref, bytes]:
    data = random.Random(number).randbytes(size)
    return Ref.of(data), data


class Held(Target):
    """Lets requests end only when it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Semaphore(0)
        self.may_end = threading.Event()
        self.at_once = self.most_at_once = 0
        self._counting = threading.Lock()

    def upload(self, batch: Sequence[tuple[Ref, bytes]], vivify: bool = False) -> Uploaded:
        with self._counting:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.begun.release()
        assert self.may_end.wait(GUARD_S)
        outcome = super().upload(batch)
        with self._counting:
            self.at_once -= 1
        return outcome


def test_what_is_finished_is_told_when_it_is_durable() -> None:
    target = Held()
    uploader = Uploader(target, UploadCache(None))
    told: list[Exception | None] = []
    group = uploader.group()
    group.add(*blob(1))
    group.finish([blob(2)], told.append)
    drained = threading.Thread(target=uploader.drain)
    drained.start()
    assert target.begun.acquire(timeout=GUARD_S)
    assert told == []
    target.may_end.set()
    drained.join(GUARD_S)
    assert told == [None]
    assert target.sent == [blob(1)[0], blob(2)[0]]
    uploader.stop()


def test_the_last_blobs_wait_for_those_that_are_under_way() -> None:
    target = Held()
    uploader = Uploader(target, UploadCache(None))
    group = uploader.group()
    for number in range(BATCH_BLOBS):  # fills a request, which is sent
        group.add(*blob(number))
    assert target.begun.acquire(timeout=GUARD_S)
    group.finish([blob(10**6)], lambda _: None)
    assert target.requests == []
    target.may_end.set()
    uploader.drain()
    assert target.requests[-1][-1] == blob(10**6)[0]
    assert len(target.sent) == BATCH_BLOBS + 1
    uploader.stop()


def test_no_more_than_a_few_requests_are_under_way_and_memory_is_bounded() -> None:
    target = Held()
    uploader = Uploader(target, UploadCache(None))
    added = []

    def add() -> None:
        group = uploader.group()
        for number in range(150):
            group.add(*blob(number, 1_000_000))
            added.append(number)

    thread = threading.Thread(target=add)
    thread.start()
    for _ in range(SENDERS):
        assert target.begun.acquire(timeout=GUARD_S)
    assert not target.begun.acquire(timeout=0.2)
    assert len(added) * 1_000_000 <= WAITING_BYTES + 2_000_000
    target.may_end.set()
    thread.join(GUARD_S)
    uploader.drain()
    assert len(target.sent) == 150
    assert target.most_at_once == SENDERS
    uploader.stop()


def test_two_files_with_the_same_chunk_both_wait_for_it() -> None:
    target = Held()
    uploader = Uploader(target, UploadCache(None))
    told: list[str] = []
    for name in "ab":
        group = uploader.group()
        group.add(*blob(1))
        group.finish([blob(ord(name))], lambda error, name=name: told.append(name))
    target.may_end.set()
    uploader.drain()
    assert sorted(told) == ["a", "b"]
    assert len(target.sent) == 3
    uploader.stop()


def test_a_failure_reaches_everybody() -> None:
    target = Target()

    def fail(batch: object) -> None:
        raise Unavailable("upload", "blobs", "as ordered")

    target.before = fail
    uploader = Uploader(target, UploadCache(None))
    told: list[Exception | None] = []
    group = uploader.group()
    group.add(*blob(1))
    group.finish([blob(2)], told.append)
    with pytest.raises(Unavailable):
        uploader.drain()
    assert [type(error) for error in told] == [Unavailable]
    with pytest.raises(Unavailable):
        uploader.group().add(*blob(3))
    uploader.stop()


def test_a_bug_in_the_target_does_not_hang_the_backup() -> None:
    target = Target()

    def fail(batch: object) -> None:
        raise RuntimeError("a bug")

    target.before = fail
    uploader = Uploader(target, UploadCache(None))
    uploader.group().add(*blob(1))
    with pytest.raises(RuntimeError, match="a bug"):
        uploader.drain()
    uploader.stop()


def test_known_blobs_are_not_sent() -> None:
    target, cache = Target(), UploadCache(None)
    cache.remember_blobs([blob(1)[0], blob(2)[0]])
    uploader = Uploader(target, cache)
    told: list[Exception | None] = []
    group = uploader.group()
    group.add(*blob(1))
    group.finish([blob(2)], told.append)
    assert told == [None]
    uploader.drain()
    assert target.requests == []
    uploader.stop()
