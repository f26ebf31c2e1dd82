"""Directories of several stores that Perkeep wrote, read through our combinators."""

from pathlib import Path

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from tests.blobserver.unpack import manifest, unpack

pytestmark = pytest.mark.vectors("storage")

FACTS = manifest("composites")


def listing(prefix: str) -> list[SizedRef]:
    rows = (row.split() for row in FACTS["results"][prefix]["enumerate"])
    return [SizedRef(Ref(ref), int(size)) for ref, size in rows]


def test_a_replica_shows_what_perkeeps_shows(tmp_path: Path) -> None:
    folder = unpack("composites", tmp_path)

    def resolve(prefix: str) -> Storage:
        config = FACTS["config"][prefix]
        args = {
            name: value.replace("${DIR}", str(folder)) if isinstance(value, str) else value
            for name, value in config["handlerArgs"].items()
        }
        return open_storage(config["handler"], args, resolve)

    replica = resolve("/replica/")
    assert list(replica.enumerate()) == listing("/replica/")
    refs = [ref for ref, _ in listing("/replica/")]
    assert sorted(replica.stat(refs)) == listing("/replica/")
    assert all(isinstance(data, bytes) for _, data in replica.fetch_many(refs))
    generation = replica.generation()
    assert generation is not None
    assert generation.token == f"{FACTS['generation_of']['r1']}/{FACTS['generation_of']['r2']}"


@pytest.mark.parametrize("name", ["a", "b", "c", "low", "up", "r1", "r2"])
def test_each_part_holds_its_files(tmp_path: Path, name: str) -> None:
    with LocalDisk(unpack("composites", tmp_path) / name) as store:
        found = {blob.ref for blob in store.stream()}
    assert found == set(FACTS["files_in"][name])


@pytest.mark.parametrize("name", ["perkeepd-default-sqlite", "perkeepd-default-leveldb"])
def test_the_loose_and_packed_parts_of_a_server_open_side_by_side(
    tmp_path: Path, name: str
) -> None:
    blobs = unpack(name, tmp_path) / "var" / "perkeep" / "blobs"
    rows = manifest(name)["blobs"]
    loose = [SizedRef(Ref(row["ref"]), row["size"]) for row in rows if "file" in row]
    zips = {Ref(row["zip"]) for row in rows if "zip" in row}
    with LocalDisk(blobs) as store:
        assert list(store.enumerate()) == loose
        assert {blob.ref for blob in store.stream()} == {ref for ref, _ in loose}
    with LocalDisk(blobs / "packed") as store:
        assert {blob.ref for blob in store.stream()} == zips
    with LocalDisk(blobs / "cache") as store:
        cached = {ref for ref, _ in store.enumerate()}
    assert cached >= {Ref(ref) for ref in manifest(name)["thumbmeta_rows"].values()}
