"""Blobs spread by digest."""

from typing import Any

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.conformance import sample, sized
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.shard import Shard, shard_of
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import ConfigError, Invalid, NotFound
from tests.blobserver.unpack import manifest

BLOBS = sample(60)


@pytest.mark.vectors("storage")
@pytest.mark.parametrize("case", manifest("shard")["cases"], ids=lambda case: case["ref"])
def test_the_shard_is_perkeeps(case: dict[str, Any]) -> None:
    ref = Ref(case["ref"])
    assert shard_of(ref, 2**32) == case["sum32"]
    for count in (2, 3, 5):
        assert shard_of(ref, count) == case[f"shard_of_{count}"]


def test_a_short_digest_has_a_shard_as_well() -> None:
    assert shard_of(Ref("short-a"), 2**32) == 0xA0000000
    assert shard_of(Ref("short-123456789"), 2**32) == 0x12345678


def test_each_blob_lies_in_its_shard_only() -> None:
    stores = [Memory() for _ in range(3)]
    Shard(stores).receive_many(BLOBS.items())
    for number, store in enumerate(stores):
        held = [ref for ref, _ in store.enumerate()]
        assert held == [ref for ref in BLOBS if shard_of(ref, 3) == number]
        assert held


def test_what_lies_in_a_wrong_shard_is_neither_listed_nor_found() -> None:
    stores = [Memory() for _ in range(3)]
    Shard(stores[:2]).receive_many(BLOBS.items())
    shard = Shard(stores)
    home = {ref: data for ref, data in BLOBS.items() if shard_of(ref, 2) == shard_of(ref, 3)}
    assert list(shard.enumerate()) == sorted(shard.stat(BLOBS)) == sized(home)
    assert {blob.ref: blob.data for blob in shard.stream()} == home
    stray = next(ref for ref in BLOBS if ref not in home)
    with pytest.raises(NotFound):
        shard.fetch(stray)
    shard.receive_many(BLOBS.items())
    assert list(shard.enumerate()) == sized(BLOBS)


@pytest.mark.parametrize("token", ["3:x", "-1:x", "x:y", ":", "1", "1:"])
def test_a_token_of_another_store_is_refused(token: str) -> None:
    with pytest.raises(Invalid):
        list(Shard([Memory(), Memory()]).stream(token))


def test_a_configuration_names_the_shards() -> None:
    stores: dict[str, Storage] = {"/a/": Memory(), "/b/": Memory()}
    shard = open_storage("storage-shard", {"backends": ["/a/", "/b/"]}, stores.__getitem__)
    ref = next(ref for ref in BLOBS if shard_of(ref, 2) == 1)
    shard.receive(ref, BLOBS[ref])
    assert list(stores["/b/"].enumerate()) == [SizedRef(ref, len(BLOBS[ref]))]
    for bad in ({}, {"backends": []}, {"backends": ["/a/"], "more": 1}):
        with pytest.raises(ConfigError):
            open_storage("storage-shard", bad, stores.__getitem__)
