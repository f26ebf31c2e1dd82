"""The main job as a user does it: a fresh home, the server's first start, put, get, compare."""

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e import trees
from tests.e2e.compare_trees import differences
from tests.e2e.machine import Machine, Server

TREES: dict[str, Callable[[Path], None]] = {
    "odd names": trees.odd_names,
    "hard links": trees.hard_links,
    "holes": partial(trees.sparse, size_bytes=20 * trees.MEGABYTE),
    "attributes": trees.attributes,
    "wide": partial(trees.wide, count=10_050),
    "deep": partial(trees.deep, depth=60),
}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def server(machine: Machine) -> Iterator[Server]:
    with machine.serving() as server:
        yield server


def put_and_get(machine: Machine, tree: Path, out: Path, *flags: str) -> None:
    """Back `tree` up and restore it to `out/<its name>`."""
    ref = machine.run("pk-put", "file", *flags, tree).out.split()[0]
    machine.run("pk-get", "-o", out, ref)


@pytest.mark.parametrize("kind", TREES)
def test_a_tree_comes_back_identical(
    kind: str, machine: Machine, server: Server, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    TREES[kind](tree)
    put_and_get(machine, tree, tmp_path / "out")
    owners = os.geteuid() == 0
    assert list(map(str, differences(tree, tmp_path / "out" / "tree", owners=owners))) == []


def test_a_real_folder_comes_back_identical(
    machine: Machine, server: Server, tmp_path: Path
) -> None:
    library = Path(sysconfig.get_path("stdlib")) / "json"
    for folder in (library, library.parent / "importlib", Path("/usr/share/zoneinfo/Europe")):
        if folder.is_dir():
            shutil.copytree(folder, tmp_path / "real" / folder.name, symlinks=True)
    put_and_get(machine, tmp_path / "real", tmp_path / "out")
    assert list(map(str, differences(tmp_path / "real", tmp_path / "out" / "real"))) == []


def test_the_first_start_prepares_client_and_key(machine: Machine, server: Server) -> None:
    config = machine.home / ".config" / "peatkeep" / "client-config.json"
    entry = next(iter(json.loads(config.read_text())["servers"].values()))
    assert entry["server"].startswith(server.url.rstrip("/"))
    assert entry["auth"].startswith("userpass:")
    for name in ("client-config.json", "identity-secring.gpg", "server.toml"):
        assert (config.parent / name).stat().st_mode & 0o777 == 0o600
    assert machine.run("pk", "whoami").out.startswith("perkeepid:")
    assert machine.run("pk", "doctor").out.count("ok") >= 6


def test_a_permanode_with_a_tag_is_made_and_described(
    machine: Machine, server: Server, tmp_path: Path
) -> None:
    trees.deep(tmp_path / "tagged", 3)
    lines = machine.run(
        "pk-put", "file", "--permanode", "--tag=x,y", tmp_path / "tagged"
    ).out.split()
    directory, permanode = lines[0], lines[-1]
    meta = json.loads(machine.run("pk", "describe", permanode).out)["meta"]
    assert meta[permanode]["permanode"]["attr"]["tag"] == ["x", "y"]
    assert meta[permanode]["permanode"]["attr"]["camliContent"] == [directory]


def test_putting_again_sends_nothing_and_gives_the_same_ref(
    machine: Machine, server: Server, tmp_path: Path
) -> None:
    tree = tmp_path / "again"
    trees.hard_links(tree)
    first = machine.run("pk-put", "file", tree)
    listed = machine.run("pk", "list").out
    assert machine.run("pk-put", "file", tree).out == first.out
    assert machine.run("pk", "list").out == listed


def test_a_change_is_seen_though_size_and_mtime_were_put_back(
    machine: Machine, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    first = machine.run("pk-put", "file", path).last_word
    path.write_bytes(b"after!")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    second = machine.run("pk-put", "file", path).last_word
    assert first != second
    machine.run("pk-get", "-o", tmp_path / "out", second)
    assert (tmp_path / "out" / "file").read_bytes() == b"after!"


def test_a_restore_into_a_half_restored_folder_completes_it(
    machine: Machine, server: Server, tmp_path: Path
) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    trees.hard_links(tree)
    put_and_get(machine, tree, out)
    (out / "tree" / "one" / "large").write_bytes(b"cut off")
    (out / "tree" / "two" / "text").unlink()
    put_and_get(machine, tree, out)
    assert list(map(str, differences(tree, out / "tree"))) == []


def test_a_path_that_is_not_there_is_named_and_the_others_are_stored(
    machine: Machine, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "there").write_bytes(b"there")
    finished = machine.attempt("pk-put", "file", tmp_path / "gone", tmp_path / "there")
    assert finished.exit_code == 2
    assert str(tmp_path / "gone") in finished.err
    assert "Traceback" not in finished.err
    machine.run("pk-get", "-o", tmp_path / "out", finished.last_word)
    assert (tmp_path / "out" / "there").read_bytes() == b"there"


@pytest.mark.parametrize(
    ("environ", "exit_code", "said"),
    [
        ({"PK_SERVER": "http://127.0.0.1:1"}, 2, "127.0.0.1:1"),
        ({"PK_AUTH": "userpass:somebody:wrong"}, 2, "credentials"),
        ({"PK_CONFIG_DIR": "/nonexistent"}, 1, "/nonexistent/client-config.json"),
    ],
)
def test_a_server_that_cannot_be_used_is_named(
    environ: dict[str, str], exit_code: int, said: str, machine: Machine, server: Server
) -> None:
    finished = machine.attempt("pk-put", "file", sys.executable, environ=environ)
    assert finished.exit_code == exit_code
    assert said in finished.err
    assert "Traceback" not in finished.err


def test_a_busy_port_is_refused_with_a_hint(machine: Machine, server: Server) -> None:
    finished = machine.attempt("peatkeepd")
    assert finished.exit_code == 1
    assert machine.listen in finished.err


def test_blobs_survive_a_restart(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "machine")
    tree = tmp_path / "tree"
    trees.hard_links(tree)
    with machine.serving():
        ref = machine.run("pk-put", "file", tree).last_word
    with machine.serving():
        machine.run("pk-get", "-o", tmp_path / "out", ref)
    assert list(map(str, differences(tree, tmp_path / "out" / "tree"))) == []
