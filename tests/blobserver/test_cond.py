"""Routing by content."""

import json
from pathlib import Path
from typing import Any

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.cond import Cond, is_routed_as_schema
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import ConfigError, Unavailable, Unsupported

VECTORS = Path(__file__).parent.parent / "vectors" / "storage" / "cond-is-schema.json"
CASES = json.loads(VECTORS.read_text())["cases"]
SCHEMA = b'{"camliVersion": 1, "camliType": "permanode"}'


def content_of(case: dict[str, Any]) -> bytes:
    """The blob itself, or the padded one that `gen` describes: of the size that fits its ref."""
    if "gen" not in case:
        text: str = case["blob"]
        return text.encode()
    head = b'{"camliVersion":1,"camliType":"bytes"}'
    size = int(next(word for word in case["gen"].replace(",", " ").split() if word.isdecimal()))
    for candidate in (head.ljust(size), head + b" " * size):
        if Ref.of(candidate) == case["ref"]:
            return candidate
    raise AssertionError(case["gen"])


@pytest.mark.vectors("storage")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["ref"][7:15])
def test_blobs_are_routed_as_perkeep_routes_them(case: dict[str, Any]) -> None:
    data = content_of(case)
    ref = Ref.of(data)
    assert ref == case["ref"]
    then, otherwise = Memory(), Memory()
    Cond(otherwise, then, otherwise).receive(ref, data)
    assert [found.ref for found in then.enumerate()] == [ref] * case["isSchema"]
    assert [found.ref for found in otherwise.enumerate()] == [ref] * (not case["isSchema"])
    assert is_routed_as_schema(data) == case["isSchema"]


def open_cond(write: object, **more: object) -> tuple[Storage, dict[str, Storage]]:
    stores: dict[str, Storage] = {"/a/": Memory(), "/b/": Memory()}
    args = {"read": "/a/", "write": write, **more}
    return open_storage("storage-cond", args, stores.__getitem__), stores


def test_a_configuration_names_the_targets() -> None:
    cond, stores = open_cond({"if": "isSchema", "then": "/a/", "else": "/b/"}, remove="/b/")
    ref, other = Ref.of(SCHEMA), Ref.of(b"data")
    cond.receive_many([(other, b"data"), (ref, SCHEMA)])
    assert [found.ref for found in stores["/a/"].enumerate()] == [ref]
    assert [found.ref for found in stores["/b/"].enumerate()] == [other]
    cond.remove([other, ref])
    assert list(stores["/b/"].enumerate()) == []
    assert cond.fetch(ref) == SCHEMA


def test_one_prefix_takes_all_writes() -> None:
    cond, stores = open_cond("/b/")
    cond.receive_many([(Ref.of(SCHEMA), SCHEMA), (Ref.of(b"data"), b"data")])
    assert len(list(stores["/b/"].enumerate())) == 2


def test_without_remove_nothing_is_removed() -> None:
    cond, _ = open_cond("/a/")
    cond.receive(Ref.of(b"x"), b"x")
    with pytest.raises(Unsupported):
        cond.remove([Ref.of(b"x")])
    assert cond.fetch(Ref.of(b"x")) == b"x"


@pytest.mark.parametrize(
    ("write", "more"),
    [
        ({"if": "isSmall", "then": "/a/", "else": "/b/"}, {}),
        ({"if": "isSchema", "then": "/a/"}, {}),
        ({"if": "isSchema", "then": "/a/", "else": "/b/", "or": "/a/"}, {}),
        (["/a/"], {}),
        ("/a/", {"remove": 1}),
        ("/a/", {"delete": "/a/"}),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(write: object, more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        open_cond(write, **more)


def test_data_is_durable_though_the_schema_target_fails() -> None:
    class Failing(Memory):
        def sync(self) -> None:
            raise Unavailable("sync", "index")

    base = Memory()
    with pytest.raises(Unavailable):
        Cond(base, Failing(), base).receive_many([(Ref.of(b"d"), b"d"), (Ref.of(SCHEMA), SCHEMA)])
    assert [found.ref for found in base.enumerate()] == [Ref.of(b"d")]


def test_one_sync_makes_a_mixed_batch_durable() -> None:
    class Counting(Memory):
        groups = 0

        def sync(self) -> None:
            self.groups += bool(self._unsynced)
            super().sync()

    base = Counting()
    blobs = [(Ref.of(b"d%d" % n), b"d%d" % n) for n in range(5)] + [(Ref.of(SCHEMA), SCHEMA)]
    Cond(base, base, base).receive_many(blobs)
    assert base.groups == 1
    assert len(list(base.enumerate())) == 6
