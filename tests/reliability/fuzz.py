"""Feed every parser with what strangers may send; coverage leads the way.

    fuzz.py PARSER SECONDS CORPUS      one parser in this process, until it fails or time is up

A case is bad if an error escapes that the parser does not promise, or if one input takes more than
100 ms of processor time. The planted bug is a parser that fails on one input in many.
"""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from tests.reliability.fuzz_targets import PARSERS, PLANTED, Parser  # noqa: E402
from tests.reliability.verdict import Verdict  # noqa: E402

SLOW_S = 0.1
TRIES = 3
"""So often must one input be slow to count: the first time, code may have been loading."""
MAX_INPUT_BYTES = 4096
STARTING_S = 300.0
PLANTED_S = 300.0
"""At most; it is found at once."""

FORKED = ("/bin/sh", "-c", '"$@"; exit $?', "sh")
"""By way of a shell, which forks: a process inherits the peak memory of the one that it replaces,
and the fuzzer would take that of a whole test run for its own."""


class Fuzzed(NamedTuple):
    """What became of one parser. `problem` is empty where nothing was found."""

    inputs: int
    problem: str


def fuzz_here(parser: Parser, seconds: float, corpus: Path) -> None:
    """Fuzz in this process, which ends with it: exit code 0 where nothing was found."""
    import atheris

    with atheris.instrument_imports(include=["peatkeep"]):
        target = atheris.instrument_func(parser.make())

    def watched(data: bytes) -> None:
        if cpu_s(target, data) > SLOW_S and min(cpu_s(target, data) for _ in range(TRIES)) > SLOW_S:
            raise TimeoutError(f"over {SLOW_S} s for one input")

    flags = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-max_len={MAX_INPUT_BYTES}",
        f"-artifact_prefix={corpus.parent}/",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], watched)
    atheris.Fuzz()


def cpu_s(target: object, data: bytes) -> float:
    began = time.thread_time()
    assert callable(target)
    target(data)
    return time.thread_time() - began


def fuzz(name: str, seconds: float, folder: Path) -> Fuzzed:
    """Fuzz one parser in a process of its own; what it fails on is kept in `folder`."""
    parser = find(name)
    corpus = folder / name / "corpus"
    corpus.mkdir(parents=True)
    for number, seed in enumerate(parser.seeds):
        (corpus / f"seed{number}").write_bytes(seed)
    done = subprocess.run(
        [*FORKED, sys.executable, __file__, name, str(seconds), str(corpus)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + STARTING_S,
        check=False,
    )
    said = done.stdout + done.stderr
    count = re.search(r"stat::number_of_executed_units:\s+(\d+)", said)
    inputs = int(count[1]) if count else 0
    if done.returncode == 0 and inputs:
        return Fuzzed(inputs, "")
    found = re.search(r"=== Uncaught Python exception: ===\n(.*(?:\n.+)*)", said)
    return Fuzzed(inputs, f"{name}: {found[1] if found else said[-2000:]}")


def find(name: str) -> Parser:
    return PLANTED if name == "planted" else PARSERS[name]


def run(folder: Path, seconds: float, names: Sequence[str], workers: int = 1) -> Verdict:
    """Fuzz these parsers, each for so many seconds, and the planted one."""
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(lambda name: fuzz(name, seconds, folder), names))
        caught = bool(fuzz("planted", max(seconds, PLANTED_S), folder).problem)
    problems = tuple(one.problem for one in found if one.problem)
    notes = " ".join(names)
    return Verdict("fuzz", sum(one.inputs for one in found), len(problems), caught, notes, problems)


if __name__ == "__main__":
    fuzz_here(find(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))
