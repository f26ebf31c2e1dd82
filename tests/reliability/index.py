"""The line "index" of the programme over every sorted store: rows equal those of a reindex.

The histories are those of tests/index/orders.py: any order of arrival, duplicates, blobs that
lack what they need, deletes of deletes, crashes in between.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from peatkeep.sorted.kv import KeyValue
from peatkeep.sorted.memory import MemoryKeyValue
from peatkeep.sorted.registry import open_kv
from tests.index.corpus import World
from tests.index.orders import arrival, compared, forgetful
from tests.reliability.verdict import Verdict
from tests.sorted.postgres import Postgres
from tests.sorted.test_conformance import EMPTY_STORES

STORES = [*sorted(EMPTY_STORES), "postgres"]
PLANTED_SEEDS = range(200, 260)
"""Histories of which some show the planted bug."""


@contextmanager
def rows_of(store: str, folder: Path) -> Iterator[KeyValue]:
    """An empty store of this type."""
    server = Postgres(folder / "server") if store == "postgres" else None
    try:
        if server is None:
            args: Mapping[str, object] = {"type": store, **EMPTY_STORES[store](folder / "rows")}
        else:
            server.start()
            args = server.new_database().args
        with open_kv(args) as rows:
            yield rows
    finally:
        if server is not None:
            server.stop()


def run(folder: Path, seed: int, store: str, limit_s: float, orders: int) -> Verdict:
    """Try so many histories, or for so many seconds, in a store that is wiped between them."""
    if store == "postgres":
        (folder / "server").mkdir()
    with rows_of(store, folder) as rows:
        return run_on(rows, seed, store, limit_s, orders)


def run_on(rows: KeyValue, seed: int, store: str, limit_s: float, orders: int) -> Verdict:
    """The same in an empty store that is open."""
    end_s = time.monotonic() + limit_s
    problems = []
    done = 0
    while done < orders and time.monotonic() < end_s:
        rows.wipe()
        found = compared(arrival(seed + done, rows, World.restarted))
        if found:
            problems.append(f"seed {seed + done}: {found[:5]}")
        done += 1
    caught = any(compared(arrival(number, MemoryKeyValue(), forgetful)) for number in PLANTED_SEEDS)
    return Verdict(f"index-{store}", done, len(problems), caught, problems=tuple(problems))
