"""Configurations whose blobs are moving from one store to another."""

from typing import Any

import pytest

from peatkeep.server.config.high_keys import Untransformable
from tests.server.config.test_high_level import low

INDEX = {"levelDB": "/x/index"}
LEVELDB = {"type": "leveldb", "file": "/new/migration-removed.leveldb"}


def stores(**high: object) -> dict[str, Any]:
    """What the stores of blobs, and the copies of them, are made with."""
    prefixes = low(**{**INDEX, **high})["prefixes"]
    return {
        path: entry["handlerArgs"]
        for path, entry in prefixes.items()
        if path.startswith(("/bs-old", "/bs-new", "/sto-", "/sync-to-")) or path == "/bs/"
    }


def test_both_stores_are_there_and_one_that_is_both() -> None:
    found = stores(blobPath="/old", packBlobs=True, migration={"blobPath": "/new"})
    assert found.keys() == {"/bs/", "/bs-old/", "/bs-new/"}
    assert found["/bs/"] == {"from": "/bs-old/", "to": "/bs-new/", "removed": LEVELDB}
    assert (found["/bs-old/"]["path"], found["/bs-new/"]) == ("/old", {"path": "/new"})


def test_packed_stores_keep_their_parts_apart() -> None:
    found = stores(
        s3="a:b:c", packRelated=True, migration={"blobPath": "/new", "packRelated": True}
    )
    for name, large in (("old", "c/packed"), ("new", "/new/packed")):
        whole = found[f"/bs-{name}/"]
        assert whole["smallBlobs"] == f"/bs-{name}-loose/"
        assert whole["largeBlobs"] == f"/bs-{name}-packed/"
        packed = found[whole["largeBlobs"]]
        assert packed.get("bucket", packed.get("path")) == large


def test_into_a_bucket_what_is_removed_is_remembered_in_the_old_folder() -> None:
    found = stores(blobPath="/old", migration={"s3": "a:b:c/d", "leaveDamaged": True})
    assert found["/bs-new/"]["bucket"] == "c/d"
    assert found["/bs/"]["removed"]["file"] == "/old/migration-removed.leveldb"
    assert found["/bs/"]["leaveDamaged"] is True


def test_out_of_a_bucket_it_is_no_copy_meanwhile() -> None:
    found = stores(s3="a:b:c", b2="d:e:f", migration={"blobPath": "/new"})
    assert found["/bs-old/"]["bucket"] == "c"
    assert found.keys() >= {"/sto-b2/", "/sync-to-b2/"}
    assert not found.keys() & {"/sto-s3/", "/sync-to-s3/"}


def test_a_copy_in_a_bucket_goes_on_being_fed() -> None:
    found = stores(blobPath="/old", s3="a:b:c", migration={"blobPath": "/new"})
    assert found["/sto-s3/"]["bucket"] == "c"
    assert found["/sync-to-s3/"]["from"] == "/bs/"


def test_from_bucket_to_bucket_it_is_remembered_beside_the_index() -> None:
    found = stores(s3="a:b:c", migration={"s3": "a:b:other"})
    assert (found["/bs-old/"]["bucket"], found["/bs-new/"]["bucket"]) == ("c", "other")
    assert found["/bs/"]["removed"]["file"] == "/x/migration-removed.leveldb"


def test_what_is_removed_is_not_remembered_in_memory() -> None:
    memory = {"levelDB": None, "memoryIndex": True}
    found = stores(**memory, blobPath="/old", migration={"blobPath": "/new"})
    assert found["/bs/"]["removed"] == LEVELDB
    with pytest.raises(Untransformable, match="needs a folder"):
        stores(**memory, s3="a:b:c", migration={"s3": "a:b:other"})


@pytest.mark.parametrize(
    "high",
    [
        {"blobPath": "/old", "migration": {"packBlobs": True}},
        {"blobPath": "/old", "migration": {"blobPath": "/old/."}},
        {"blobPath": "/old", "migration": {"blobPath": "/new", "s3": "a:b:c"}},
        {"blobPath": "/old", "s3": "a:b:c", "migration": {"s3": "a:b:other"}},
        {"blobPath": "/old", "migration": {"s3": "a:b"}},
        {"memoryStorage": True, "migration": {"blobPath": "/new"}},
        {"b2": "a:b:c", "migration": {"blobPath": "/new"}},
        {"s3": "a:b:c", "migration": {"s3": "d:e:c/"}},
        {"s3": "a:b:c", "packRelated": True, "migration": {"s3": "a:b:d", "packRelated": True}},
    ],
)
def test_what_can_not_move_is_refused(high: dict[str, object]) -> None:
    with pytest.raises(Untransformable):
        stores(**high)
