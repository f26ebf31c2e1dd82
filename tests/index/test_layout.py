"""Rows that another program or version wrote."""

import pytest

from peatkeep.errors import Unsupported
from peatkeep.index.index import Index
from peatkeep.sorted.kv import Batch
from tests.index.corpus import (
    World,
    corpus,
    corpus_rows,
    difference,
    named,
    shuffled,
)


def forget_own_rows(world: World) -> None:
    for key, _ in list(world.kv.prefixed(b"pk|")):
        world.kv.delete(key)


@pytest.mark.parametrize("count", [60, 250, 500])
def test_an_index_of_perkeep_is_completed_when_it_is_opened(count: int) -> None:
    blobs = shuffled(corpus(), count)
    world = World()
    world.add(blobs[:count], batch=5)
    forget_own_rows(world)
    world = world.restarted()
    world.add(blobs[count:], batch=5)
    assert difference(world.rows(), corpus_rows()) == []


def test_a_delete_claim_that_perkeep_left_waiting_takes_effect() -> None:
    data = dict(corpus())
    world = World()
    early = [named("owner"), named("d.deleted")]
    world.add([(ref, data[ref]) for ref in early])
    forget_own_rows(world)
    world = world.restarted()
    world.add([(named("p.deleted"), data[named("p.deleted")])])
    assert world.index.view.is_deleted(named("p.deleted"))


def test_version_4_learns_the_digests_of_its_files() -> None:
    world = World()
    world.add(corpus(), batch=100)
    forget_own_rows(world)
    batch = Batch()
    for key, value in world.kv.prefixed(b"fileinfo|"):
        batch.set(key, b"|".join(value.split(b"|")[:3]))
    batch.set(b"schemaversion", b"4")
    world.kv.commit(batch)
    got = world.restarted().rows()
    wanted = [
        # A directory has no digest; version 4 had no empty place for it.
        (key, value.removesuffix(b"|") if key.startswith(b"fileinfo|") else value)
        for key, value in corpus_rows()
    ]
    assert difference(got, wanted) == []


@pytest.mark.parametrize("version", [b"3", b"6", b"x"])
def test_another_version_is_refused(version: bytes) -> None:
    world = World()
    world.kv.set(b"schemaversion", version)
    with pytest.raises(Unsupported, match="version"):
        Index(world.kv, world.blobs)


def test_rows_of_something_else_are_refused() -> None:
    world = World()
    world.kv.delete(b"schemaversion")
    with pytest.raises(Unsupported):
        Index(world.kv, world.blobs)
    assert world.kv.get(b"schemaversion") is None
