"""Trying again, and going slowly, by clocks that the tests turn."""

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.conformance import sample, sized
from peatkeep.blobserver.faulty import OPERATIONS, Fault, Faulty
from peatkeep.blobserver.limited import Limited, Rate
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.retry import Patience, Retry
from peatkeep.errors import ConfigError, Corrupt, NotFound, ReadOnly, StoreError, Unavailable

BLOBS = sample(50)
REF = next(iter(BLOBS))
USUAL = Patience()


class Clock:
    """Goes on only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, wait_s: float) -> None:
        self.sleeps.append(wait_s)
        self.now_s += wait_s


def retrying(*faults: Fault, patience: Patience = USUAL) -> tuple[Retry, Faulty, Clock]:
    clock = Clock()
    memory = Memory()
    memory.receive_many(BLOBS.items())
    faulty = Faulty(memory, faults, 3)
    return Retry(faulty, patience, clock, clock.sleep, lambda: 1.0), faulty, clock


def test_it_waits_longer_each_time_and_then_gives_up() -> None:
    store, faulty, clock = retrying(Fault("unavailable", rate=1.0))
    with pytest.raises(Unavailable):
        store.fetch(REF)
    assert clock.sleeps == [0.1, 0.2, 0.4, 0.8]
    assert faulty.failures == 5


def test_waits_and_the_whole_are_bounded() -> None:
    patience = Patience(50, first_wait_s=1, longest_wait_s=4, limit_s=20)
    store, _, clock = retrying(Fault("unavailable", rate=1.0), patience=patience)
    with pytest.raises(Unavailable):
        store.fetch(REF)
    assert clock.sleeps == [1, 2, 4, 4, 4, 4]


def test_the_third_attempt_succeeds() -> None:
    store, _, clock = retrying(Fault("unavailable", calls=[1, 2]))
    assert store.fetch(REF) == BLOBS[REF]
    assert len(clock.sleeps) == 2
    new = [(Ref.of(b"new"), b"new")]
    store.receive_many(iter(new))
    store.write_many(iter(new))
    store.sync()
    assert store.fetch_range(Ref.of(b"new"), 1, 1) == b"e"
    store.remove(iter([Ref.of(b"new")]))
    assert list(store.enumerate()) == sized(BLOBS)


@pytest.mark.parametrize("error", ["corrupt", "notfound", "readonly"])
def test_other_errors_are_not_tried_again(error: str) -> None:
    store, faulty, clock = retrying(Fault(error, rate=1.0))
    with pytest.raises((Corrupt, NotFound, ReadOnly)):
        store.fetch(REF)
    assert clock.sleeps == []
    assert faulty.failures == 1


def test_a_listing_goes_on_where_it_broke_off() -> None:
    store, faulty, _ = retrying(Fault("unavailable", ["enumerate", "stream", "fetch_many"], 0.8))
    assert list(store.enumerate()) == sized(BLOBS)
    assert {blob.ref: blob.data for blob in store.stream()} == BLOBS
    assert len({blob.token for blob in store.stream()}) == 50
    assert list(store.fetch_many(BLOBS)) == list(BLOBS.items())
    assert faulty.failures > 10


def test_attempts_are_configured_within_bounds() -> None:
    for attempts in (1, 100):
        open_storage("retry", {"storage": "/a/", "attempts": attempts}, lambda _: Memory())
    for attempts in (0, 101):
        with pytest.raises(ConfigError):
            open_storage("retry", {"storage": "/a/", "attempts": attempts}, lambda _: Memory())


# -- limited ------------------------------------------------------------------------------------


def limited(size_per_s: float, operations_per_s: float) -> tuple[Limited, Clock]:
    clock = Clock()
    rates = [Rate(per_s, clock, clock.sleep) for per_s in (size_per_s, operations_per_s)]
    return Limited(Memory(), *rates), clock


def test_bytes_take_their_time() -> None:
    store, clock = limited(1000, 0)
    data = bytes(500)
    for number in range(10):
        store.receive(Ref.of(data + b"%d" % number), data + b"%d" % number)
    assert clock.now_s == pytest.approx(4.01)  # the first second's worth was free
    for _ in range(4):
        store.fetch(Ref.of(data + b"1"))
    assert clock.now_s == pytest.approx(6.014)


def test_operations_take_their_time() -> None:
    store, clock = limited(0, 10)
    for _ in range(31):
        list(store.stat([REF]))
    assert clock.now_s == pytest.approx(2.1)
    clock.now_s += 100
    began_s = clock.now_s
    for _ in range(10):
        list(store.stat([REF]))
    assert clock.now_s == began_s


def test_every_operation_counts() -> None:
    store, clock = limited(10, 0)
    store.receive_many(BLOBS.items())
    size = sum(len(data) for data in BLOBS.values())
    for read in (
        lambda: dict(store.fetch_many(BLOBS)),
        lambda: list(store.stream()),
        lambda: [store.fetch(ref) for ref in BLOBS],
    ):
        began_s = clock.now_s
        read()  # type: ignore[no-untyped-call]
        assert clock.now_s - began_s == pytest.approx(size / 10)
    store, clock = limited(0, 1)
    calls = (
        lambda: store.write_many([]),
        store.sync,
        lambda: store.receive_many(BLOBS.items()),
        lambda: store.fetch(REF),
        lambda: store.fetch_range(REF, 0, 1),
        lambda: list(store.fetch_many(BLOBS)),
        lambda: list(store.stat(BLOBS)),
        lambda: list(store.enumerate()),
        lambda: list(store.stream()),
        lambda: store.remove(BLOBS),
    )
    for number, call in enumerate(calls):
        call()  # type: ignore[no-untyped-call]
        assert clock.now_s == pytest.approx(number)


def test_a_rate_is_configured_in_whole_numbers() -> None:
    args = {"storage": "/a/", "bytesPerSecond": 1000, "operationsPerSecond": 5}
    open_storage("storage-limited", args, lambda _: Memory())
    with pytest.raises(ConfigError):
        open_storage("storage-limited", {**args, "bytesPerSecond": -1}, lambda _: Memory())


# -- faulty -------------------------------------------------------------------------------------


def seen(seed: int) -> list[str]:
    store = Faulty(Memory(), [Fault("unavailable", rate=0.4)], seed)
    told = []
    for ref, data in BLOBS.items():
        try:
            store.receive(ref, data)
            told.append("yes")
        except StoreError:
            told.append("no")
    return told + [str(found) for found in store._inner.enumerate()]


def test_the_same_seed_gives_the_same_failures() -> None:
    assert seen(1) == seen(1) != seen(2)


def test_the_nth_call_of_each_operation_fails() -> None:
    store = Faulty(Memory(), [Fault("unavailable", ["sync"], calls=[2, 4])])
    told = []
    for _ in range(5):
        try:
            store.sync()
            told.append(True)
        except Unavailable:
            told.append(False)
    assert told == [True, False, True, False, True]


def test_damage_looks_like_success() -> None:
    for effect in ("flip", "cut"):
        store = Faulty(Memory(), [Fault(effect, rate=1.0)])
        store.receive_many(BLOBS.items())
        assert not any(ref.matches(store.fetch(ref)) for ref in BLOBS)
        assert not any(ref.matches(blob.data) for blob in store.stream() for ref in [blob.ref])


def test_lies_look_like_success() -> None:
    store = Faulty(Memory(), [])
    store.receive_many(BLOBS.items())
    refs = list(BLOBS)
    store.remove(refs[:2])
    expected = {"empty": set(), "late": set(refs[2:40]), "stale": {*refs[:40]}}
    for effect, listed in expected.items():
        store.faults = [Fault(effect, ["enumerate", "stat"], 1.0)]
        assert {ref for ref, _ in store.enumerate()} == listed
        assert {ref for ref, _ in store.stat(refs)} == listed
        assert store.fetch(refs[10]) == BLOBS[refs[10]]
    store.faults = [Fault("partial", ["enumerate"], 1.0)]
    assert any(len(list(store.enumerate())) < 48 for _ in range(5))


@pytest.mark.parametrize(
    "fault",
    [Fault("explode"), Fault("flip", ["fetsch"]), Fault("flip", OPERATIONS, 1.5)],
)
def test_a_fault_that_there_is_not_is_refused(fault: Fault) -> None:
    with pytest.raises(ConfigError):
        Faulty(Memory(), [fault])


def test_a_faulty_store_is_configured() -> None:
    args = {"storage": "/a/", "percent": 100, "operations": ["fetch"], "effect": "corrupt"}
    store = open_storage("storage-faulty", args, lambda _: Memory())
    store.receive(REF, BLOBS[REF])
    with pytest.raises(Corrupt):
        store.fetch(REF)
