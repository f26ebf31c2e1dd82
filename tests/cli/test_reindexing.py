"""`pk reindex-diskpacked` on folders that Perkeep wrote, and damaged."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.cli.common import PK, run
from peatkeep.cli.pk import pk
from peatkeep.sorted.registry import open_kv
from tests.archives import extract_all

Unpack = Callable[[str], Path]


@pytest.fixture
def unpack(vectors_dir: Path, tmp_path: Path) -> Unpack:
    def unpacked(name: str) -> Path:
        extract_all(vectors_dir / f"storage/{name}.tar.xz", tmp_path)
        return tmp_path / name

    return unpacked


def rows_of(folder: Path, name: str = "index.leveldb") -> dict[str, str]:
    with open_kv({"type": "leveldb", "file": str(folder / name)}) as rows:
        return {key.decode(): value.decode() for key, value in rows.find()}


def reindex(folder: Path, *flags: str) -> int:
    return run(pk, PK, ["reindex-diskpacked", *flags, str(folder)])


def test_a_sound_folder_needs_no_change(unpack: Unpack, capsys: pytest.CaptureFixture[str]) -> None:
    assert reindex(unpack("diskpacked") / "blobs") == 0
    assert capsys.readouterr().out == ""


def test_a_lost_index_is_made_anew(unpack: Unpack, vectors_dir: Path) -> None:
    folder = unpack("diskpacked") / "blobs"
    shutil.rmtree(folder / "index.leveldb")
    assert reindex(folder) == 2
    assert reindex(folder, "-overwrite") == 0
    manifest = json.loads((vectors_dir / "storage" / "diskpacked.json").read_text())
    wanted = {b["ref"]: f"{b['pack']} {b['offset']} {b['size']}" for b in manifest["blobs"]}
    assert rows_of(folder) == wanted


@pytest.mark.parametrize("variant", ["truncated-tail", "flipped-data-byte"])
def test_a_damaged_blob_loses_its_row(unpack: Unpack, vectors_dir: Path, variant: str) -> None:
    folder = unpack("damaged-diskpacked") / variant / "blobs"
    before = rows_of(folder)
    manifest = json.loads((vectors_dir / "storage" / "damaged-diskpacked.json").read_text())
    damaged = next(v["blob"] for v in manifest["variants"] if v["variant"] == variant)
    assert reindex(folder, "-overwrite") == 2
    assert before.keys() - rows_of(folder).keys() == {damaged}


@pytest.mark.parametrize("variant", ["flipped-header-bracket", "flipped-header-size"])
def test_no_row_is_lost_where_a_pack_could_not_be_read_on(unpack: Unpack, variant: str) -> None:
    folder = unpack("damaged-diskpacked") / variant / "blobs"
    before = rows_of(folder)
    assert reindex(folder, "-overwrite") == 2
    assert len(before.keys() - rows_of(folder).keys()) <= 1


def test_a_missing_pack_is_named(unpack: Unpack, capsys: pytest.CaptureFixture[str]) -> None:
    folder = unpack("damaged-diskpacked") / "missing-middle-pack" / "blobs"
    assert reindex(folder, "-overwrite") == 1
    assert "pack-00001.blobs is missing" in capsys.readouterr().err


def test_the_index_is_found_where_high_level_configurations_have_it(unpack: Unpack) -> None:
    folder = unpack("diskpacked") / "blobs"
    before = rows_of(folder)
    name = "diskpacked-index.leveldb"
    (folder / "index.leveldb").rename(folder / name)
    ref = min(before)
    with open_kv({"type": "leveldb", "file": str(folder / name)}) as rows:
        rows.delete(ref.encode())
    assert reindex(folder) == 2
    assert reindex(folder, "-overwrite") == 0
    assert rows_of(folder, name) == before
    assert not (folder / "index.leveldb").exists()


def test_of_two_indexes_none_is_chosen(unpack: Unpack, capsys: pytest.CaptureFixture[str]) -> None:
    folder = unpack("diskpacked") / "blobs"
    shutil.copytree(folder / "index.leveldb", folder / "diskpacked-index.leveldb")
    assert reindex(folder, "-overwrite") == 1
    assert "index.leveldb and diskpacked-index.leveldb" in capsys.readouterr().err


def test_the_index_of_the_configured_folder_is_the_configured_one(
    unpack: Unpack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = unpack("diskpacked") / "blobs"
    before = rows_of(folder)
    index = {"type": "leveldb", "file": str(tmp_path / "elsewhere.leveldb")}
    args = {"path": str(folder), "metaIndex": index}
    prefixes = {"/bs/": {"handler": "storage-diskpacked", "handlerArgs": args}}
    values = {"handlerConfig": True, "auth": "none", "prefixes": prefixes}
    monkeypatch.setenv("PK_CONFIG_DIR", str(tmp_path))
    (tmp_path / "server-config.json").write_text(json.dumps(values))
    assert run(pk, PK, ["reindex-diskpacked", "-overwrite"]) == 0
    assert rows_of(tmp_path, "elsewhere.leveldb") == before


def test_a_store_that_is_open_is_left_alone(
    unpack: Unpack, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = unpack("diskpacked") / "blobs"
    with open_storage("diskpacked", {"path": str(folder)}, lambda _: Memory()):
        assert reindex(folder, "-overwrite") != 0
    assert "in use" in capsys.readouterr().err
