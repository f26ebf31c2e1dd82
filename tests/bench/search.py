"""Measure index and search: `./pk bench search [CORPUS …]`; 50k and 1m by default.

Each corpus is made once (corpora.py), and indexed anew by a process of its own. Another opens the
index as the server does and answers 20 different queries of each class; the first query after a
start is measured too, in a process for each class. Times are of the whole answer to a request.
"""

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from peatkeep.blobserver.memory import Memory  # noqa: E402
from peatkeep.index.corpus import Corpus as Rows  # noqa: E402
from peatkeep.index.describe import DescribeRequest, describe  # noqa: E402
from peatkeep.index.index import Index  # noqa: E402
from peatkeep.search.endpoint import answer_query  # noqa: E402
from peatkeep.sorted.leveldb import LevelDBKeyValue  # noqa: E402
from tests.bench import corpora, searchserver  # noqa: E402
from tests.bench.corpora import COMMON_TAGS, Corpus  # noqa: E402

SEED = 20260103
CONSTANTS = 20
PAGE = 50
CLOCK = "PEATKEEP_BENCH_CLOCK"
clock = time.thread_time if os.environ.get(CLOCK) == "cpu" else time.perf_counter
LIMITS_MS = {"50k": 10, "200k": 50, "1m": 50}
RECEIVED = 2000
"""Permanodes whose blobs, 10,000, are uploaded to measure receiving."""

Request = dict[str, object]


# -- queries ------------------------------------------------------------------------------------


def _attr(name: str, **test: object) -> Request:
    return {"permanode": {"attr": name, **test}}


def _both(op: str, a: Request, b: Request) -> Request:
    return {"logical": {"op": op, "a": a, "b": b}}


def _entry(dice: random.Random, of: int) -> dict[str, str]:
    return corpora.entry(dice.randrange(of), of).attributes


def _rare_tag(dice: random.Random, of: int) -> str:
    while True:
        tag = _entry(dice, of)["tag"]
        if tag.startswith("rare"):
            return tag


def _word(dice: random.Random, of: int) -> str:
    return dice.choice(_entry(dice, of)["title"].split()[:4])


def _date_range(dice: random.Random, of: int) -> Request:
    start = _entry(dice, of)["startDate"]
    month = int(start[5:7])
    end = f"{start[:5]}{month + 1:02d}-01" if month < 12 else f"{int(start[:4]) + 1}-01-01"
    bounds = {"after": f"{start[:7]}-01T00:00:00Z", "before": f"{end}T00:00:00Z"}
    return {"permanode": {"time": bounds}}


def _box(dice: random.Random, of: int) -> Request:
    south, west = dice.uniform(-55, 60), dice.uniform(-170, 160)
    edges = {"north": south + 5, "south": south, "west": west, "east": west + 8}
    return {"permanode": {"location": edges}}


def _piece(dice: random.Random, of: int) -> str:
    word = _word(dice, of)
    start = dice.randrange(max(len(word) - 3, 1))
    return word[start : start + 4]


def _visible() -> Request:
    return {"permanode": {"skipHidden": True}}


CLASSES: dict[str, Callable[[random.Random, int], Request]] = {
    "rare tag": lambda dice, of: _attr("tag", value=_rare_tag(dice, of)),
    "common tag": lambda dice, _: _attr("tag", value=dice.choice(COMMON_TAGS)),
    "title contains": lambda dice, of: _attr(
        "title", valueMatches={"contains": _piece(dice, of), "caseInsensitive": True}
    ),
    "date range": _date_range,
    "box": _box,
    "attribute prefix": lambda dice, of: _attr(
        "title", valueMatches={"hasPrefix": _word(dice, of)[:3]}
    ),
    "recent": lambda *_: _visible(),
    "two terms": lambda dice, of: _both(
        "and",
        _attr("tag", value=dice.choice(COMMON_TAGS)),
        _attr("title", valueMatches={"contains": _word(dice, of)}),
    ),
    "either of two tags": lambda dice, of: _both(
        "or",
        _attr("tag", value=_rare_tag(dice, of)),
        _attr("tag", value=dice.choice(COMMON_TAGS)),
    ),
    "not a tag": lambda dice, _: _both(
        "and",
        _visible(),
        {"logical": {"op": "not", "a": _attr("tag", value=dice.choice(COMMON_TAGS))}},
    ),
    "recent with describe": lambda *_: _visible(),
    "common tag by ref": lambda dice, _: _attr("tag", value=dice.choice(COMMON_TAGS)),
}
DESCRIBED = {"recent with describe"}
BY_REF = {"common tag by ref"}


def request(name: str, dice: random.Random, of: int) -> Request:
    body: Request = {"constraint": CLASSES[name](dice, of), "limit": PAGE}
    if name in DESCRIBED:
        body["describe"] = {"depth": 1}
    if name in BY_REF:
        body["sort"] = "blobref"
    return body


def asked_ms(index: Index, body: Request) -> tuple[float, int]:
    """Milliseconds, and the number of results."""
    started = clock()
    answer = answer_query(index, json.dumps(body).encode(), time.time_ns())
    json.dumps(answer.body)
    elapsed_ms = (clock() - started) * 1000
    if answer.status != 200:
        raise RuntimeError(f"{answer.status} {answer.body} to {body}")
    return elapsed_ms, len(answer.body["blobs"] or ())


# -- processes ----------------------------------------------------------------------------------


def index_folder(corpus: Corpus) -> Path:
    return corpora.folder_of(corpus).with_suffix(".index")


def opened(corpus: Corpus, blobs: Memory | None = None) -> Index:
    # An index reads the store only for what waits: an empty one will do here, unless it is behind.
    rows = LevelDBKeyValue(index_folder(corpus))
    return Index(rows, blobs or Memory(), [corpora.signer(corpus.key).key_id])


def memory_mb(kind: str) -> float:
    """VmRSS or VmHWM of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1024


def reindex(corpus: Corpus) -> dict[str, float]:
    """Make the index; of one that was cut short, what is lacking."""
    store = corpora.open_store(corpora.make(corpus))
    folder = index_folder(corpus)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished = folder.with_name(folder.name + ".unfinished")
    rows = LevelDBKeyValue(unfinished)
    index = Index(rows, store, [corpora.signer(corpus.key).key_id], catch_up=False)
    started = time.perf_counter()
    report = index.make()
    elapsed_s = time.perf_counter() - started
    if report.refused:
        raise RuntimeError(f"refused: {list(report.refused.items())[:3]}")
    index.close()
    store.close()
    unfinished.rename(folder)  # last: what has the name is whole
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(one.ru_utime + one.ru_stime for one in used)
    return {
        "blobs": report.blobs_count,
        "seconds": elapsed_s,
        "cpu_s": cpu_s,
        "blobs/s": report.blobs_count / elapsed_s,
        "MB": memory_mb("VmHWM"),
    }


def first(corpus: Corpus, name: str) -> dict[str, float]:
    """Start, and one query of a class."""
    body = request(name, random.Random(f"{SEED} first {name}"), corpus.permanodes)
    started = clock()
    index = opened(corpus)
    start_s = clock() - started
    elapsed_ms, _ = asked_ms(index, body)
    index.close()
    return {"start_s": start_s, "ms": elapsed_ms}


def queries(corpus: Corpus) -> dict[str, object]:
    """All classes, one after the other; then memory."""
    index = opened(corpus)
    times: dict[str, object] = {}
    for name in CLASSES:
        dice = random.Random(f"{SEED} {name}")
        asked = [asked_ms(index, request(name, dice, corpus.permanodes)) for _ in range(CONSTANTS)]
        elapsed = sorted(ms for ms, _ in asked)
        times[name] = {
            "median": statistics.median(elapsed),
            "p95": elapsed[int(CONSTANTS * 0.95) - 1],
            "results": sum(count for _, count in asked) / CONSTANTS,
        }
    describe_ms = _describe_ms(index)
    index.close()
    return {"times": times, "describe_ms": describe_ms}


def serve(corpus: Corpus) -> dict[str, float]:
    """The server with this index, asked all of the above."""
    bodies = []
    for name in CLASSES:
        dice = random.Random(f"{SEED} {name}")
        bodies += [request(name, dice, corpus.permanodes) for _ in range(CONSTANTS)]
    return searchserver.measure(corpus, index_folder(corpus), bodies)._asdict()


def _describe_ms(index: Index) -> float:
    """Describing 50 permanodes, the median of 20 sets."""
    elapsed = []
    walk = Rows(index.view).by_creation()
    for _ in range(CONSTANTS):
        refs = tuple(ref for _, ref in islice(walk, PAGE))
        started = clock()
        describe(index.view, DescribeRequest(refs))
        elapsed.append((clock() - started) * 1000)
    return statistics.median(elapsed)


def receive(corpus: Corpus) -> dict[str, float]:
    """Claims a second, uploaded to a server, over a new index; and settled."""
    start = corpus.permanodes
    fresh = corpora.blobs(range(start, start + RECEIVED), corpus.permanodes, corpus.key)
    with tempfile.TemporaryDirectory(prefix="peatkeep-bench-") as folder:
        index = Path(folder) / "index"
        done = searchserver.receive(corpus, index, fresh)
        store = Memory()
        store.receive_many(fresh)
        settling = Index(LevelDBKeyValue(index), store, [corpora.signer(corpus.key).key_id])
        started_s = time.process_time()
        settling.settle()
        settle_s = time.process_time() - started_s
        settling.close()
    return {
        "claims/s": done.blobs / done.seconds,
        "server_us": done.server_cpu_s / done.blobs * 1e6,
        "settle_us": settle_s / done.blobs * 1e6,
    }


STEPS: dict[str, Callable[..., object]] = {
    "reindex": reindex,
    "first": first,
    "queries": queries,
    "serve": serve,
    "receive": receive,
}


def in_a_process(step: str, corpus: Corpus, *more: str) -> dict[str, object]:
    command = [sys.executable, __file__, "--step", step, corpus.name, *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ)
    result: dict[str, object] = json.loads(done.stdout)
    return result


# -- the table ----------------------------------------------------------------------------------


def measure(corpus: Corpus, keep: bool) -> Iterable[str]:
    """Yield lines of Markdown."""
    corpora.make(corpus)
    yield f"## {corpus.name}: {corpus.permanodes:,} permanodes, signed with {corpus.key}"
    if not (keep and index_folder(corpus).exists()):
        done = in_a_process("reindex", corpus)
        yield "reindex: " + ", ".join(f"{name} {value:,.1f}" for name, value in done.items())
    firsts = {name: in_a_process("first", corpus, name) for name in CLASSES}
    measured = in_a_process("queries", corpus)
    yield ""
    yield "| class | median ms | p95 | first after start | results | limit |"
    yield "|---|---|---|---|---|---|"
    for name, one in measured["times"].items():  # type: ignore[attr-defined]
        yield (
            f"| {name} | {one['median']:.1f} | {one['p95']:.1f} | {firsts[name]['ms']:.1f}"
            f" | {one['results']:.0f} | {LIMITS_MS.get(corpus.name, 10)} |"
        )
    start_s = statistics.median(float(one["start_s"]) for one in firsts.values())  # type: ignore[arg-type]
    yield ""
    yield f"index, start: {start_s:.2f} s"
    yield f"describe of {PAGE}: {measured['describe_ms']:.1f} ms"
    served = in_a_process("serve", corpus)
    start = "server, start: {start_s:.2f} s, {start_cpu_s:.2f} s of processor time"
    yield start.format_map(served)
    yield (
        "server, memory: {started_mb:.0f} MB after the start, {after_mb:.0f} after all queries"
        " ({anonymous_mb:.0f} without mapped files), most {most_mb:.0f}"
    ).format_map(served)
    received = in_a_process("receive", corpus)
    yield (
        "received by the server: {claims/s:,.0f} claims/s, {server_us:.0f} µs of its processor time"
        " each; settled by the first query after it: {settle_us:.0f} µs each"
    ).format_map(received)
    yield ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="pk bench search", description=__doc__)
    parser.add_argument("corpus", nargs="*", default=["50k", "1m"])
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help="use the index of the last time")
    parser.add_argument("--cpu", action="store_true", help="processor time, on a busy machine")
    options = parser.parse_args(arguments)
    if options.cpu:
        os.environ[CLOCK] = "cpu"
    if options.step:
        name, *more = options.corpus
        print(json.dumps(STEPS[options.step](corpora.CORPORA[name], *more)))
        return 0
    for name in options.corpus:
        for line in measure(corpora.CORPORA[name], options.keep):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
