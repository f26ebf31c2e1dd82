import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.errors import Unavailable
from peatkeep.index.inflight import InFlight
from peatkeep.index.sources import LocalFirst, Recent
from tests.waiting import GUARD_S

ONE, TWO = (Ref.of(data) for data in (b"one", b"two"))


class Work:
    """Stops in the work on ONE until it is told to go on."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.calls: list[set[Ref]] = []
        self.began = threading.Event()
        self.go_on = threading.Event()
        self._failure = failure

    def __call__(self, blobs: dict[Ref, bytes]) -> dict[Ref, str]:
        self.calls.append(set(blobs))
        if ONE in blobs:
            self.began.set()
            assert self.go_on.wait(GUARD_S)
            if self._failure is not None:
                raise self._failure
            return {ONE: "bad"}
        self.go_on.set()  # who has work of his own does it before he waits
        return {}


def test_what_is_under_way_is_done_once_and_all_hear_the_same() -> None:
    work = Work()
    merged = InFlight(work)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(merged.run, {ONE: b"one"})
        assert work.began.wait(GUARD_S)
        second = threads.submit(merged.run, {ONE: b"one", TWO: b"two"})
        assert first.result(GUARD_S) == {ONE: "bad"}
        assert second.result(GUARD_S) == {ONE: "bad"}
    assert work.calls == [{ONE}, {TWO}]


def test_who_waits_for_work_that_fails_gets_its_error() -> None:
    work = Work(Unavailable("read", "disk"))
    merged = InFlight(work)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(merged.run, {ONE: b"one"})
        assert work.began.wait(GUARD_S)
        second = threads.submit(merged.run, {ONE: b"one", TWO: b"two"})
        for future in (first, second):
            with pytest.raises(Unavailable):
                future.result(GUARD_S)


def test_work_that_is_over_is_done_again() -> None:
    work = Work()
    work.go_on.set()
    merged = InFlight(work)
    merged.run({ONE: b"one"})
    merged.run({ONE: b"one"})
    assert work.calls == [{ONE}, {ONE}]


def test_only_the_latest_chunks_are_remembered() -> None:
    recent = Recent(limit_bytes=5)
    recent.add([(ONE, b"one")])
    recent.add([(TWO, b"two")])
    assert recent.get(ONE) is None
    assert LocalFirst({ONE: b"here"}, recent, _Nothing()).fetch(ONE) == b"here"
    assert LocalFirst({}, recent, _Nothing()).fetch(TWO) == b"two"


def test_a_chunk_that_arrived_here_is_not_verified_again() -> None:
    store = Unverified()
    recent = Recent(limit_bytes=1)
    source = LocalFirst({}, recent, store)
    assert source.read_range(ONE, 1, 1) == b"n"
    assert store.fetched == [ONE]
    recent.add([(ONE, b"one")])
    assert source.read_range(ONE, 1, 1) == b"n"
    assert store.fetched == [ONE]


@pytest.mark.parametrize(("offset", "length"), [(4, 1), (2, 5)])
def test_a_range_that_is_not_there_is_looked_for_in_the_verified_chunk(
    offset: int, length: int
) -> None:
    store = Unverified()
    recent = Recent(limit_bytes=1)
    recent.add([(ONE, b"one")])
    part = LocalFirst({}, recent, store).read_range(ONE, offset, length)
    assert (part, store.fetched) == (b"one"[offset : offset + length], [ONE])


class Unverified(Memory):
    """Holds one blob, and notes when it is read as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.receive(ONE, b"one")
        self.fetched: list[Ref] = []

    def fetch(self, ref: Ref) -> bytes:
        self.fetched.append(ref)
        return super().fetch(ref)


class _Nothing(Memory):
    def fetch(self, ref: Ref) -> bytes:
        raise AssertionError(ref)
