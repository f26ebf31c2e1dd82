"""kill -9 while four threads write to a store: what was acknowledged is there at the next opening.

    kill9_stores.py STORE SEED FOLDER      one writer, which says what it begins and what is stored

The planted bug acknowledges before it stores.
"""

import math
import os
import random
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

from peatkeep.blob import Ref
from peatkeep.errors import StoreError
from tests.reliability.disks import ROOT
from tests.reliability.stores import PLANTED, STORES, file_batch, opened, small_batch, unserved
from tests.reliability.verdict import Verdict
from tests.waiting import GUARD_S

WRITERS = 4
PLANTED_NAME = "acknowledges-early"
MOST_PLANTED_KILLS = 20
"""A kill may fall between two batches: it goes on until one does not."""

LONGEST_S = 0.5
IN_FLIGHT_SHARE = 0.8
MOST_KILLS = 3
"""So many times as many kills as were asked for at most to have that share under way."""


def write(store_name: str, seed: int, folder: Path) -> None:
    """Store until killed. Lines: `? thread` a batch begins, `+ thread ref…` it is stored."""
    early = store_name == PLANTED_NAME
    with opened("localdisk" if early else store_name, folder) as storage:

        def work(number: int) -> None:
            dice = random.Random(f"{seed} {number}")
            for step in range(1 << 30):
                batch = file_batch(dice) if step % 5 == 4 else small_batch(dice)
                stored = f"+ {number} {' '.join(batch)}\n".encode()
                os.write(1, f"? {number}\n".encode())
                if early:
                    os.write(1, stored)
                storage.receive_many(batch.items())
                if not early:
                    os.write(1, stored)

        threads = [threading.Thread(target=work, args=[n]) for n in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def kill_once(store_name: str, seed: int, folder: Path) -> tuple[list[str], bool]:
    """What was acknowledged before the kill, and whether a batch was under way."""
    module = "tests.reliability.kill9_stores"
    command = [sys.executable, "-m", module, store_name, str(seed), str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], 2 * GUARD_S)[0]:
        process.kill()
        raise RuntimeError("the writer does not begin")
    timer = threading.Timer(random.Random(seed).uniform(0, LONGEST_S), process.kill)
    timer.start()
    said = process.stdout.read()
    timer.cancel()
    process.wait()
    process.stdout.close()
    under_way: set[str] = set()
    acknowledged: list[str] = []
    for line in said.decode().split("\n")[:-1]:  # the last one may be cut off
        mark, thread, *refs = line.split()
        acknowledged += refs
        if mark == "?":
            under_way.add(thread)
        else:
            under_way.discard(thread)
    return acknowledged, bool(under_way)


def look(store_name: str, folder: Path, acknowledged: list[str]) -> list[str]:
    with opened("localdisk" if store_name == PLANTED_NAME else store_name, folder) as storage:
        wanted = dict.fromkeys(map(Ref, acknowledged))
        answers = storage.fetch_many(wanted)
        found = [f"{ref} is lost: {x}" for ref, x in answers if isinstance(x, Exception)]
        return found + unserved(storage)


def campaign(
    folder: Path, seed: int, store_name: str, kills: int, seconds: float, until_bad: bool = False
) -> tuple[int, int, int, list[str]]:
    """Kills, of these with a batch under way, blobs acknowledged, and what went wrong.

    The store grows from kill to kill, and only what is new is looked at each time. There are more
    kills where too few fell into a batch. until_bad: end with the first that shows something.
    """
    began = time.monotonic()
    count = in_flight = total = 0
    problems: list[str] = []
    while (count < kills or in_flight < IN_FLIGHT_SHARE * count) and count < MOST_KILLS * kills:
        if (count and time.monotonic() - began > seconds) or (until_bad and problems):
            break
        place = folder / f"{count // 10}"
        acknowledged, under_way = kill_once(store_name, seed + count, place)
        try:
            found = look(store_name, place, acknowledged)
        except StoreError as error:
            found = [f"does not open: {error}"]
        problems += [f"{store_name}, seed {seed + count}: {one}" for one in found[:3]]
        count += 1
        in_flight += under_way
        total += len(acknowledged)
    return count, in_flight, total, problems


def run(
    folder: Path, seed: int, store_name: str, kills: int, seconds: float = float("inf")
) -> Verdict:
    """Kill so many times, or for so many seconds; and try the planted bug."""
    assert store_name in STORES or store_name in PLANTED
    count, in_flight, total, problems = campaign(folder / "ours", seed, store_name, kills, seconds)
    planted = campaign(
        folder / "planted", seed, PLANTED_NAME, MOST_PLANTED_KILLS, math.inf, until_bad=True
    )
    if in_flight < IN_FLIGHT_SHARE * count:
        problems.append(f"only {in_flight} of {count} kills fell into a batch")
    notes = f"in_flight={in_flight} acknowledged={total}"
    name = f"kill9 {store_name}"
    return Verdict(name, count, len(problems), bool(planted[3]), notes, tuple(problems))


if __name__ == "__main__":
    name, seed, place = sys.argv[1:]
    write(name, int(seed), Path(place))
