"""Which store a folder holds, told by what lies in it."""

from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.diskpacked import DiskPacked
from peatkeep.blobserver.folder import open_folder
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.errors import ConfigError
from tests.blobserver.unpack import unpack

REF = Ref.of(b"x")


@pytest.mark.parametrize("name", ["diskpacked", "diskpacked-sqlite", "diskpacked-kv"])
@pytest.mark.parametrize("renamed", [False, True])
def test_packs_are_known_by_their_index_or_their_first_pack(
    name: str, renamed: bool, tmp_path: Path
) -> None:
    folder = unpack(name, tmp_path)
    (packs,) = {path.parent for path in folder.rglob("pack-00000.blobs")}
    if renamed:
        for index in packs.glob("index.*"):
            index.rename(packs / f"diskpacked-{index.name}")
    with open_folder(packs) as store:
        assert isinstance(store, DiskPacked)
        assert len(list(store.enumerate())) > 10


def test_loose_blobs_are_known_by_their_folders(tmp_path: Path) -> None:
    with open_folder(unpack("localdisk", tmp_path) / "blobs", packs_if_new=True) as store:
        assert isinstance(store, LocalDisk)
        assert len(list(store.enumerate())) == 28


def test_a_new_folder_is_made_as_asked_for_and_known_again(tmp_path: Path) -> None:
    for packs_if_new, kind in ((True, DiskPacked), (False, LocalDisk)):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        with open_folder(folder, packs_if_new=packs_if_new) as store:
            assert isinstance(store, kind)
            store.receive(REF, b"x")
        with open_folder(folder, packs_if_new=not packs_if_new) as store:
            assert isinstance(store, kind)
            assert store.fetch(REF) == b"x"


def test_a_folder_that_is_only_a_part_of_a_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sha224").mkdir()
    (tmp_path / "packed" / "sha224").mkdir(parents=True)
    with pytest.raises(ConfigError, match="zips"):
        open_folder(tmp_path)


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for packs_if_new in (True, False):
        with pytest.raises(ConfigError):
            open_folder(tmp_path / "absent", packs_if_new=packs_if_new)
    assert not (tmp_path / "absent").exists()
