"""Every store against a dict: random batches, reads, ranges, wipes and reopenings."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peatkeep.sorted.buffer import BufferKeyValue
from peatkeep.sorted.kv import Batch, KeyValue
from peatkeep.sorted.leveldb import LevelDBKeyValue
from peatkeep.sorted.lmdb import LMDBKeyValue
from peatkeep.sorted.registry import open_kv
from peatkeep.sorted.sqlite import SQLiteKeyValue
from tests.sorted.postgres import GROUP, Postgres

LASTING_STORES: dict[str, Callable[[Path], KeyValue]] = {
    "buffer": lambda folder: BufferKeyValue(SQLiteKeyValue(folder / "rows"), 60),
    "leveldb": lambda folder: LevelDBKeyValue(folder / "rows"),
    "lmdb": lambda folder: LMDBKeyValue(folder / "rows"),
    "sql": lambda folder: open_kv({"type": "sql", "url": f"sqlite:///{folder}/rows"}),
    "sqlite": lambda folder: SQLiteKeyValue(folder / "rows"),
}
"""Each opens the same rows again when called again."""

# Few different characters, so that keys meet and are prefixes of one another; all widths of UTF-8.
TEXT = st.text("\x01a|~é\u07ff\ue000\uffff\U0010ffff", max_size=4).map(str.encode)
BOUND = TEXT | st.binary(max_size=4)
STEP = st.one_of(
    st.tuples(
        st.just("commit"),
        st.lists(st.tuples(TEXT, st.none() | TEXT), max_size=6),
        st.booleans(),
    ),
    st.tuples(st.just("find"), BOUND, BOUND),
    st.tuples(st.just("get"), st.lists(BOUND, max_size=4), st.none()),
    st.tuples(st.just("reopen"), st.none(), st.none()),
    st.tuples(st.just("wipe"), st.none(), st.none()),
)


def commit(
    kv: KeyValue,
    model: dict[bytes, bytes],
    changes: list[tuple[bytes, bytes | None]],
    durable: bool,
) -> None:
    batch = Batch()
    for key, value in changes:
        if value is None:
            batch.delete(key)
            model.pop(key, None)
        else:
            batch.set(key, value)
            model[key] = value
    kv.commit(batch, durable=durable)


def follow(open_store: Callable[[], KeyValue], steps: list[tuple[str, object, object]]) -> None:
    """Do the steps on a store and on a dict; every answer must be the same."""
    kv, model = open_store(), dict[bytes, bytes]()
    try:
        for name, one, two in steps:
            if name == "commit":
                commit(kv, model, one, two)  # type: ignore[arg-type]
            elif name == "find":
                expected = sorted(
                    (key, value)
                    for key, value in model.items()
                    if key >= one and (not two or key < two)  # type: ignore[operator]
                )
                assert list(kv.find(one, two)) == expected  # type: ignore[arg-type]
            elif name == "get":
                assert kv.get_many(one) == {  # type: ignore[arg-type]
                    key: model[key]
                    for key in one
                    if key in model  # type: ignore[attr-defined]
                }
            elif name == "wipe":
                kv.wipe()
                model.clear()
            else:
                kv.close()
                kv = open_store()
            assert list(kv.find()) == sorted(model.items())
    finally:
        kv.close()


@pytest.mark.parametrize("name", sorted(LASTING_STORES))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEP, max_size=12))
def test_a_store_does_what_a_dict_does(
    name: str, tmp_path: Path, steps: list[tuple[str, object, object]]
) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        follow(lambda: LASTING_STORES[name](Path(folder)), steps)


@GROUP
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=st.lists(STEP, max_size=12))
def test_postgresql_does_what_a_dict_does(
    postgres_server: Postgres, steps: list[tuple[str, object, object]]
) -> None:
    args = postgres_server.new_database().args
    follow(lambda: open_kv(args), steps)
