"""Stores that list late, nothing, yesterday's or a part: no deletion is decided by what they say.

Moves, repairs, combinators, evictions, packing and compaction run over stores whose listings lie or
break off. The planted bug is a move that takes what the target lists for there.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path

from peatkeep.blobserver.blobpacked import BlobPacked
from peatkeep.blobserver.faulty import LIES, Fault, Faulty
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.placed import Placed
from peatkeep.blobserver.placement import Hashed
from peatkeep.blobserver.proxycache import ProxyCache
from peatkeep.blobserver.repair import repair
from peatkeep.blobserver.replica import Replica
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import StoreError
from peatkeep.sorted.memory import MemoryKeyValue
from tests.blobserver.combinators import places
from tests.blobserver.test_lying import BLOBS, REFS, World, move, move_carelessly, several_times
from tests.reliability.stores import Blobs, file_batch, lost, small_batch
from tests.reliability.verdict import Verdict

EFFECTS = [*LIES, "unavailable"]


def moving(effect: str, seed: int) -> int:
    world = World(effect, seed)
    several_times(lambda: move(world.stores[0], world.stores[1]))
    return len(world.lost(0, 1))


def repairing(effect: str, seed: int) -> int:
    world = World(effect, seed)
    replica = Replica(world.stores, min_writes=1)
    for work in (lambda: repair(world.stores), replica.repair, replica.catch_up):
        several_times(work)
    return sum(len(world.lost(number)) for number in range(3))


def combining(effect: str, seed: int) -> int:
    world = World(effect, seed)
    stores: tuple[Storage, ...] = (
        Replica(world.stores, min_writes=1),
        Placed(places(*world.stores), Hashed(), 2),
    )
    for storage in stores:
        several_times(lambda storage=storage: storage.receive_many(BLOBS.items()))  # type: ignore[misc]
        several_times(lambda storage=storage: list(storage.stream()))  # type: ignore[misc]
    return sum(len(world.lost(number)) for number in range(3))


def evicting(effect: str, seed: int) -> int:
    world = World(effect, seed)
    cache = ProxyCache(world.stores[0], world.stores[1], 400)
    for ref in random.Random(seed).sample(REFS, len(REFS)):
        several_times(lambda ref=ref: cache.fetch(ref))  # type: ignore[misc]
    return len(world.lost(0, 1))


def packing(effect: str, seed: int) -> int:
    """Loose store and zips lie while files are packed, the rows lost, and zips compacted."""
    dice = random.Random(seed)
    inner = Memory(), Memory()
    rows = MemoryKeyValue()
    below = [Faulty(one, [], seed + number) for number, one in enumerate(inner)]
    blobs: Blobs = {}

    def work(rows: MemoryKeyValue) -> None:
        with BlobPacked(below[0], below[1], rows, in_background=False) as storage:
            batch = {**file_batch(dice), **small_batch(dice)}
            storage.receive_many(batch.items())
            blobs.update(batch)
            for one in below:
                one.faults = [Fault(effect, ["enumerate"], 0.8)]
            removed = dice.sample(sorted(blobs), 2)
            for ref in removed:
                blobs.pop(ref)
            steps: list[Callable[[], object]] = [
                lambda: storage.remove(removed),
                storage.settle,
                storage.pack_loose,
                storage.bundle_loose,
                storage.compact,
                storage.recover,
            ]
            for step in steps:
                several_times(step)
            for one in below:
                one.faults = []

    for _ in range(2):
        work(rows)
    with BlobPacked(*inner, MemoryKeyValue(), in_background=False) as storage:
        return len(lost(storage, blobs))


WAYS: list[Callable[[str, int], int]] = [moving, repairing, combining, evicting, packing]


def planted(effect: str, seed: int) -> int:
    world = World(effect, seed)
    several_times(lambda: move_carelessly(world.stores[0], world.stores[1]))
    return len(world.lost(0, 1))


def run(folder: Path, seed: int, seconds: float, most: int = 10**9) -> Verdict:
    """Every way with every lie, again and again with further seeds."""
    began = time.monotonic()
    count = bad = 0
    problems: list[str] = []
    caught = sum(planted(effect, seed + n) for effect in LIES for n in range(3)) > 0
    while True:
        for way in WAYS:
            for effect in EFFECTS:
                if count >= most or (count and time.monotonic() - began > seconds):
                    return Verdict("lying", count, bad, caught, "", tuple(problems[:20]))
                try:
                    gone = way(effect, seed)
                    said = f"{gone} blobs were deleted" if gone else ""
                except StoreError as error:
                    said = str(error)
                count += 1
                bad += bool(said)
                if said:
                    problems.append(f"{way.__name__}, {effect}, seed {seed}: {said}")
        seed += 1
