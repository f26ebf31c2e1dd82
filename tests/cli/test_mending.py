"""`pk storage repair`, `pk storage rebalance`, `pk verify -config`."""

import json
import random
import shutil
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.receive import receive_many
from peatkeep.blobserver.storage import Storage
from peatkeep.server.config import load
from peatkeep.server.topology import Topology

from .programs import Ran, run_program

COUNT = 2000
BLOBS = {Ref.of(data): data for data in (b"%d of %d" % (n, COUNT) * 40 for n in range(COUNT))}


class Home:
    """A configuration of three stores, and one that is made of them."""

    def __init__(self, folder: Path, kinds: tuple[str, str, str], over: dict[str, object]) -> None:
        self.folder = folder
        self.config = folder / "server-config.json"
        self.kinds = kinds
        prefixes: dict[str, object] = {"/all/": over}
        for name, kind in zip("abc", kinds, strict=True):
            (folder / name).mkdir()
            prefixes[f"/{name}/"] = {
                "handler": f"storage-{kind}",
                "handlerArgs": {"path": str(folder / name)},
            }
        self.write(prefixes)

    def write(self, prefixes: dict[str, object]) -> None:
        self.prefixes = prefixes
        document = {"auth": "none", "listen": "127.0.0.1:0", "handlerConfig": True}
        self.config.write_text(json.dumps({**document, "prefixes": prefixes}))

    def run(self, *words: str) -> Ran:
        environ = {"HOME": str(self.folder)}
        return run_program(["pk", *words, "-config", str(self.config)], environ, self.folder)

    def open(self) -> Topology:
        return Topology(load.load(str(self.config), {"HOME": str(self.folder)}))

    def damage(self, name: str, refs: list[Ref]) -> None:
        """Flip one bit of each of these blobs."""
        for path in (self.folder / name).rglob("*"):
            if path.suffix in (".dat", ".blobs"):
                data = bytearray(path.read_bytes())
                for ref in refs:
                    at = data.find(BLOBS[ref])
                    if at >= 0:
                        data[at + 7] ^= 4
                path.write_bytes(data)


def replica() -> dict[str, object]:
    return {"handler": "storage-replica", "handlerArgs": {"backends": ["/a/", "/b/", "/c/"]}}


def content(store: Storage) -> dict[Ref, object]:
    return dict(store.fetch_many([ref for ref, _ in store.enumerate()]))


@pytest.fixture(
    params=[
        ("localdisk", "diskpacked", "diskpacked"),
        ("diskpacked", "localdisk", "localdisk"),
        ("diskpacked", "diskpacked", "localdisk"),
    ],
    ids="-".join,
)
def hurt(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    """All blobs in three stores, of which then one is wiped and one has 1 % of flipped bits."""
    home = Home(tmp_path, request.param, replica())
    with home.open() as topology:
        receive_many(topology.storage("/all/"), BLOBS.items())
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").mkdir()
    home.damage("b", random.Random(1).sample(list(BLOBS), COUNT // 100))
    return home


def test_reads_are_right_at_once_and_one_repair_makes_all_equal(hurt: Home) -> None:
    with hurt.open() as topology:
        assert dict(topology.storage("/all/").fetch_many(BLOBS)) == BLOBS


def test_one_run_of_the_command_makes_all_backends_equal(hurt: Home) -> None:
    assert hurt.run("verify").exit_code == 2
    ran = hurt.run("storage", "repair", "-json")
    assert ran.exit_code == 0, ran.stderr
    result = next(one for one in map(json.loads, ran.lines) if "copies" in one)
    assert (result["blobs"], result["copies"]) == (COUNT, COUNT + COUNT // 100)
    with hurt.open() as topology:
        for name in "abc":
            assert content(topology.storage(f"/{name}/")) == BLOBS
    assert hurt.run("verify").exit_code == 0
    again = hurt.run("storage", "repair")
    assert again.lines == [f"/all/: {COUNT} blobs looked at, 0 copies written"]


def test_what_no_backend_has_whole_is_named(tmp_path: Path) -> None:
    home = Home(tmp_path, ("localdisk", "localdisk", "diskpacked"), replica())
    victim = next(iter(BLOBS))
    with home.open() as topology:
        receive_many(topology.storage("/all/"), list(BLOBS.items())[:20])
    for name in "abc":
        home.damage(name, [victim])
    ran = home.run("storage", "repair", "-quick", "-json")
    assert ran.exit_code == 0  # nothing was read
    ran = home.run("storage", "repair", "-json")
    assert (ran.exit_code, json.loads(ran.lines[-1])["error"]) == (2, "corrupt")
    assert victim in ran.stderr


def test_a_new_place_gets_its_share_and_the_old_ones_give_it_up(tmp_path: Path) -> None:
    few = {"handler": "storage-placed", "handlerArgs": {"backends": ["/a/", "/b/"], "copies": 2}}
    home = Home(tmp_path, ("localdisk", "diskpacked", "diskpacked"), few)
    with home.open() as topology:
        receive_many(topology.storage("/all/"), BLOBS.items())
    more = {**few, "handlerArgs": {"backends": ["/a/", "/b/", "/c/"], "copies": 2}}
    home.write({**home.prefixes, "/all/": more})
    ran = home.run("storage", "rebalance")
    assert ran.exit_code == 0, ran.stderr
    with home.open() as topology:
        parts = [content(topology.storage(f"/{name}/")) for name in "abc"]
        assert sum(map(len, parts)) == 2 * COUNT
        assert all(COUNT / 2 < len(part) < COUNT * 5 / 6 for part in parts)
        assert content(topology.storage("/all/")) == BLOBS
    again = home.run("storage", "rebalance")
    assert again.lines == [f"/all/: {COUNT} blobs looked at, 0 copied, 0 removed"]


def test_a_configuration_without_a_replica_is_an_error(tmp_path: Path) -> None:
    home = Home(tmp_path, ("localdisk", "localdisk", "localdisk"), {"handler": "storage-memory"})
    refused = home.run("storage", "repair")
    assert (refused.exit_code, "storage-replica" in refused.stderr) == (1, True)


def test_the_stores_below_a_packed_one_are_checked_with_it(tmp_path: Path) -> None:
    (tmp_path / "zips").mkdir()
    args = {"smallBlobs": "/a/", "largeBlobs": "/zips/", "metaIndex": {"type": "memory"}}
    home = Home(
        tmp_path,
        ("localdisk", "diskpacked", "localdisk"),
        {"handler": "storage-blobpacked", "handlerArgs": args},
    )
    zips = {"handler": "storage-localdisk", "handlerArgs": {"path": str(tmp_path / "zips")}}
    both = {"handler": "storage-replica", "handlerArgs": {"backends": ["/b/", "/c/"]}}
    home.write({**home.prefixes, "/zips/": zips, "/both/": both})
    with home.open() as topology:
        for name in ("all", "b", "c"):
            receive_many(topology.storage(f"/{name}/"), list(BLOBS.items())[:30])
    sound = home.run("verify")
    assert sound.exit_code == 0
    assert sound.lines == ["/all/: sound", "/b/: sound", "/c/: sound"]
    victim = next(iter(BLOBS))
    for name in "ab":
        home.damage(name, [victim])
    found = home.run("verify", "-json")
    assert found.exit_code == 2
    assert found.stderr.count(victim) >= 2
    results = [one for one in map(json.loads, found.lines) if "prefix" in one]
    assert {one["prefix"]: one["damaged"] for one in results} == {"/all/": 1, "/b/": 1, "/c/": 0}
    assert home.run("verify", "/c/").lines == ["/c/: sound"]
    assert home.run("verify", "/both/").exit_code == 1
    assert home.run("verify", "-repair", "/x").exit_code == 1
