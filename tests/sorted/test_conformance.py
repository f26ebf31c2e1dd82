"""The suite against every built-in sorted key-value store."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from peatkeep.sorted.conformance import KeyValueSuite
from peatkeep.sorted.kv import KeyValue
from peatkeep.sorted.registry import BUILTIN, open_kv
from tests.sorted.postgres import GROUP, Postgres

EMPTY_STORES: dict[str, Callable[[Path], Mapping[str, object]]] = {
    # Small, so that rows lie on both sides.
    "buffer": lambda file: {"storage": {"type": "leveldb", "file": str(file)}, "sizeBytes": 10_000},
    "leveldb": lambda file: {"file": str(file)},
    "lmdb": lambda file: {"file": str(file)},
    "memory": lambda file: {},
    "sql": lambda file: {"url": f"sqlite:///{file}"},
    "sqlite": lambda file: {"file": str(file)},
}
"""Type -> the arguments that open an empty store. For `postgres` the server gives them."""

KINDS = [*sorted(EMPTY_STORES), pytest.param("postgres", marks=GROUP)]


@pytest.fixture(params=KINDS)
def kv(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyValue]:
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres_server")
        args: Mapping[str, object] = server.new_database().args
    else:
        args = {"type": request.param, **EMPTY_STORES[request.param](tmp_path / "rows")}
    with open_kv(args) as store:
        yield store


class TestKeyValue(KeyValueSuite): ...


def test_every_builtin_store_is_tested() -> None:
    assert EMPTY_STORES.keys() | {"postgres"} == BUILTIN.keys()
