"""Homes of Perkeep's servers, each with its own default stores, are served whole and in place."""

import json
from pathlib import Path
from typing import Any

import pytest

from peatkeep import places
from peatkeep.blob import Ref
from peatkeep.server.config import load
from peatkeep.server.service import Service
from tests.archives import extract_all

HOMES = ["perkeepd-default-leveldb", "perkeepd-default-sqlite", "perkeepd-packblobs-leveldb"]


@pytest.fixture(params=HOMES)
def home(request: pytest.FixtureRequest, tmp_path: Path, vectors_dir: Path) -> Path:
    extract_all(vectors_dir / f"storage/{request.param}.tar.xz", tmp_path)
    return tmp_path / str(request.param)


def open_home(home: Path) -> Service:
    environ = {"HOME": str(home)}
    return Service(load.load(places.server_config_file(environ), environ), environ=environ)


def manifest_of(home: Path, vectors_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((vectors_dir / f"storage/{home.name}.json").read_text())
    return found


@pytest.mark.vectors("storage")
def test_every_blob_of_a_home_is_served(home: Path, vectors_dir: Path) -> None:
    wanted = {Ref(blob["ref"]): blob["size"] for blob in manifest_of(home, vectors_dir)["blobs"]}
    service = open_home(home)
    try:
        storage = service.world.topology.storage("/bs-and-maybe-also-index/")
        assert {found.ref: found.size for found in storage.enumerate()} == wanted
        for ref, size in wanted.items():
            assert len(storage.fetch(ref)) == size
    finally:
        service.close()


def test_a_home_that_was_served_and_written_to_opens_again(home: Path) -> None:
    added = b"one more blob"
    service = open_home(home)
    try:
        service.world.topology.storage("/bs/").receive(Ref.of(added), added)
    finally:
        service.close()
    service = open_home(home)
    try:
        assert service.world.topology.storage("/bs/").fetch(Ref.of(added)) == added
    finally:
        service.close()
