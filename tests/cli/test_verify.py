"""`pk verify`: every blob is read; damaged ones are named, and taken from a good copy."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.folder import open_folder
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.receive import receive_many
from tests.server.running import RunningServer, running_server

from .programs import Ran, run_program

CONTENTS = [f"blob {number}".encode() for number in range(700)]
VICTIM = Ref.of(CONTENTS[345])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def environ(folder: Path, server: RunningServer | None = None) -> dict[str, str]:
    if server is not None:
        entry = {"server": server.url, "auth": server.auth, "default": True}
        (folder / "client-config.json").write_text(json.dumps({"servers": {"s": entry}}))
    return {"HOME": str(folder), "PK_CONFIG_DIR": str(folder), "PK_CACHE_DIR": str(folder / "c")}


def fill(folder: Path) -> Path:
    folder.mkdir()
    with LocalDisk(folder) as store:
        receive_many(store, [(Ref.of(data), data) for data in CONTENTS])
    return folder


def flip(folder: Path) -> None:
    next(folder.rglob(f"{VICTIM}.dat")).write_bytes(b"xlob 345")


def verify(folder: Path, *words: str) -> Ran:
    return run_program(["pk", "verify", *words], environ(folder), folder)


def test_a_sound_store_is_said_to_be_sound(tmp_path: Path) -> None:
    ran = verify(tmp_path, str(fill(tmp_path / "a")))
    assert (ran.exit_code, ran.lines) == (0, ["700 blobs are sound, 0 damaged, 0 repaired"])


def test_a_damaged_blob_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    flip(fill(tmp_path / "a"))
    ran = verify(tmp_path, str(tmp_path / "a"), "--json")
    last = json.loads(ran.lines[-1])
    assert (ran.exit_code, last["error"], last["blobs"], last["damaged"]) == (2, "corrupt", 699, 1)
    assert VICTIM in ran.stderr


def test_a_blob_in_a_wrong_folder_is_named_with_both_places(tmp_path: Path) -> None:
    folder = fill(tmp_path / "a")
    right = next(folder.rglob(f"{VICTIM}.dat"))
    wrong = folder / "sha224" / "zz" / right.name
    wrong.parent.mkdir()
    right.rename(wrong)
    ran = verify(tmp_path, str(folder))
    assert (ran.exit_code, ran.lines) == (2, ["699 blobs are sound, 1 damaged, 0 repaired"])
    assert f"move {wrong} to {right}" in ran.stderr
    right.parent.mkdir(exist_ok=True)
    wrong.rename(right)
    assert verify(tmp_path, str(folder)).exit_code == 0


def test_a_folder_of_packs_is_read_like_one_of_files(tmp_path: Path) -> None:
    (tmp_path / "packs").mkdir()
    with open_folder(tmp_path / "packs", packs_if_new=True) as store:
        receive_many(store, [(Ref.of(data), data) for data in CONTENTS])
    ran = verify(tmp_path, str(tmp_path / "packs"))
    assert (ran.exit_code, ran.lines) == (0, ["700 blobs are sound, 0 damaged, 0 repaired"])


def test_a_good_copy_elsewhere_repairs_it(tmp_path: Path) -> None:
    flip(fill(tmp_path / "a"))
    fill(tmp_path / "b")
    ran = verify(tmp_path, str(tmp_path / "a"), "--repair", str(tmp_path / "b"))
    assert ran.exit_code == 0
    assert ran.lines == [
        f"{VICTIM}: repaired",
        "699 blobs are sound, 0 damaged, 1 repaired",
    ]
    assert verify(tmp_path, str(tmp_path / "a")).exit_code == 0


def test_the_blobs_of_a_server_are_read_and_repaired_over_http(
    server: RunningServer, tmp_path: Path
) -> None:
    server.upload("/bs/", *CONTENTS[:200])
    victim = Ref.of(CONTENTS[7])
    next((server.data / "blobs").rglob(f"{victim}.dat")).write_bytes(b"?")
    words = ["pk", "verify", "s"]
    settings = environ(tmp_path, server)
    ran = run_program(words, settings, tmp_path)
    assert ran.exit_code == 2
    assert victim in ran.stderr
    fill(tmp_path / "spare")
    ran = run_program([*words, "--repair", str(tmp_path / "spare")], settings, tmp_path)
    assert (ran.exit_code, ran.lines[0]) == (0, f"{victim}: repaired")
