"""The long forms of the reliability programme: `./pk soak [NAME …] [--folder DIR]`.

Prints one line for each name, ending in PASS or FAIL, and exits 1 if any failed. What a failure
left behind is kept in the folder.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.reliability import big, fuzz, kill9, realtrees  # noqa: E402
from tests.reliability.fuzz_targets import PARSERS  # noqa: E402
from tests.reliability.verdict import Verdict  # noqa: E402

KILLS = 50
FUZZ_S = 600
BIG_BYTES = 10 * 1024**3
SPARSE_BYTES = 5 * 1024**3


def fuzz_all(folder: Path) -> Verdict:
    return fuzz.run(folder, FUZZ_S, list(PARSERS), workers=os.cpu_count() or 1)


def kill9_often(folder: Path, seed: int) -> Verdict:
    return kill9.run(folder, seed, KILLS)


PROGRAMME: dict[str, Callable[[Path, int], Verdict]] = {
    "kill9": kill9_often,
    "big": lambda folder, _: big.run(folder, BIG_BYTES),
    "trees": lambda folder, _: realtrees.run(folder, SPARSE_BYTES),
    "fuzz": lambda folder, _: fuzz_all(folder),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="pk soak", description=__doc__)
    parser.add_argument("name", nargs="*", help=f"of: {', '.join(PROGRAMME)}; all if absent")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/peatkeep-soak"))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    unknown = [name for name in options.name if name not in PROGRAMME]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    failed = False
    for name in options.name or PROGRAMME:
        folder = options.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        verdict = PROGRAMME[name](folder, options.seed)
        for problem in verdict.problems:
            print(problem)
        print(f"{verdict} (seed {options.seed})", flush=True)
        failed = failed or not verdict.passed
        if verdict.passed:
            shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
