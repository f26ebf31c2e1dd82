"""A small disk is filled and freed, again and again; then the index is made anew.

    enospc.py STORE SEED ROUNDS FOLDER     in a mount namespace of its own

Whatever was acknowledged is served, at every opening and after the loss of the index. On the full
disk blobs can be removed, and the store be opened; when there is room again it takes blobs, without
being opened anew. Nobody helps by giving room from elsewhere. The planted bug is localdisk that
takes failed writes for done.
"""

import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from peatkeep.blobserver.storage import Storage
from peatkeep.errors import StoreError
from tests.reliability.disks import apart, mounted
from tests.reliability.stores import Blobs, lost, opened, small_batch
from tests.reliability.verdict import Verdict

SCALE = {"encrypt": 5}
"""How many times larger disk and blobs are. LevelDB needs room to merge its tables, of which the
memory of encrypt makes many: of 3 MB they alone would take most in the end."""

DISK_BYTES = 3 << 20
MOST_BYTES = 20_000
REOPEN_EVERY = 10
MOST_BATCHES = 400
PLANTED = "swallows-errors"
PLANTED_ROUNDS = 3
MOST_PROBLEMS = 20


class Filler:
    """Stores until nothing more fits, removes some, and knows what must be there."""

    def __init__(self, dice: random.Random, scale: int) -> None:
        self._dice = dice
        self._most_bytes = MOST_BYTES * scale
        self.there: Blobs = {}
        self.acknowledged = 0
        self.full = 0

    def fill(self, storage: Storage) -> list[str]:
        """Returns what went wrong, which running out of space is not."""
        for _ in range(MOST_BATCHES):
            batch = small_batch(self._dice, self._most_bytes)
            try:
                storage.receive_many(batch.items())
            except StoreError:
                self.full += 1
                return []
            self.there.update(batch)
            self.acknowledged += len(batch)
        return ["the disk is never full"]

    def free(self, storage: Storage) -> list[str]:
        gone = self._dice.sample(sorted(self.there), len(self.there) * 2 // 3)
        for ref in gone:
            del self.there[ref]
        try:
            storage.remove(gone)
        except StoreError as error:
            return [f"nothing can be removed: {error}"]
        return []

    def goes_on(self, storage: Storage) -> list[str]:
        batch = small_batch(self._dice, self._most_bytes)
        try:
            storage.receive_many(batch.items())
        except StoreError as error:
            return [f"takes nothing though there is room: {error}"]
        self.there.update(batch)
        return []


def make_room(storage: Storage) -> None:
    """Give back the space of removed blobs now."""
    for name in ("settle", "compact"):
        method = getattr(storage, name, None)
        if method is not None:
            try:
                method()
            except StoreError:
                pass  # a full disk may not allow it; what must hold is looked at afterwards


def forget_index(folder: Path) -> None:
    for pattern in ("*.leveldb", "*.leveldb.peatkeep", "*.sqlite*"):
        for path in list(folder.rglob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def rounds_of(filler: Filler, storage: Storage, rounds: int) -> Iterator[list[str]]:
    """Fill, free, and yield what went wrong in each round."""
    for _ in range(rounds):
        found = lost(storage, filler.there) + filler.fill(storage)
        found += lost(storage, filler.there) + filler.free(storage)
        make_room(storage)
        yield found + filler.goes_on(storage)


def campaign(store_name: str, seed: int, rounds: int, folder: Path) -> dict[str, object]:
    scale = SCALE.get(store_name, 1)
    filler = Filler(random.Random(seed), scale)
    problems: list[str] = []
    bad = done = 0
    with mounted("tmpfs", folder, "tmpfs", f"size={DISK_BYTES * scale}"):
        while done < rounds:
            begun = done
            try:
                with opened(store_name, folder) as storage:
                    for found in rounds_of(filler, storage, min(REOPEN_EVERY, rounds - done)):
                        done += 1
                        bad += bool(found)
                        problems += [f"round {done}: {one}" for one in found[:2]]
            except StoreError as error:
                done = max(done, begun + 1)
                bad += 1
                problems.append(f"round {done}: {error}")
        forget_index(folder)
        with opened(store_name, folder) as storage:
            missing = lost(storage, filler.there)
            problems += [f"after the loss of the index: {one}" for one in missing]
    notes = f"full={filler.full} acknowledged={filler.acknowledged}"
    return {"n": done, "bad": bad, "problems": problems[:MOST_PROBLEMS], "notes": notes}


def run(folder: Path, seed: int, store_name: str, rounds: int) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="enospc-", dir=folder) as place:
        ours = apart("enospc", store_name, seed, rounds, place, own_mounts=True)
        planted = apart("enospc", PLANTED, seed, PLANTED_ROUNDS, place, own_mounts=True)
    found = tuple(f"{store_name}, seed {seed}: {one}" for one in ours["problems"])
    caught = bool(planted["problems"])
    bad = max(ours["bad"], len(found))
    return Verdict(f"enospc {store_name}", ours["n"], bad, caught, ours["notes"], found)


if __name__ == "__main__":
    name, seed, rounds, place = sys.argv[1:]
    print(json.dumps(campaign(name, int(seed), int(rounds), Path(place))))
