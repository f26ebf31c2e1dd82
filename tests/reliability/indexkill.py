"""kill -9 while blobs are indexed, and while the index is made anew beside itself.

    indexkill.py SEED FOLDER      one process: stores and indexes, in another thread makes anew

After the next opening the rows equal those of a reindex. The store and the rows grow from kill
to kill. The planted bug forgets that the process did not end cleanly.
"""

import os
import random
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peatkeep.blobserver.storage import Storage
from peatkeep.index.index import Index, IndexRefused
from peatkeep.index.places import Place
from peatkeep.index.rows import STATE_KEY
from peatkeep.index.upkeep import Upkeep
from peatkeep.sorted.leveldb import LevelDBKeyValue
from peatkeep.sorted.memory import MemoryKeyValue
from tests.index import make
from tests.index.corpus import OWNER_KEY_ID, Blob
from tests.index.orders import POOLS, pool
from tests.reliability.disks import ROOT
from tests.reliability.stores import opened
from tests.reliability.verdict import Verdict
from tests.waiting import GUARD_S

STORE = "diskpacked"
LONGEST_S = 0.4


@contextmanager
def kept(storage: Storage, folder: Path, reason: str = "") -> Iterator[tuple[Index, Upkeep]]:
    """The index as the server opens it."""
    place = Place({"type": "leveldb", "file": str(folder / "rows")})
    rows, found = place.open()
    index = Index(rows, storage, [OWNER_KEY_ID], catch_up=False)
    upkeep = Upkeep(index, rows, place, reason or found)
    try:
        upkeep.start()
        yield index, upkeep
    finally:
        upkeep.close()
        index.close()
        place.closed()


def arrivals(seed: int) -> Iterator[list[Blob]]:
    """Awkward blobs in any order, in batches; then claims without end."""
    dice = random.Random(seed)
    blobs = list(pool(seed % POOLS))
    dice.shuffle(blobs)
    while blobs:
        count = dice.choice((1, 2, 5, 20))
        yield blobs[:count]
        blobs = blobs[count:]
    targets = [make.permanode(f"p{number}")[0] for number in range(4)]
    for number in range(1 << 30):
        made = make.claim(dice.choice(targets), "tag", f"{seed} {number}", number)
        yield [made, make.delete(made[0], number)] if dice.random() < 0.3 else [made]


def work(seed: int, folder: Path) -> None:
    with opened(STORE, folder / "blobs") as storage:
        reason = "for a test" if seed % 2 else ""
        with kept(storage, folder, reason) as (index, _):
            os.write(1, b"begun\n")
            for batch in arrivals(seed):
                storage.receive_many(batch)
                try:
                    index.receive(batch)
                except IndexRefused:
                    continue  # there are some such


def kill_once(seed: int, folder: Path) -> None:
    command = [sys.executable, "-m", "tests.reliability.indexkill", str(seed), str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], 2 * GUARD_S)[0]:
        process.kill()
        raise RuntimeError("the process does not begin")
    timer = threading.Timer(random.Random(seed).uniform(0, LONGEST_S), process.kill)
    timer.start()
    process.wait()
    process.stdout.close()


def look(folder: Path) -> list[str]:
    """Open, as after a crash; what differs from a reindex then."""
    with opened(STORE, folder / "blobs") as storage:
        with kept(storage, folder) as (index, upkeep):
            if not upkeep.wait(2 * GUARD_S):
                return ["the index does not become whole"]
            index.settle()
            index.settle_sizes()
        fresh = MemoryKeyValue()
        anew = Index(fresh, storage, [OWNER_KEY_ID], catch_up=False)
        anew.reindex()
        there = {ref for ref, _ in storage.enumerate()}
    wanted = dict(fresh.find())
    with LevelDBKeyValue(folder / "rows") as rows:
        got = dict(rows.find())
    differ = sorted(key for key in got.keys() | wanted.keys() if got.get(key) != wanted.get(key))
    return [repr(key) for key in differ if key != STATE_KEY and not _is_old_note(key, there)]


def _is_old_note(key: bytes, there: set[str]) -> bool:
    """What arrived already, of a blob that waits for more: depends on the order (README.md)."""
    return key.startswith(b"missing|") and key.decode().split("|")[2] in there


def planted(folder: Path) -> list[str]:
    """What is found when a crash between storing and indexing is forgotten."""
    with opened(STORE, folder / "blobs") as storage:
        storage.receive_many([make.permanode("stored only")])
    with LevelDBKeyValue(folder / "rows") as rows:
        rows.delete(STATE_KEY)
    (folder / "rows.seen").unlink()  # which would tell that this was written by another program
    return look(folder)


def run(folder: Path, seed: int, kills: int, seconds: float = float("inf")) -> Verdict:
    """Kill so many times, or for so many seconds; and try the planted bug."""
    end_s = time.monotonic() + seconds
    problems: list[str] = []
    count = 0
    while count < kills and (not count or time.monotonic() < end_s):
        place = folder / f"{count // 5}"
        place.mkdir(exist_ok=True)
        kill_once(seed + count, place)
        found = look(place)
        problems += [f"seed {seed + count}: {one}" for one in found[:3]]
        count += 1
    caught = count > 0 and bool(planted(place))
    return Verdict("indexkill", count, len(problems), caught, problems=tuple(problems))


if __name__ == "__main__":
    work(int(sys.argv[1]), Path(sys.argv[2]))
