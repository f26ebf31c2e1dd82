"""Combined stores that Perkeep wrote, opened in place by its own configuration."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import NotFound, ReadOnly
from peatkeep.sorted.registry import open_kv
from tests.blobserver.unpack import manifest, unpack

SET = manifest("composites")
FOLDER_OF = {"nsmaster": "/nsm/"} | {name: f"/{name}/" for name in ("a", "b", "c", "low", "up")}
FOLDER_OF |= {"r1": "/r1/", "r2": "/r2/"}

pytestmark = pytest.mark.vectors("storage")


class Opened:
    """The stores of the set, by prefix, opened when asked for."""

    def __init__(self, folder: Path) -> None:
        text = json.dumps(SET["config"]).replace("${DIR}", str(folder))
        self._config = json.loads(text)
        self._stores: dict[str, Storage] = {}

    def __getitem__(self, prefix: str) -> Storage:
        if prefix not in self._stores:
            part = self._config[prefix]
            self._stores[prefix] = open_storage(
                part["handler"], part["handlerArgs"], self.__getitem__
            )
        return self._stores[prefix]

    def close(self) -> None:
        for store in reversed(self._stores.values()):
            store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return unpack("composites", tmp_path)


@pytest.fixture
def opened(folder: Path) -> Iterator[Opened]:
    stores = Opened(folder)
    yield stores
    stores.close()


def rows(lines: list[str]) -> list[SizedRef]:
    return [SizedRef(Ref(ref), int(size)) for ref, size in (line.split() for line in lines)]


@pytest.mark.parametrize("prefix", SET["results"])
def test_it_shows_what_perkeep_shows(opened: Opened, prefix: str) -> None:
    store = opened[prefix]
    shown = rows(SET["results"][prefix]["enumerate"])
    assert list(store.enumerate()) == shown
    assert sorted(store.stat([ref for ref, _ in shown])) == shown
    for ref, size in shown:
        data = store.fetch(ref)
        assert ref.matches(data)
        assert len(data) == size
        assert store.fetch_range(ref, 1, 3) == data[1:4]
    assert [ref for ref, _ in store.fetch_many([ref for ref, _ in shown])] == [r for r, _ in shown]
    assert {blob.ref for blob in store.stream()} == {ref for ref, _ in shown}


@pytest.mark.parametrize("prefix", [p for p, r in SET["results"].items() if r["generation"]])
def test_the_generation_is_perkeeps(opened: Opened, prefix: str) -> None:
    generation = opened[prefix].generation()
    assert generation is not None
    assert generation.token == SET["results"][prefix]["generation"]


@pytest.mark.parametrize("name", SET["files_in"])
def test_each_backend_holds_its_files(opened: Opened, name: str) -> None:
    assert [ref for ref, _ in opened[FOLDER_OF[name]].enumerate()] == SET["files_in"][name]


def read_rows(folder: Path, name: str) -> dict[str, str]:
    with open_kv({"type": "leveldb", "file": str(folder / name)}) as kv:
        return {key.decode(): value.decode() for key, value in kv.find()}


def test_rows_are_perkeeps(folder: Path) -> None:
    assert read_rows(folder, "deleted.leveldb") == SET["overlay_deleted_rows"]
    assert read_rows(folder, "inventory.leveldb") == SET["namespace_inventory_rows"]


def test_what_was_removed_through_the_overlay_stays_hidden_below(opened: Opened) -> None:
    for text in SET["overlay_deleted_rows"]:
        with pytest.raises(NotFound):
            opened["/overlay/"].fetch(Ref(text))
    below = next(Ref(ref) for ref in SET["overlay_deleted_rows"] if ref in SET["files_in"]["low"])
    assert below.matches(opened["/low/"].fetch(below))


def test_the_namespace_hides_what_others_stored(opened: Opened) -> None:
    for text in set(SET["files_in"]["nsmaster"]) - set(SET["namespace_inventory_rows"]):
        with pytest.raises(NotFound):
            opened["/ns/"].fetch(Ref(text))
        assert list(opened["/ns/"].stat([Ref(text)])) == []


def test_the_union_takes_nothing(opened: Opened) -> None:
    with pytest.raises(ReadOnly):
        opened["/union/"].remove([Ref.of(b"x")])
    with pytest.raises(ReadOnly):
        opened["/union/"].receive(Ref.of(b"x"), b"x")


def test_the_steps_taken_again_give_the_same_files_and_rows(folder: Path, tmp_path: Path) -> None:
    """All that Perkeep was told to do, done by ours in empty folders."""
    theirs = Opened(folder)
    ours_folder = tmp_path / "ours"
    for name in FOLDER_OF:
        (ours_folder / name).mkdir(parents=True)
    ours = Opened(ours_folder)
    everything = {ref: theirs[prefix].fetch(ref) for prefix in FOLDER_OF.values()
                  for ref, _ in theirs[prefix].enumerate()}  # fmt: skip

    def store(prefix: str, refs: Any) -> None:
        for ref in sorted(refs):
            ours[prefix].receive(Ref(ref), everything[Ref(ref)])

    inside, deleted = SET["files_in"], SET["overlay_deleted_rows"]
    store("/shard/", [*inside["a"], *inside["b"], *inside["c"]])
    store("/low/", inside["low"])
    store("/overlay/", {*inside["up"], *(ref for ref in deleted if ref not in inside["low"])})
    ours["/overlay/"].remove(Ref(ref) for ref in deleted)
    in_namespace = SET["namespace_inventory_rows"]
    # One was stored in the master by itself, three by the namespace, of which one was removed.
    alone, removed = sorted(set(inside["nsmaster"]) - set(in_namespace))
    store("/nsm/", [alone])
    store("/ns/", [removed, *in_namespace])
    ours["/ns/"].remove([Ref(removed)])
    store("/replica/", inside["r1"])
    for name, prefix in FOLDER_OF.items():
        assert [ref for ref, _ in ours[prefix].enumerate()] == inside[name]
    theirs.close()
    ours.close()
    assert read_rows(ours_folder, "deleted.leveldb") == deleted
    assert read_rows(ours_folder, "inventory.leveldb") == in_namespace
    with LocalDisk(ours_folder / "up") as upper:
        assert len(list(upper.enumerate())) == len(inside["up"])
