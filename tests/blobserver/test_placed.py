"""Where blobs go, and that they are found wherever they went."""

from collections import Counter
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.conformance import sample, sized
from peatkeep.blobserver.faulty import Fault, Faulty
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.placed import Placed
from peatkeep.blobserver.placement import (
    BySize,
    Emptiest,
    Hashed,
    Listed,
    Place,
    Policy,
    Reversed,
    Spacious,
    Tiered,
)
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import ConfigError, Unavailable
from tests.blobserver.combinators import places

BLOBS = sample(60)


def refs_in(store: Storage) -> set[Ref]:
    return {ref for ref, _ in store.enumerate()}


def firsts(policy: Policy, where: list[Place], count: int = 3000) -> Counter[str]:
    refs = (Ref.of(b"%d" % number) for number in range(count))
    return Counter(where[policy.rank(ref, 10, where)[0]].name for ref in refs)


# -- policies -----------------------------------------------------------------------------------


def test_hashing_gives_each_place_its_share() -> None:
    shares = firsts(Hashed(), [Place("a"), Place("b", 2), Place("c", 3)])
    assert 400 < shares["a"] < 600
    assert 850 < shares["b"] < 1150
    assert 1350 < shares["c"] < 1650


def test_with_one_place_more_only_what_goes_there_moves() -> None:
    few = [Place("a"), Place("b")]
    more = [Place("c"), *few]
    moved = 0
    for number in range(1000):
        ref = Ref.of(b"%d" % number)
        before, after = (where[Hashed().rank(ref, 1, where)[0]].name for where in (few, more))
        assert after in (before, "c")
        moved += after == "c"
    assert 250 < moved < 420


def test_the_emptiest_place_comes_first() -> None:
    where = [Place("a", free_size=lambda: 5), Place("b", free_size=lambda: 9), Place("c")]
    assert Emptiest().rank(Ref.of(b""), 1, where) == [1, 0, 2]


def test_a_place_without_room_comes_last() -> None:
    where = [Place("full", free_size=lambda: 100), Place("b", free_size=lambda: 150)]
    assert Spacious(Listed(), reserve_size=50).rank(Ref.of(b""), 60, where) == [1, 0]
    assert Spacious(Listed(), reserve_size=50).rank(Ref.of(b""), 50, where) == [0, 1]


def test_tiers_go_before_hashes() -> None:
    where = [Place("slow", tier=1), Place("a"), Place("b")]
    shares = firsts(Tiered(Hashed()), where, 300)
    assert shares["slow"] == 0
    assert min(shares["a"], shares["b"]) > 100


def test_large_blobs_may_have_a_policy_of_their_own() -> None:
    where = [Place("quick"), Place("large", tier=1)]
    tiers = Tiered(Listed())
    policy = BySize(1000, small=tiers, large=Reversed(tiers))
    assert policy.rank(Ref.of(b""), 999, where) == [0, 1]
    assert policy.rank(Ref.of(b""), 1000, where) == [1, 0]


# -- the store ----------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_each_blob_has_its_copies(copies: int) -> None:
    stores = [Memory() for _ in range(3)]
    Placed(places(*stores), Hashed(), copies).receive_many(BLOBS.items())
    held = Counter(ref for store in stores for ref in refs_in(store))
    assert set(held.values()) == {copies}
    assert len(held) == 60


def test_a_blob_stays_where_it_is() -> None:
    stores = [Memory() for _ in range(3)]
    Placed(places(*stores), Listed()).receive_many(BLOBS.items())
    placed = Placed(places(*stores), Reversed(Listed()))
    placed.receive_many(BLOBS.items())
    assert refs_in(stores[0]) == set(BLOBS)
    assert refs_in(stores[2]) == set()
    assert dict(placed.fetch_many(BLOBS)) == BLOBS
    assert list(placed.enumerate()) == sorted(placed.stat(BLOBS)) == sized(BLOBS)


@pytest.mark.parametrize("in_two_steps", [True, False])
def test_the_next_place_stands_in_for_one_that_fails(in_two_steps: bool) -> None:
    stores = [Memory() for _ in range(2)]
    down = Faulty(Memory(), [Fault("unavailable", rate=1.0)])
    placed = Placed(places(stores[0], down, stores[1]), Hashed(), 2)
    if in_two_steps:
        placed.write_many(BLOBS.items())
        placed.sync()
    else:
        placed.receive_many(BLOBS.items())
    assert refs_in(stores[0]) == refs_in(stores[1]) == set(BLOBS)
    assert dict(placed.fetch_many(BLOBS)) == BLOBS
    with pytest.raises(Unavailable):
        list(placed.enumerate())


def test_too_few_places_are_an_error() -> None:
    down = Faulty(Memory(), [Fault("unavailable", rate=1.0)])
    with pytest.raises(Unavailable):
        Placed(places(Memory(), down), Hashed(), 2).receive_many(BLOBS.items())


def test_a_damaged_copy_is_replaced_from_the_other(tmp_path: Path) -> None:
    ref, data = next(iter(BLOBS.items()))
    with LocalDisk(tmp_path) as disk:
        placed = Placed(places(disk, Memory()), Listed(), 2)
        placed.receive(ref, data)
        next(tmp_path.rglob(f"{ref}.dat")).write_bytes(b"?" * len(data))
        assert placed.fetch(ref) == data
        assert disk.fetch(ref) == data


def test_reading_copies_nothing_to_places_that_lack_it() -> None:
    stores = [Memory(), Memory()]
    stores[1].receive_many(BLOBS.items())
    placed = Placed(places(*stores), Listed())
    assert dict(placed.fetch_many(BLOBS)) == BLOBS
    assert refs_in(stores[0]) == set()


def test_a_configuration_names_places_and_policy(tmp_path: Path) -> None:
    stores: dict[str, Storage] = {"/a/": Memory(), "/b/": Memory()}
    args: dict[str, object] = {"backends": ["/a/", "/b/"], "policy": "tier", "tiers": [1, 0]}
    args |= {"folders": [str(tmp_path), str(tmp_path)], "weights": [1, 2]}
    placed = open_storage("storage-placed", args, stores.__getitem__)
    placed.receive_many(BLOBS.items())
    assert refs_in(stores["/b/"]) == set(BLOBS)
    full = open_storage("storage-placed", {**args, "reserveBytes": 2**60}, stores.__getitem__)
    full.receive(Ref.of(b"more"), b"more")  # all are too full: they get it all the same
    assert full.fetch(Ref.of(b"more")) == b"more"


@pytest.mark.parametrize(
    "wrong",
    [
        {"backends": []},
        {"backends": ["/a/", "/a/"]},
        {"copies": 3},
        {"copies": 0},
        {"policy": "random"},
        {"weights": [1]},
        {"weights": [1, 0]},
        {"tiers": ["a", "b"]},
        {"folder": "/"},
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        open_storage("storage-placed", {"backends": ["/a/", "/b/"], **wrong}, lambda _: Memory())
