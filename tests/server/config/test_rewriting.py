"""Changing where the blobs lie in a server.toml: comments stay, unusual files stay untouched."""

import tomllib
from pathlib import Path

import pytest

from peatkeep.errors import ConfigError
from peatkeep.server.config.high_keys import MIGRATION
from peatkeep.server.config.rewriting import begin_migration, finish_migration, leave_damaged

USUAL = """\
# A comment.
listen = "127.0.0.1:3179"

# The blobs, in a few large files.
packBlobs = true
blobPath = "blobs"  # relative

levelDB = "index.leveldb"
[limits]
header_wait_s = 15
"""
NEW: dict[str, str | bool] = {"blobPath": "/somewhere/zips", "packRelated": True}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "server.toml"
    path.write_text(USUAL)
    return path


def test_a_migration_is_asked_for_by_a_table_at_the_end(file: Path) -> None:
    begin_migration(file, NEW)
    assert file.read_text().startswith(USUAL)
    assert tomllib.loads(file.read_text()) == {**tomllib.loads(USUAL), "migration": NEW}
    begin_migration(file, NEW)  # again: nothing happens
    with pytest.raises(ConfigError, match="another one is under way"):
        begin_migration(file, {"blobPath": "/elsewhere"})


def test_at_the_end_only_the_place_of_the_blobs_is_another(file: Path) -> None:
    begin_migration(file, NEW)
    finish_migration(file)
    values = tomllib.loads(file.read_text())
    assert values == {
        "listen": "127.0.0.1:3179",
        "blobPath": "/somewhere/zips",
        "packRelated": True,
        "levelDB": "index.leveldb",
        "limits": {"header_wait_s": 15},
    }
    assert "# A comment." in file.read_text()
    assert oct(file.stat().st_mode)[-3:] == "600"


def test_a_migration_under_way_may_leave_damaged_blobs_behind(file: Path) -> None:
    begin_migration(file, NEW)
    leave_damaged(file)
    leave_damaged(file)  # again: nothing happens
    table = tomllib.loads(file.read_text())["migration"]
    assert table == {**NEW, "leaveDamaged": True}
    finish_migration(file)
    assert "leaveDamaged" not in file.read_text()
    assert NEW.items() <= tomllib.loads(file.read_text()).items()


def test_at_the_end_no_key_of_the_old_store_is_left(file: Path) -> None:
    file.write_text(USUAL.replace("packBlobs = true", "packRelated = true\npackLoose = true"))
    begin_migration(file, {"blobPath": "/somewhere/files"})
    finish_migration(file)
    values = tomllib.loads(file.read_text())
    assert {key: values[key] for key in MIGRATION & values.keys()} == {
        "blobPath": "/somewhere/files"
    }


BUCKET = "key:secret:bucket/folder"


def test_blobs_that_move_into_a_bucket_leave_no_folder_behind(file: Path) -> None:
    begin_migration(file, {"s3": BUCKET})
    finish_migration(file)
    values = tomllib.loads(file.read_text())
    assert {key: values[key] for key in MIGRATION & values.keys()} == {"s3": BUCKET}


def test_blobs_that_move_out_of_a_bucket_leave_no_copy_there(file: Path) -> None:
    file.write_text(
        USUAL.replace("packBlobs = true", f's3 = "{BUCKET}"').replace("blobPath", "ownerName")
    )
    begin_migration(file, NEW)
    finish_migration(file)
    values = tomllib.loads(file.read_text())
    assert {key: values[key] for key in MIGRATION & values.keys()} == NEW


def test_a_copy_in_a_bucket_stays_when_the_blobs_move_elsewhere(file: Path) -> None:
    file.write_text(f's3 = "{BUCKET}"\n{USUAL}')
    begin_migration(file, NEW)
    finish_migration(file)
    values = tomllib.loads(file.read_text())
    assert {key: values[key] for key in MIGRATION & values.keys()} == {**NEW, "s3": BUCKET}


def test_a_file_without_a_migration_stays_as_it_is(file: Path) -> None:
    finish_migration(file)
    assert file.read_text() == USUAL


def test_a_file_written_in_an_unusual_way_is_refused_untouched(file: Path) -> None:
    text = USUAL.replace("packBlobs = true", '"packBlobs" = true')
    file.write_text(text)
    begin_migration(file, NEW)
    before = file.read_text()
    with pytest.raises(ConfigError, match="unusual"):
        finish_migration(file)
    assert file.read_text() == before


def test_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "server-config.json"
    path.write_text('{"blobPath": "/blobs"}')
    with pytest.raises(ConfigError, match="JSON"):
        begin_migration(path, NEW)
    finish_migration(path)
    assert path.read_text() == '{"blobPath": "/blobs"}'
