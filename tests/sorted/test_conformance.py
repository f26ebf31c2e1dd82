"""The suite against every built-in sorted key-value store."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peatkeep.sorted.buffer import BufferKeyValue
from peatkeep.sorted.conformance import KeyValueSuite
from peatkeep.sorted.kv import KeyValue
from peatkeep.sorted.leveldb import LevelDBKeyValue
from peatkeep.sorted.lmdb import LMDBKeyValue
from peatkeep.sorted.memory import MemoryKeyValue
from peatkeep.sorted.registry import BUILTIN
from peatkeep.sorted.sqlite import SQLiteKeyValue

EMPTY_STORES: dict[str, Callable[[Path], KeyValue]] = {
    # Small, so that rows lie on both sides.
    "buffer": lambda folder: BufferKeyValue(LevelDBKeyValue(folder / "rows.leveldb"), 10_000),
    "leveldb": lambda folder: LevelDBKeyValue(folder / "rows.leveldb"),
    "lmdb": lambda folder: LMDBKeyValue(folder / "rows.lmdb"),
    "memory": lambda _: MemoryKeyValue(),
    "sqlite": lambda folder: SQLiteKeyValue(folder / "rows.sqlite"),
}


@pytest.fixture(params=sorted(EMPTY_STORES))
def kv(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyValue]:
    with EMPTY_STORES[request.param](tmp_path) as store:
        yield store


class TestKeyValue(KeyValueSuite): ...


def test_every_builtin_store_is_tested() -> None:
    assert EMPTY_STORES.keys() == BUILTIN.keys()
