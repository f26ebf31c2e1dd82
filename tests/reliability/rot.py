"""Bytes rot in every file of a store: wrong ones are never served, and the check names the loss.

Each file in turn is flipped, zeroed, cut, swapped with another of its kind, put back to how it was
earlier, or gone. Then the store opens, every blob is served right or refused, each refused one is
named, storing all again heals all, and a replica with one good copy serves all at once and repairs
the rest. The check names what is refused. One loss nobody can name: that of a loose blob whose file
is gone, since the file's name was all that told of it. `unnamed` counts those. The planted bug is a
store that does not verify what it reads.
"""

import random
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from peatkeep.blob import Ref
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.replica import Replica
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import Corrupt, NotFound, StoreError
from tests.reliability.stores import Blobs, file_batch, lost, opened, small_batch
from tests.reliability.verdict import Verdict

BATCHES = 4
MOST_PROBLEMS = 20
KEPT_NAMES = {"key"}
"""Files that are no part of a store: its owner keeps them elsewhere."""


def flip(path: Path, dice: random.Random, _: Path) -> None:
    data = bytearray(path.read_bytes())
    for _count in range(dice.choice([1, 1, 5])):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def zero(path: Path, dice: random.Random, _: Path) -> None:
    data = bytearray(path.read_bytes())
    begin = dice.randrange(len(data))
    end = min(len(data), begin + dice.choice([1, 512, 4096]))
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)


def cut(path: Path, dice: random.Random, _: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(dice.randrange(path.stat().st_size))


def swap(path: Path, dice: random.Random, _: Path) -> None:
    """With one of its kind: beside an index, a pack would be a second damage of another kind."""
    places = path.parent.parent.rglob(f"*{path.suffix}") if path.suffix else path.parent.iterdir()
    others = [other for other in places if other.is_file()]
    other = dice.choice(sorted(others))
    mine, its = path.read_bytes(), other.read_bytes()
    path.write_bytes(its)
    other.write_bytes(mine)


def roll_back(path: Path, _: random.Random, earlier: Path) -> None:
    if earlier.exists():
        shutil.copyfile(earlier, path)
    else:
        path.unlink()


DAMAGES: list[Callable[[Path, random.Random, Path], None]] = [flip, zero, cut, swap, roll_back]


class Trusting(LocalDisk):
    """The planted bug: what lies in the file is served."""

    def fetch(self, ref: Ref) -> bytes:
        paths = self.folder.rglob(f"{ref}.dat")
        found = next(paths, None)
        if found is None:
            raise NotFound("fetch", ref)
        return found.read_bytes()

    folder: Path


def trusting(folder: Path) -> Storage:
    store = Trusting(folder / "blobs")
    store.folder = folder / "blobs"
    return store


def make(store_name: str, folder: Path, seed: int) -> Blobs:
    """A store, and in `earlier` how it was before the last batches."""
    dice = random.Random(seed)
    blobs: Blobs = {}
    for half in range(2):
        with opened(store_name, folder / "sound") as storage:
            for _ in range(BATCHES):
                batch = small_batch(dice)
                storage.receive_many(batch.items())
                blobs |= batch
            batch = file_batch(dice)
            storage.receive_many(batch.items())
            blobs |= batch
            settle(storage)
        if half == 0:
            shutil.copytree(folder / "sound", folder / "earlier")
    return blobs


def settle(storage: Storage) -> None:
    wait = getattr(storage, "settle", None)
    if wait is not None:
        wait()


def refused(fetch: Callable[[Ref], bytes], blobs: Blobs, problems: list[str]) -> set[Ref]:
    """Which blobs are not served; served wrong is a problem."""
    found = set()
    for ref, data in blobs.items():
        try:
            if fetch(ref) != data:
                problems.append(f"{ref} is served wrong")
        except (Corrupt, NotFound):
            found.add(ref)
    return found


def named(storage: Storage) -> set[str]:
    check = storage.check  # type: ignore[attr-defined]  # all that are tried here have it
    return {str(getattr(found, "ref", "") or getattr(found, "subject", "")) for found in check()}


def try_damage(
    store_name: str, place: Path, blobs: Blobs, gone: Path | None
) -> tuple[list[str], int]:
    """gone: the damaged file, if it is not there any more. Returns also how many had no name."""
    problems: list[str] = []
    with opened(store_name, place) as storage:
        absent = refused(storage.fetch, blobs, problems)
        silent = absent - named(storage)
        unnamed = {ref for ref in silent if gone is not None and gone.name == f"{ref}.dat"}
        silent -= unnamed
        problems += [f"{ref} is refused, and the check does not name it" for ref in silent]
        good = Memory()
        good.receive_many(blobs.items())
        replica = Replica([storage, good], min_writes=1)
        problems += [f"by the replica: {one}" for one in lost(replica, blobs)]
        replica.repair()
        problems += [f"after the repair: {one}" for one in lost(storage, blobs)]
    with opened(store_name, place) as storage:
        problems += [f"after opening again: {one}" for one in lost(storage, blobs)]
    return problems, len(unnamed)


def files_of(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.stat().st_size and path.name not in KEPT_NAMES
    )


def cases(folder: Path, dice: random.Random) -> Iterator[tuple[Path, int]]:
    """Every file with every damage, shuffled, then again."""
    all_of_them = [(path, n) for path in files_of(folder) for n in range(len(DAMAGES))]
    while True:
        yield from dice.sample(all_of_them, len(all_of_them))


def run(folder: Path, seed: int, store_name: str, seconds: float, most: int = 10**9) -> Verdict:
    dice = random.Random(seed)
    blobs = make(store_name, folder, seed)
    began = time.monotonic()
    sound, place = folder / "sound", folder / "damaged"
    problems: list[str] = []
    count = bad = unnamed = 0
    for path, number in cases(sound, dice):
        if count >= most or (count and time.monotonic() - began > seconds):
            break
        shutil.copytree(sound, place)
        inside = path.relative_to(sound)
        DAMAGES[number](place / inside, dice, folder / "earlier" / inside)
        try:
            changed = place / inside
            gone = None if changed.exists() else changed
            found, nameless = try_damage(store_name, place, blobs, gone)
            unnamed += nameless
        except StoreError as error:
            found = [f"does not open or repair: {error}"]
        count += 1
        bad += bool(found)
        if found and len(problems) < MOST_PROBLEMS:
            damage = DAMAGES[number].__name__
            problems.append(f"{store_name}, seed {seed}, {damage} {inside}: {found[:2]}")
        shutil.rmtree(place)
    files = len(files_of(sound))
    caught = plant_is_caught(folder, blobs)
    notes = f"files={files} blobs={len(blobs)} unnamed={unnamed}"
    return Verdict(f"rot {store_name}", count, bad, caught, notes, tuple(problems))


def plant_is_caught(folder: Path, blobs: Blobs) -> bool:
    place = folder / "planted"
    with opened("localdisk", place) as storage:
        storage.receive_many(blobs.items())
    victims: Iterable[Path] = files_of(place / "blobs" / "sha224")[:5]
    for path in victims:
        flip(path, random.Random(1), path)
    problems: list[str] = []
    with trusting(place) as storage:
        refused(storage.fetch, blobs, problems)
    return bool(problems)
