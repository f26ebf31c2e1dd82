"""RELIABILITY's "lying": stores that list late, nothing, yesterday's or a part. Nothing is deleted
because of what a listing says.
"""

from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.conformance import sample
from peatkeep.blobserver.faulty import LIES, Fault, Faulty
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.placed import Placed
from peatkeep.blobserver.placement import Hashed
from peatkeep.blobserver.proxycache import ProxyCache
from peatkeep.blobserver.repair import repair
from peatkeep.blobserver.replica import Replica
from peatkeep.blobserver.storage import Storage
from peatkeep.blobserver.sync import copy_missing
from peatkeep.cli.syncing import Copier, missing_blobs
from peatkeep.errors import StoreError
from tests.blobserver.combinators import places

BLOBS = sample(60)
REFS = list(BLOBS)
LISTS = ["enumerate"]
EFFECTS = [*LIES, "unavailable"]


class World:
    """Three stores that lie. Every blob is somewhere, and must be to the end."""

    def __init__(self, effect: str, seed: int) -> None:
        self.inner = [Memory() for _ in range(3)]
        self.stores = [Faulty(inner, [], seed + n) for n, inner in enumerate(self.inner)]
        for number, store in enumerate(self.stores):
            # Some are everywhere, some in one; some were removed lately, so that `stale` has
            # something to tell; the last stored are what `late` leaves out.
            part = [ref for place, ref in enumerate(REFS) if place % 4 in (number, 3)]
            store.receive_many((ref, BLOBS[ref]) for ref in REFS)
            store.remove(ref for ref in REFS if ref not in part)
            store.receive_many((ref, BLOBS[ref]) for ref in part)
            store.faults = [Fault(effect, LISTS, 0.8)]
        self.before = [self.held(number) for number in range(3)]

    def held(self, number: int) -> set[Ref]:
        return {ref for ref, _ in self.inner[number].enumerate()}

    def lost(self, *numbers: int) -> set[Ref]:
        """What these stores held and none of them holds any more."""
        before = set().union(*(self.before[number] for number in numbers))
        return before - set().union(*(self.held(number) for number in numbers))


def output() -> Any:
    nothing = SimpleNamespace(result=lambda *_, **__: None, problem=lambda _: None, summary={})
    return SimpleNamespace(output=nothing)


def move(source: Storage, target: Storage) -> None:
    """What `pk sync -removesrc` does."""
    copier = Copier(output(), source, target, workers=2, remove=True)
    copier.copy(missing_blobs(source, target, None))


def move_carelessly(source: Storage, target: Storage) -> None:
    """The planted bug: what the target lists is taken to be there."""
    copy_missing(source, target)
    source.remove([ref for ref, _ in target.enumerate()])


def several_times(work: Callable[[], object]) -> None:
    for _ in range(4):
        try:
            work()
        except StoreError:
            pass


CASES = [(effect, seed) for effect in EFFECTS for seed in range(5)]


@pytest.mark.parametrize(("effect", "seed"), CASES)
def test_moving_blobs_away_loses_none(effect: str, seed: int) -> None:
    world = World(effect, seed)
    several_times(lambda: move(world.stores[0], world.stores[1]))
    assert world.lost(0, 1) == set()


def test_a_careless_move_would_be_noticed() -> None:
    lost = 0
    for effect, seed in CASES:
        world = World(effect, seed)
        several_times(lambda world=world: move_carelessly(world.stores[0], world.stores[1]))
        lost += len(world.lost(0, 1))
    assert lost > 0


@pytest.mark.parametrize(("effect", "seed"), CASES)
def test_a_repair_deletes_nothing(effect: str, seed: int) -> None:
    world = World(effect, seed)
    several_times(lambda: repair(world.stores))
    several_times(lambda: repair(world.stores, verify=False))
    replica = Replica(world.stores, min_writes=1)
    several_times(replica.repair)
    several_times(replica.catch_up)
    for number in range(3):
        assert world.held(number) >= world.before[number]
    for store in world.stores:
        store.faults = []
    repair(world.stores)
    assert world.held(0) == world.held(1) == world.held(2) == set(BLOBS)


@pytest.mark.parametrize(("effect", "seed"), CASES)
def test_reading_and_writing_through_combinators_deletes_nothing(effect: str, seed: int) -> None:
    world = World(effect, seed)
    combined: Iterator[Storage] = iter(
        (Replica(world.stores, min_writes=1), Placed(places(*world.stores), Hashed(), 2))
    )
    for storage in combined:
        several_times(lambda storage=storage: list(storage.enumerate()))
        several_times(lambda storage=storage: list(storage.stream()))
        several_times(lambda storage=storage: storage.receive_many(BLOBS.items()))
        assert dict(storage.fetch_many(BLOBS)) == BLOBS
    for number in range(3):
        assert world.held(number) >= world.before[number]


@pytest.mark.parametrize(("effect", "seed"), CASES)
def test_an_eviction_leaves_every_blob_somewhere(effect: str, seed: int) -> None:
    """Origin and cache lie; what only the cache has is not evicted."""
    world = World(effect, seed)
    cached = ProxyCache(world.stores[0], world.stores[1], 400)
    only_cached = world.before[1] - world.before[0]

    def read() -> None:
        for ref in sorted(world.before[0]):
            cached.fetch(ref)

    for _ in range(3):
        read()
        cached.receive_many((ref, BLOBS[ref]) for ref in sorted(world.before[0])[::2])
    assert world.held(1) >= only_cached
    assert world.lost(0, 1) == set()


def test_what_lies_is_what_the_cases_say() -> None:
    """Each lie shows in a listing, or the tests above would show nothing."""

    def listings(effect: str) -> Iterable[set[Ref]]:
        world = World(effect, 0)
        for number, store in enumerate(world.stores):
            for _ in range(5):
                yield {ref for ref, _ in store.enumerate()} ^ world.held(number)

    for effect in LIES:
        assert any(listings(effect)), effect
