import logging
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.blobpacked import BlobPacked
from peatkeep.blobserver.memory import Memory
from peatkeep.errors import ConfigError
from peatkeep.schema.filewriter import write_file
from peatkeep.server.config.record import LowConfig, Prefix
from peatkeep.server.topology import Topology
from peatkeep.server.watched import Watched

MEMORY = Prefix("storage-memory")


def config(prefixes: Mapping[str, Prefix]) -> LowConfig:
    return LowConfig("none", "127.0.0.1:0", prefixes)


def replica(*backends: str) -> Prefix:
    return Prefix("storage-replica", {"backends": list(backends)})


def test_stores_are_opened_before_those_that_need_them() -> None:
    prefixes = {"/both/": replica("/a/", "/b/"), "/a/": MEMORY, "/b/": MEMORY}
    with Topology(config(prefixes)) as topology:
        topology.storage("/both/").receive(Ref.of(b"x"), b"x")
        assert topology.storage("/a/").fetch(Ref.of(b"x")) == b"x"
        assert topology.storage("/b/").fetch(Ref.of(b"x")) == b"x"


def test_stores_that_need_each_other_are_refused() -> None:
    prefixes = {"/a/": replica("/b/"), "/b/": replica("/a/")}
    with pytest.raises(ConfigError, match="/a/ → /b/ → /a/"):
        Topology(config(prefixes))


@pytest.mark.parametrize("other", [None, Prefix("help"), Prefix("storage-memory", enabled=False)])
def test_a_reference_to_what_is_no_store_is_refused(other: Prefix | None) -> None:
    prefixes = {"/a/": replica("/b/")} | ({"/b/": other} if other else {})
    with pytest.raises(ConfigError, match="/b/"):
        Topology(config(prefixes))


def test_what_was_opened_is_closed_when_another_store_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    good = Prefix("storage-filesystem", {"path": str(tmp_path / "blobs")})
    bad = Prefix("storage-filesystem", {"path": str(tmp_path / "absent")})
    with pytest.raises(ConfigError):
        Topology(config({"/a/": good, "/b/": bad}))
    with Topology(config({"/a/": good})):
        pass


def test_an_arrival_is_told_by_every_store_that_it_came_through() -> None:
    prefixes = {"/both/": replica("/a/", "/b/"), "/a/": MEMORY, "/b/": MEMORY}
    with Topology(config(prefixes)) as topology:
        assert len(topology.hubs("/both/")) == 3
        assert len(topology.hubs("/a/")) == 1
        seen: list[Ref] = []
        for hub in topology.hubs("/a/"):
            hub.listen(seen.append)
        topology.storage("/both/").receive(Ref.of(b"x"), b"x")
        assert seen == [Ref.of(b"x")]


def test_an_arrival_is_told_after_it_is_durable() -> None:
    watched = Watched(Memory())
    seen: list[Ref] = []
    watched.hub.listen(seen.append)
    watched.write_many([(Ref.of(b"x"), b"x")])
    assert seen == []
    watched.sync()
    assert seen == [Ref.of(b"x")]
    assert watched.fetch(Ref.of(b"x")) == b"x"


def test_reindexing_names_the_first_blobs_that_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unsigned = [b'{"camliVersion":1,"camliType":"permanode","n":%d}' % n for n in range(30)]
    args = {"blobSource": "/bs/", "storage": {"type": "memory"}, "reindex": True}
    (tmp_path / "blobs").mkdir()
    prefixes = {"/bs/": Prefix("storage-filesystem", {"path": str(tmp_path / "blobs")})}
    with Topology(config(prefixes)) as topology:
        topology.storage("/bs/").receive_many((Ref.of(text), text) for text in unsigned)
    caplog.set_level(logging.INFO, "peatkeep.server")
    with Topology(config(prefixes | {"/index/": Prefix("storage-index", args)})):
        said = caplog.messages
    assert "the index refuses 30 blobs" in said
    assert sum("refuses sha" in line for line in said) == 20


def test_what_opening_finds_damaged_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("packs", "large"):
        (tmp_path / folder).mkdir()
    prefixes = {
        "/packs/": Prefix("storage-diskpacked", {"path": str(tmp_path / "packs")}),
        "/large/": Prefix("storage-filesystem", {"path": str(tmp_path / "large")}),
    }
    with Topology(config(prefixes)) as topology:
        topology.storage("/large/").receive(Ref.of(b"no zip"), b"no zip")
    assert caplog.messages == []
    (tmp_path / "packs" / "pack-00002.blobs").touch()
    args = {"smallBlobs": "/small/", "largeBlobs": "/large/", "metaIndex": {"type": "memory"}}
    prefixes |= {"/small/": MEMORY, "/packed/": Prefix("storage-blobpacked", args)}
    with Topology(config(prefixes)):
        pass
    assert any("/packs/: " in said and "pack-00001" in said for said in caplog.messages)
    assert any(said.startswith(f"/packed/: {Ref.of(b'no zip')}: ") for said in caplog.messages)


@pytest.mark.parametrize(("recovery", "is_forgotten"), [(0, False), (1, False), (2, True)])
def test_recovery_reaches_the_packed_stores(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recovery: int, is_forgotten: bool
) -> None:
    for folder in ("small", "large"):
        (tmp_path / folder).mkdir()
    rows = {"type": "leveldb", "file": str(tmp_path / "rows")}
    args = {"smallBlobs": "/small/", "largeBlobs": "/large/", "metaIndex": rows}
    prefixes = {
        "/small/": Prefix("storage-filesystem", {"path": str(tmp_path / "small")}),
        "/large/": Prefix("storage-filesystem", {"path": str(tmp_path / "large")}),
        "/packed/": Prefix("storage-blobpacked", args),
    }
    with Topology(config(prefixes)) as topology:
        packed = topology.storage("/packed/")
        blobs: list[tuple[Ref, bytes]] = []
        write_file(lambda *blob: blobs.append(blob), [random.Random(1).randbytes(600_000)], {})
        packed.receive_many(blobs)
        assert isinstance(packed.inner, BlobPacked)
        assert packed.inner.settle(20)
    shutil.rmtree(tmp_path / "large" / "sha224")
    with Topology(config(prefixes), recovery=recovery):
        pass
    caplog.clear()
    with Topology(config(prefixes)):
        pass
    assert any("missing" in said for said in caplog.messages) is not is_forgotten
