"""An index is made anew while it serves; what others did to its rows is noticed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import plyvel
import pytest

from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.storage import Storage
from peatkeep.index.index import Index
from peatkeep.index.places import Place, SwappableRows
from peatkeep.index.upkeep import Upkeep
from peatkeep.sorted.memory import MemoryKeyValue
from tests.index import make
from tests.index.corpus import OWNER_KEY_ID, World, corpus

ENGINES = ["leveldb", "lmdb", "sqlite"]


class Kept:
    """An index in files, as the server holds it."""

    def __init__(self, blobs: Storage, args: dict[str, str], reason: str = "") -> None:
        self.place = Place(args)
        self.rows, found = self.place.open()
        self.reason = reason or found
        self.index = Index(self.rows, blobs, [OWNER_KEY_ID], catch_up=False)
        self.upkeep = Upkeep(self.index, self.rows, self.place, self.reason)

    def close(self) -> None:
        self.upkeep.close()
        self.index.close()
        self.place.closed()


@contextmanager
def kept(blobs: Storage, folder: Path, engine: str = "leveldb", reason: str = "") -> Iterator[Kept]:
    one = Kept(blobs, {"type": engine, "file": str(folder / "rows")}, reason)
    try:
        one.upkeep.start()
        assert one.upkeep.wait(60)
        yield one
    finally:
        one.close()


def dump(rows: SwappableRows | MemoryKeyValue) -> dict[bytes, bytes]:
    return {key: value for key, value in rows.find() if key != b"pk|state"}


def full() -> tuple[Memory, dict[bytes, bytes]]:
    """A store, and the rows of it."""
    world = World()
    world.blobs.receive_many(corpus())
    world.index.reindex()
    return world.blobs, dump(world.kv)


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_made_anew_replace_the_old_ones_at_once_and_after_a_restart(
    tmp_path: Path, engine: str
) -> None:
    blobs, wanted = full()
    with kept(blobs, tmp_path, engine) as one:
        assert dump(one.rows) == wanted
        one.rows.set(b"meta:sha224-odd", b"1|odd")
    with kept(blobs, tmp_path, engine, "for a test") as one:
        assert dump(one.rows) == wanted
    assert not (tmp_path / "rows.new").exists()
    with kept(blobs, tmp_path, engine) as one:
        assert not one.reason
        assert dump(one.rows) == wanted


def test_a_blob_that_arrives_meanwhile_is_in_both(tmp_path: Path) -> None:
    blobs, _ = full()
    late = make.permanode("late")
    with kept(blobs, tmp_path) as one:
        building = one.index.beside(MemoryKeyValue())
        with one.index.mirrored(building):
            blobs.receive_many([late])
            one.index.receive([late])
        assert building.view.meta(late[0]) == one.index.view.meta(late[0])
        assert building.view.meta(late[0]) is not None


def test_rows_that_another_program_wrote_are_noticed_and_made_anew(tmp_path: Path) -> None:
    blobs, wanted = full()
    with kept(blobs, tmp_path):
        pass
    other = plyvel.DB(str(tmp_path / "rows"))
    for key in wanted:
        if key.startswith(b"claim|"):
            other.delete(key)
    other.close()
    with kept(blobs, tmp_path) as one:
        assert one.reason
        assert dump(one.rows) == wanted


def test_damaged_files_are_put_aside_and_all_is_made_anew(tmp_path: Path) -> None:
    blobs, wanted = full()
    with kept(blobs, tmp_path):
        pass
    for file in (tmp_path / "rows").iterdir():
        if file.name.startswith(("CURRENT", "MANIFEST")):
            file.write_bytes(b"rubbish")
    with kept(blobs, tmp_path) as one:
        assert dump(one.rows) == wanted
    assert (tmp_path / "rows.damaged").exists()


def test_rows_that_do_not_fit_together_are_noticed_at_the_start(tmp_path: Path) -> None:
    blobs, wanted = full()
    with kept(blobs, tmp_path) as one:
        for key in wanted:
            if key.startswith(b"meta:"):
                one.rows.delete(key)
    with kept(blobs, tmp_path) as one:
        assert dump(one.rows) == wanted


def test_damage_met_by_a_reader_is_mended_while_serving(tmp_path: Path) -> None:
    blobs, wanted = full()
    with kept(blobs, tmp_path) as one:
        one.rows.delete(b"schemaversion")
        one.rows.on_damage("a reader met rubbish")
        assert one.upkeep.wait(60)
        assert dump(one.rows) == wanted


def test_a_swap_that_was_cut_short_is_finished_at_the_next_start(tmp_path: Path) -> None:
    blobs, wanted = full()
    with kept(blobs, tmp_path, reason="for a test"):
        pass
    (tmp_path / "rows").rename(tmp_path / "rows.new")
    (tmp_path / "rows.new.whole").touch()
    with kept(blobs, tmp_path) as one:
        assert not one.reason
        assert dump(one.rows) == wanted


def test_what_was_begun_is_gone_on_with(tmp_path: Path) -> None:
    blobs, wanted = full()
    place = Place({"type": "leveldb", "file": str(tmp_path / "rows")})
    half = Index(place.open_next(), blobs, [OWNER_KEY_ID], catch_up=False)
    half.receive(list(corpus())[:5])
    half.close()
    with kept(blobs, tmp_path) as one:
        assert one.reason
        assert dump(one.rows) == wanted
