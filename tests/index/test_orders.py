"""The quick form of the line "index" of the reliability programme."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from peatkeep.sorted.kv import KeyValue
from peatkeep.sorted.leveldb import LevelDBKeyValue
from peatkeep.sorted.memory import MemoryKeyValue
from peatkeep.sorted.sqlite import SQLiteKeyValue
from tests.index.orders import run

STORES: dict[str, Callable[[Path], KeyValue]] = {
    "leveldb": LevelDBKeyValue,
    "memory": lambda _: MemoryKeyValue(),
    "sqlite": lambda path: SQLiteKeyValue(path.with_suffix(".db")),
}
ORDERS = {"leveldb": 15, "memory": 80, "sqlite": 10}


@pytest.mark.parametrize("store", sorted(STORES))
def test_rows_do_not_depend_on_the_order_of_arrival(
    store: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    opened: list[KeyValue] = []
    count = itertools.count()

    def new_rows() -> KeyValue:
        opened.append(STORES[store](tmp_path / f"rows{next(count)}"))
        return opened[-1]

    verdict = run(0, ORDERS[store], new_rows)
    for rows in opened:
        rows.close()
    record_property("verdict", str(verdict))
    assert verdict.passed, "\n".join([str(verdict), *verdict.problems])
