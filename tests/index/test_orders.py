"""The quick form of the line "index" of the reliability programme, over every sorted store."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from peatkeep.sorted.kv import KeyValue
from peatkeep.sorted.registry import open_kv
from tests.index.corpus import World, corpus
from tests.reliability.index import run_on
from tests.search.asking import ask, world
from tests.sorted.postgres import GROUP, Postgres, postgres_server
from tests.sorted.test_conformance import EMPTY_STORES

__all__ = ["postgres_server"]

SEED = 0
QUICK_S = 6.0
ORDERS = {"memory": 80}
FEW_ORDERS = 15
KINDS = [*sorted(EMPTY_STORES), pytest.param("postgres", marks=GROUP)]

QUERIES: list[Mapping[str, object]] = [
    {"expression": expression, "limit": limit, "sort": sort}
    for expression in (
        "",
        "tag:funny or tag:serious",
        "title:o",
        "title:trip",
        "attr:tag:~un",
        "-tag:funny",
        "is:image",
        "has:location",
        "after:2014-01-01 before:2017-01-01",
        "is:image or is:checkin -tag:x",
        "locrect:60,-10,30,30",
        "childrenof:sha224-",
    )
    for limit, sort in ((5, "-created"), (-1, "blobref"), (50, "-mod"))
]
"""One of each kind of walk over rows."""


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, KeyValue]]:
    """The type, and an empty store of it."""
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres_server")
        args: Mapping[str, object] = server.new_database().args
    else:
        args = {"type": request.param, **EMPTY_STORES[request.param](tmp_path / "rows")}
    with open_kv(args) as rows:
        yield request.param, rows


def test_rows_do_not_depend_on_the_order_of_arrival(
    store: tuple[str, KeyValue], record_property: Callable[[str, object], None]
) -> None:
    kind, rows = store
    verdict = run_on(rows, SEED, kind, QUICK_S, ORDERS.get(kind, FEW_ORDERS))
    record_property("verdict", str(verdict))
    assert verdict.passed, "\n".join([str(verdict), *verdict.problems])


def test_every_store_gives_the_answers_of_memory(store: tuple[str, KeyValue]) -> None:
    there = World(store[1])
    there.add(corpus(), batch=100)
    for query in QUERIES:
        got, wanted = ask(query, there), ask(query, world())
        assert (got.status, got.body) == (wanted.status, wanted.body), query
