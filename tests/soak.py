"""The long forms of the reliability programme: `./pk soak [NAME …] [--folder DIR]
[--seconds N]`.

Prints one line for each name, ending in PASS or FAIL, and exits 1 if any failed. What a failure
left behind is kept in the folder.
"""

import argparse
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.reliability import (  # noqa: E402
    big,
    crash,
    enospc,
    fuzz,
    independent,
    index,
    indexkill,
    kill9,
    kill9_stores,
    lying,
    migrate,
    model,
    nthfail,
    realtrees,
    resume,
    rot,
    slow,
    syncfirst,
)
from tests.reliability.fuzz_targets import PARSERS  # noqa: E402
from tests.reliability.stores import SERVED, STORES  # noqa: E402
from tests.reliability.verdict import Verdict  # noqa: E402

KILLS = 50
STORE_KILLS = 1000
INDEX_KILLS = 500
STATES = 10_000
POINTS = 10_000
DAMAGES = 10_000
FILLINGS = 100
LIES = 20_000
READ_BLOBS = 50_000
OPERATIONS = 1_000_000
MOVED = 100_000
ORDERS = 20_000
FUZZ_S = 600
SLOW_S = 300
RESUMED_BYTES = 200_000_000
CUTS = 50
BIG_BYTES = 10 * 1024**3
SPARSE_BYTES = 5 * 1024**3

Run = Callable[[Path, int, float], Verdict]
"""Runs in a folder, from a seed, for at most so many seconds where the line knows a limit."""


def fuzz_all(folder: Path, seconds: float) -> Verdict:
    """seconds: for each parser."""
    return fuzz.run(folder, seconds, list(PARSERS), workers=os.cpu_count() or 1)


def of_stores(
    name: str, run: Callable[[Path, int, str, float], Verdict], *more: str
) -> dict[str, Run]:
    """A line for each store, and for what else it knows: `crash-localdisk` and so on."""

    def of(store: str) -> Run:
        return lambda folder, seed, seconds: run(folder, seed, store, seconds)

    return {f"{name}-{store}": of(store) for store in (*STORES, *more)}


def index_of(store: str) -> Run:
    """Its stores are those of rows, not of blobs."""
    return lambda folder, seed, limit_s: index.run(folder, seed, store, limit_s, ORDERS)


def read_by_others(store: str) -> Run:
    return lambda folder, seed, _: independent.run(folder, seed, store, READ_BLOBS)


PROGRAMME: dict[str, Run] = {
    **of_stores("crash", partial(crash.run, most=STATES), SERVED),
    **of_stores("nthfail", partial(nthfail.run, most=POINTS)),
    **of_stores("rot", partial(rot.run, most=DAMAGES)),
    **of_stores("enospc", lambda folder, seed, store, _: enospc.run(folder, seed, store, FILLINGS)),
    **of_stores(
        "kill9",
        lambda folder, seed, store, limit_s: kill9_stores.run(
            folder, seed, store, STORE_KILLS, limit_s
        ),
    ),
    **{f"index-{store}": index_of(store) for store in index.STORES},
    **{f"independent-{store}": read_by_others(store) for store in independent.READERS},
    "indexkill": lambda folder, seed, limit_s: indexkill.run(folder, seed, INDEX_KILLS, limit_s),
    "lying": lambda folder, seed, limit_s: lying.run(folder, seed, limit_s, LIES),
    "model": lambda folder, seed, limit_s: model.run(folder, seed, limit_s, OPERATIONS),
    "kill9": lambda folder, seed, _: kill9.run(folder, seed, KILLS),
    "migrate": lambda folder, seed, _: migrate.run(folder, seed, MOVED),
    "syncfirst": lambda folder, seed, _: syncfirst.run(folder, seed),
    "resume": lambda folder, seed, _: resume.run(folder, seed, RESUMED_BYTES, CUTS),
    "slow": lambda folder, seed, limit_s: slow.run(folder, seed, min(limit_s, SLOW_S)),
    "big": lambda folder, *_: big.run(folder, BIG_BYTES),
    "big-plain": lambda folder, *_: big.run(folder, BIG_BYTES, is_plain=True),
    "trees": lambda folder, *_: realtrees.run(folder, SPARSE_BYTES),
    "fuzz": lambda folder, _, limit_s: fuzz_all(folder, min(limit_s, FUZZ_S)),
}


def chosen(names: list[str]) -> list[str]:
    """A line by its name; else `crash` stands for the crash lines of all stores.

    Raises KeyError for an unknown name.
    """
    found: list[str] = []
    for name in names:
        lines = [line for line in PROGRAMME if line.startswith(f"{name}-")]
        lines = [name] if name in PROGRAMME else lines
        if not lines:
            raise KeyError(name)
        found += lines
    return found or list(PROGRAMME)


def main() -> int:
    parser = argparse.ArgumentParser(prog="pk soak", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of: {', '.join(PROGRAMME)}; all if absent")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/peatkeep-soak"))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--seconds", type=float, default=math.inf, help="at most, for each line")
    options = parser.parse_args()
    try:
        names = chosen(options.name)
    except KeyError as error:
        parser.error(f"unknown: {error.args[0]}")
    failed = False
    for name in names:
        folder = options.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        verdict = PROGRAMME[name](folder, options.seed, options.seconds)
        for problem in verdict.problems:
            print(problem)
        print(f"{verdict} (seed {options.seed})", flush=True)
        failed = failed or not verdict.passed
        if verdict.passed:
            shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
