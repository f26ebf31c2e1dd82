"""Indexes that Perkeep made over its own stores: equal to ours, opened in place, given back."""

from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.sorted.leveldb import LevelDBKeyValue
from tests.blobserver.unpack import manifest, unpack
from tests.index.corpus import Row, World, difference

LEVELDB = ("perkeepd-default-leveldb", "perkeepd-packblobs-leveldb")
LISTED = ("perkeepd-default-leveldb", "perkeepd-default-sqlite")


def stored(name: str, home: Path) -> Memory:
    """The blobs of a set, wherever its stores keep them."""
    found = []
    for blob in manifest(name)["blobs"]:
        if "file" in blob:
            place = home / blob["file"]
        elif "zip" in blob:
            place = next(home.rglob(f"{blob['zip']}.dat"))
        else:
            place = home / f"var/perkeep/blobs/pack-{blob['pack']:05}.blobs"
        start = blob.get("offset", 0)
        found.append((Ref(blob["ref"]), place.read_bytes()[start : start + blob["size"]]))
    blobs = Memory()
    blobs.receive_many(found)
    return blobs


@pytest.mark.vectors("storage")
@pytest.mark.parametrize("name", LISTED)
def test_our_rows_over_a_store_of_perkeep_are_its_rows(name: str, tmp_path: Path) -> None:
    world = World(blobs=stored(name, unpack(name, tmp_path)))
    wanted = [(key.encode(), value.encode()) for key, value in manifest(name)["index_rows"].items()]
    assert difference(world.rows(), wanted) == []


@pytest.mark.vectors("storage")
@pytest.mark.parametrize("name", LEVELDB)
def test_an_index_of_perkeep_opens_in_place_and_stays_as_it_was(name: str, tmp_path: Path) -> None:
    home = unpack(name, tmp_path)
    rows = LevelDBKeyValue(home / "var/perkeep/index.leveldb")
    before: list[Row] = list(rows.find())
    world = World(rows, stored(name, home))
    assert difference(world.rows(), before) == []
    assert world.own_rows() == []
    world.index.reindex()
    assert difference(world.rows(), before) == []
    world.index.close()
