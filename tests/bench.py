"""Measure peatkeep beside restic and borg: `./pk bench [WORK …] [--folder DIR] [--repeat N]
[--storage KIND]`. `./pk bench storage` measures the stores alone (tests/bench/storage.py).

WORK is one of the names in the table. Inputs are made from a fixed seed; each program starts from
an empty store on the same disk. Perkeep's time is restic's times the factor once measured
(PERKEEP_FACTORS): compare the ratios, not the seconds.
"""

import argparse
import importlib
import itertools
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from peatkeep.server.config.first_start import KINDS  # noqa: E402
from tests.bench import inputs  # noqa: E402
from tests.bench.peers import PEERS, Measured, Peatkeep, Peer, install_missing  # noqa: E402

MEGABYTE = 1_000_000

BENCHES = sorted(
    path.stem for path in (ROOT / "tests/bench").glob("*.py") if "\ndef main(" in path.read_text()
)
"""Modules of tests/bench that measure something by themselves, by the arguments they are given."""


class Work(NamedTuple):
    """One line of the table.

    perkeep_factor: Perkeep's time as a multiple of restic's; 0 where it was never measured.
    target: at least this many times Perkeep's speed. absolute_s: a limit in seconds instead.
    """

    name: str
    source: str
    perkeep_factor: float = 0
    target: float = 0
    absolute_s: float = 0


WORKS = [
    Work("put-large", "large.tar", 7.5, target=10),
    Work("get-large", "large.tar", 2.1, target=2),
    Work("put-random", "random.bin"),
    Work("get-random", "random.bin"),
    Work("put-tree", "tree", 6.7, target=6),
    Work("put-again", "tree", absolute_s=0.25),
    Work("get-tree", "tree", 0.6, target=1),
    Work("put-small", "small", 6.0, target=6),
    Work("get-small", "small"),
]

Results = dict[tuple[str, str], Measured]


def measure_source(
    peer_class: type[Peer], source: Path, names: Iterable[str], folder: Path
) -> dict[str, Measured]:
    """All works on one input with one peer, in a store of its own."""
    folder.mkdir(parents=True)
    peer = peer_class(folder)
    kind = source.name.partition(".")[0]
    steps: dict[str, Callable[[], Measured]] = {
        f"put-{kind}": lambda: peer.put(source),
        "put-again": lambda: peer.put(source),
        f"get-{kind}": lambda: peer.get(folder / "out"),
    }
    wanted = set(names)
    try:
        # A get needs a put before it, measured or not.
        needed = wanted | {f"put-{kind}"}
        done = {name: step() for name, step in steps.items() if name in needed}
    finally:
        peer.close()
    return {name: measured for name, measured in done.items() if name in wanted}


def median(measured: list[Measured]) -> Measured:
    """The median time, and the largest memory."""
    elapsed_s = statistics.median(one.elapsed_s for one in measured)
    return Measured(elapsed_s, max(one.peak_bytes for one in measured))


def measure_all(works: list[Work], folder: Path, repeat: int) -> Results:
    results: Results = {}
    number = itertools.count()
    runs = Path(tempfile.mkdtemp(dir=folder))
    for source_name in dict.fromkeys(work.source for work in works):
        print(f"bench: {source_name}", end="", flush=True)
        source = inputs.make(folder / "inputs", source_name)
        names = [work.name for work in works if work.source == source_name]
        rounds: dict[tuple[str, str], list[Measured]] = {}
        for _ in range(repeat):
            for peer in PEERS:  # in turn, so that a slow minute of the machine hits all
                print(f" {peer.name}", end="", flush=True)
                measured = measure_source(peer, source, names, runs / f"{next(number)}")
                for name, one in measured.items():
                    rounds.setdefault((name, peer.name), []).append(one)
        results |= {key: median(measured) for key, measured in rounds.items()}
        print()
    # Only now: ext4 looks for free inodes slowly for minutes after many files were removed.
    shutil.rmtree(runs)
    return results


def row(work: Work, results: Results) -> list[str]:
    ours, restic, borg = (results[work.name, peer.name] for peer in PEERS)
    perkeep_s = restic.elapsed_s * work.perkeep_factor
    if work.absolute_s:
        target, met = f"{work.absolute_s} s", ours.elapsed_s <= work.absolute_s
    elif work.target:
        target, met = f"{work.target:g} x Perkeep", perkeep_s / ours.elapsed_s >= work.target
    else:
        target, met = "", True
    return [
        work.name,
        f"{ours.elapsed_s:.2f}",
        f"{restic.elapsed_s:.2f}",
        f"{borg.elapsed_s:.2f}",
        f"{restic.elapsed_s / ours.elapsed_s:.2f}",
        f"{borg.elapsed_s / ours.elapsed_s:.2f}",
        f"{perkeep_s / ours.elapsed_s:.1f}" if perkeep_s else "",
        target,
        ("yes" if met else "no") if target else "",
        *(f"{one.peak_bytes / MEGABYTE:.0f}" for one in (ours, restic, borg)),
    ]


HEADS = [
    "work", "peatkeep s", "restic s", "borg s", "x restic", "x borg", "x Perkeep*", "target",
    "met", "MB", "restic MB", "borg MB",
]  # fmt: skip


def table(rows: list[list[str]]) -> str:
    """Rows as a Markdown table with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(HEADS, *rows, strict=True)]
    lines = [HEADS, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def main(words: list[str]) -> int:
    if words[:1] and words[0] in BENCHES:
        bench: Callable[[list[str]], int] = importlib.import_module(f"tests.bench.{words[0]}").main
        return bench(words[1:])
    parser = argparse.ArgumentParser(prog="pk bench", description=__doc__)
    parser.add_argument("work", nargs="*", choices=[[], *(work.name for work in WORKS)])
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/peatkeep-bench"))
    parser.add_argument("--repeat", type=int, default=1, help="the median of so many runs counts")
    parser.add_argument("--storage", choices=KINDS, default=KINDS[0], help="the server's store")
    parser.add_argument("--plain-http", action="store_true", help="requests alone, no stream")
    options = parser.parse_args(words)
    Peatkeep.storage, Peatkeep.stream = options.storage, not options.plain_http
    install_missing()
    works = [work for work in WORKS if not options.work or work.name in options.work]
    options.folder.mkdir(parents=True, exist_ok=True)
    results = measure_all(works, options.folder, options.repeat)
    print(table([row(work, results) for work in works]))
    line = "plain HTTP" if options.plain_http else "the stream where there is much to send"
    print(f"peatkeep: server and client over {line}, the store is {options.storage}.")
    print("* Perkeep's time is taken as restic's in this run times the factor once measured.")
    print("x: how many times as fast as that program. MB: VmHWM summed over client and server.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
