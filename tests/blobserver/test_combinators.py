"""What holds for every combinator."""

import inspect
import itertools
from collections.abc import Callable, Iterator

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.cond import Cond
from peatkeep.blobserver.conformance import StorageSuite, sample
from peatkeep.blobserver.faulty import Fault, Faulty
from peatkeep.blobserver.forward import Forward
from peatkeep.blobserver.limited import Limited
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.namespace import Namespace
from peatkeep.blobserver.overlay import Overlay
from peatkeep.blobserver.placed import Placed
from peatkeep.blobserver.proxycache import ProxyCache
from peatkeep.blobserver.readonly import Readonly
from peatkeep.blobserver.replica import Replica
from peatkeep.blobserver.retry import Retry
from peatkeep.blobserver.shard import Shard
from peatkeep.blobserver.storage import Storage
from peatkeep.blobserver.union import Union
from peatkeep.errors import NotFound, StoreError, Unavailable
from tests.blobserver.combinators import OVER, Make, patient, unreliable

COMBINATORS: dict[str, Callable[[Make], Storage]] = {
    **OVER,
    "cond": lambda make: (lambda one: Cond(one, one, one, one))(make()),
}
BLOBS = sample(40)


@pytest.fixture(params=sorted(COMBINATORS))
def combine(request: pytest.FixtureRequest) -> Callable[[Make], Storage]:
    return COMBINATORS[request.param]


class TestOverUnreliableStores(StorageSuite):
    """Below, one call in seven fails; who tries again gets what a sound store gives."""

    @pytest.fixture(params=sorted(COMBINATORS))
    def storage(self, request: pytest.FixtureRequest) -> Iterator[Storage]:
        seeds = itertools.count(1)
        with COMBINATORS[request.param](lambda: patient(unreliable(next(seeds)))) as store:
            yield store


class TestRetryOverUnreliableCombinators(StorageSuite):
    """As above, but the combinators see the failures, and the trying again is above them."""

    @pytest.fixture(params=sorted(COMBINATORS))
    def storage(self, request: pytest.FixtureRequest) -> Iterator[Storage]:
        seeds = itertools.count(1)
        with COMBINATORS[request.param](lambda: unreliable(next(seeds), 0.04)) as store:
            yield patient(store, 100)


OPTIONAL = ("read_range", "receive_many", "fetch_range", "fetch_many", "stream", "generation")
CLASSES: tuple[type[Storage], ...] = (
    *(Cond, Faulty, Forward, Limited, Namespace, Overlay, Placed, ProxyCache, Readonly),
    *(Replica, Retry, Shard, Union),
)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_nothing_that_a_store_can_do_is_left_to_the_slow_defaults(kind: type[Storage]) -> None:
    left = {name for name in OPTIONAL if getattr(kind, name) is getattr(Storage, name)}
    # A lost inventory would not show in the generation of the store below.
    assert left - ({"generation"} if kind is Namespace else set()) == set()


def test_every_public_call_is_known_here() -> None:
    public = {name for name, _ in inspect.getmembers(Storage) if not name.startswith("_")}
    primitives = {"fetch", "write_many", "sync", "stat", "enumerate", "remove"}
    of_the_store_itself = {"close", "remarks"}
    assert public == {*OPTIONAL, *primitives, *of_the_store_itself, "receive", "reset_generation"}


def calls_of(store: Storage) -> list[Callable[[], object]]:
    refs = list(BLOBS)
    return [
        lambda: store.fetch(refs[0]),
        lambda: store.fetch_range(refs[1], 1, 3),
        lambda: store.read_range(refs[1], 1, 3),
        lambda: list(store.fetch_many(refs)),
        lambda: list(store.stat(refs)),
        lambda: list(store.enumerate()),
        lambda: list(store.stream()),
        lambda: store.receive_many(BLOBS.items()),
        lambda: (store.write_many(BLOBS.items()), store.sync()),
    ]


@pytest.mark.parametrize("call", range(9))
@pytest.mark.parametrize("seed", range(4))
def test_a_failure_below_is_an_error_or_a_right_answer(
    combine: Callable[[Make], Storage], call: int, seed: int
) -> None:
    below: list[Faulty] = []

    def make() -> Storage:
        below.append(Faulty(Memory(), [], seed * 10 + len(below)))
        return below[-1]

    with combine(make) as store:
        store.receive_many(BLOBS.items())
        expected = calls_of(store)[call]()
        for one in below:
            one.faults = [Fault("unavailable", rate=0.3)]
        for _ in range(10):
            try:
                got = calls_of(store)[call]()
            except Unavailable:
                pass  # any other error would fail the test
            else:
                if isinstance(expected, list) and call == 4:
                    assert sorted(got) == sorted(expected)  # type: ignore[call-overload]
                else:
                    assert got == expected
        for one in below:
            one.faults = []
        assert calls_of(store)[call]() is not None
        assert dict(store.fetch_many(BLOBS)) == BLOBS
        assert [ref for ref, _ in store.enumerate()] == list(BLOBS)


@pytest.mark.parametrize("effect", ["unavailable", "corrupt"])
def test_a_store_below_that_fails_never_makes_a_blob_absent(
    combine: Callable[[Make], Storage], effect: str
) -> None:
    below: list[Faulty] = []

    def make() -> Storage:
        below.append(Faulty(Memory(), []))
        return below[-1]

    with combine(make) as store:
        store.receive_many(BLOBS.items())
        reads = ["fetch", "fetch_range", "fetch_many", "stat", "enumerate", "stream"]
        for one in below:
            one.faults = [Fault(effect, reads, rate=1.0)]
        for ref in BLOBS:
            with pytest.raises(StoreError) as caught:
                store.fetch(ref)
            assert not isinstance(caught.value, NotFound)
        with pytest.raises(StoreError):
            list(store.enumerate())
        if effect == "unavailable":
            with pytest.raises(Unavailable):
                list(store.stat(BLOBS))
            try:
                got = dict(store.fetch_many(BLOBS))
            except Unavailable:
                return
            assert got == BLOBS  # by many attempts, each of which came a little further


def test_stores_below_stay_open(combine: Callable[[Make], Storage]) -> None:
    class Closable(Memory):
        def close(self) -> None:
            raise AssertionError("not its to close")

    with combine(Closable) as store:
        ref = Ref.of(b"x")
        assert store.receive(ref, b"x") == SizedRef(ref, 1)
