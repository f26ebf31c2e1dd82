"""Rows of the golden corpus, byte for byte, however the blobs arrive."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from peatkeep.blob import Ref
from peatkeep.index.layout import wipe
from peatkeep.sorted.leveldb import LevelDBKeyValue
from tests.index.corpus import Row, World, corpus, corpus_rows, difference, shuffled, vectors


def assert_complete(world: World) -> None:
    assert difference(world.rows(), corpus_rows()) == []
    assert world.own_rows() == []
    assert difference(world.search_rows(), usual_search_rows()) == []


@cache
def usual_search_rows() -> list[Row]:
    """After one batch in the order of the corpus; README.md says what they are."""
    world = World()
    world.add(corpus(), batch=1000)
    return world.search_rows()


@pytest.mark.vectors("search")
def test_the_rows_are_those_of_the_reference() -> None:
    world = World()
    assert world.add(corpus()) == {}
    assert_complete(world)


@pytest.mark.vectors("search")
@pytest.mark.parametrize("seed", range(6))
def test_any_order_and_batch_size_gives_the_same_rows(seed: int) -> None:
    world = World()
    world.add(shuffled(corpus(), seed), batch=(1, 2, 7, 40, 300, 1000)[seed])
    assert_complete(world)


@pytest.mark.vectors("search")
def test_blobs_may_come_twice_and_with_a_restart_in_between() -> None:
    blobs = shuffled(corpus(), 7)
    world = World()
    world.add(blobs[:200], batch=10)
    world = world.restarted()
    world.add(blobs[100:], batch=10)
    world.add(blobs, batch=100)
    assert_complete(world)


@pytest.mark.vectors("search")
def test_a_reindex_gives_the_same_rows() -> None:
    world = World()
    world.add(shuffled(corpus(), 8), batch=50)
    seen: list[int] = []
    report = world.index.reindex(seen.append)
    assert (report.blobs_count, report.refused, report.waiting) == (559, {}, [])
    assert seen[-1] == 559
    assert_complete(world)


@pytest.mark.vectors("search")
def test_leveldb_holds_the_same_rows_after_reopening(tmp_path: Path) -> None:
    world = World(LevelDBKeyValue(tmp_path / "index"))
    world.add(shuffled(corpus(), 9), batch=30)
    world.index.close()
    world = World(LevelDBKeyValue(tmp_path / "index"), world.blobs)
    assert_complete(world)
    world.index.close()


def arrivals() -> list[Any]:
    return [pytest.param(case["steps"], id=case["name"]) for case in vectors("arrival-order")]


@pytest.mark.vectors("search")
@pytest.mark.parametrize("steps", arrivals())
def test_arrival_in_this_order_gives_these_rows_at_each_step(steps: list[dict[str, Any]]) -> None:
    data = dict(corpus())
    world = World()
    for step in steps:
        ref = Ref(step["receive"])
        world.add([(ref, data[ref])])
        wanted = [(key.encode(), value.encode()) for key, value in step["rows"]]
        assert difference(world.rows(), wanted) == [], step["label"]


@pytest.mark.parametrize("seed", range(3))
def test_what_was_stored_but_not_indexed_at_a_crash_is_indexed_at_the_start(seed: int) -> None:
    blobs = shuffled(corpus(), seed)
    world = World()
    world.add(blobs[:250], batch=20)
    world.blobs.receive_many(blobs[250:])
    assert_complete(world.restarted())


def test_a_lost_index_is_made_again_at_the_start() -> None:
    world = World()
    world.blobs.receive_many(corpus())
    assert_complete(World(blobs=world.blobs))


def test_a_clean_end_leaves_nothing_to_compare_at_the_start() -> None:
    world = World()
    world.add(corpus()[:50])
    world.index.close()
    world.blobs.receive_many(corpus()[50:])
    assert len(world.restarted().rows()) < len(corpus_rows())


def test_a_crash_while_wiping_is_made_good_at_the_start() -> None:
    world = World()
    world.add(corpus(), batch=100)
    world.kv.set(b"pk|state", b"wiping")
    for key, _ in list(world.kv.prefixed(b"claim|")):
        world.kv.delete(key)
    assert_complete(world.restarted())


def test_wiping_keeps_only_the_bookkeeping() -> None:
    world = World()
    world.add(corpus(), batch=100)
    wipe(world.kv)
    assert {key for key, _ in world.kv.find()} == {b"schemaversion", b"pk|version", b"pk|state"}
