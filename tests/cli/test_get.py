"""pk-get as a user meets it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from tests.server.running import IDENTITY, RunningServer, running_server

from .programs import Ran, run_program


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def environ(server: RunningServer, tmp_path: Path) -> dict[str, str]:
    config = tmp_path / "config"
    config.mkdir()
    entry = {"server": server.url, "auth": server.auth, "default": True}
    members = {
        "servers": {"s": entry},
        "identity": IDENTITY["key_id"],
        "identitySecretRing": str(server.secring),
    }
    (config / "client-config.json").write_text(json.dumps(members))
    return {
        "HOME": str(tmp_path),
        "PK_CONFIG_DIR": str(config),
        "PK_CACHE_DIR": str(tmp_path / "cache"),
    }


@pytest.fixture
def folder(environ: dict[str, str], tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    (folder / "d").mkdir(parents=True)
    (folder / "d" / "a").write_text("contents")
    (folder / "d" / "link").symlink_to("a")
    return folder


def put(environ: dict[str, str], folder: Path, *words: str) -> str:
    ran = run_program(["pk-put", *words], environ, folder)
    assert ran.exit_code == 0, ran.stderr
    return ran.lines[-1]


def get(environ: dict[str, str], folder: Path, *words: str) -> Ran:
    return run_program(["pk-get", *words], environ, folder)


def test_a_blob_is_written_to_the_path_itself(environ: dict[str, str], folder: Path) -> None:
    ref = put(environ, folder, "blob", "d/a")
    assert get(environ, folder, "-o", "copy", ref).exit_code == 0
    assert (folder / "copy").read_text() == "contents"


def test_contents_go_to_a_file_too(environ: dict[str, str], folder: Path) -> None:
    ref = put(environ, folder, "file", "d/a")
    assert get(environ, folder, "-contents", "-o", "copy", ref).exit_code == 0
    assert (folder / "copy").read_text() == "contents"


def test_several_trees_are_restored_at_once(environ: dict[str, str], folder: Path) -> None:
    refs = [put(environ, folder, "file", path) for path in ("d", "d/a")]
    ran = get(environ, folder, "--json", "-o", "out", *refs)
    assert ran.exit_code == 0, ran.stderr
    assert (folder / "out" / "d" / "a").read_text() == "contents"
    assert (folder / "out" / "a").read_text() == "contents"
    assert json.loads(ran.lines[-1])["files"] == 3


def test_links_can_be_left_out(environ: dict[str, str], folder: Path) -> None:
    ref = put(environ, folder, "file", "d")
    assert get(environ, folder, "-skip_irregular", "-o", "out", ref).exit_code == 0
    assert [path.name for path in (folder / "out" / "d").iterdir()] == ["a"]


def test_a_damaged_blob_on_the_server_is_an_error(
    environ: dict[str, str], folder: Path, server: RunningServer
) -> None:
    (folder / "d" / "b").write_text("this one gets damaged")
    ref = put(environ, folder, "file", "d")
    chunk = Ref.of(b"this one gets damaged")
    (place,) = server.data.rglob(f"*{chunk.hex_digest}*")
    place.chmod(0o600)
    place.write_bytes(b"THIS one gets damaged")
    ran = get(environ, folder, "-o", "out", ref)
    assert ran.exit_code == 1
    assert str(folder / "out" / "d" / "b") in ran.stderr or "out/d/b" in ran.stderr
    assert not (folder / "out" / "d" / "b").exists()
    assert (folder / "out" / "d" / "a").read_text() == "contents"


def test_a_share_is_restored_by_a_stranger(environ: dict[str, str], folder: Path) -> None:
    ref = put(environ, folder, "file", "d")
    url = put(environ, folder, "share", "-transitive", ref)
    stranger = {"HOME": str(folder)}
    ran = get(stranger, folder, "-shared", url, "-o", "out")
    assert ran.exit_code == 0, ran.stderr
    assert (folder / "out" / "d" / "a").read_text() == "contents"
    assert (folder / "out" / "d" / "link").is_symlink()


def test_a_revoked_share_is_refused(environ: dict[str, str], folder: Path) -> None:
    url = put(environ, folder, "share", put(environ, folder, "file", "d/a"))
    put(environ, folder, "delete", url.rpartition("/")[2])
    ran = get({"HOME": str(folder)}, folder, "-shared", url)
    assert (ran.exit_code, ran.stdout) == (1, b"")
    assert "share" in ran.stderr


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:9/share/zzz"])
def test_what_is_no_share_link_is_refused(url: str, folder: Path) -> None:
    ran = get({"HOME": str(folder)}, folder, "-shared", url)
    assert ran.exit_code == 1
    assert "share" in ran.stderr


def test_a_closed_pipe_ends_it_quietly(environ: dict[str, str], folder: Path) -> None:
    import subprocess
    import sys

    (folder / "large").write_bytes(os.urandom(3_000_000))
    ref = put(environ, folder, "file", "large")
    code = f"import sys; sys.argv[1:] = ['-contents', '{ref}'];"
    code += "from peatkeep.cli.get import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environ | {"PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 141


def test_a_file_read_before_needs_no_server(environ: dict[str, str], folder: Path) -> None:
    ref = put(environ, folder, "file", "d/a")
    assert get(environ, folder, "-contents", ref).stdout == b"contents"
    gone = environ | {"PK_SERVER": "http://127.0.0.1:9"}
    assert get(gone, folder, "-contents", ref).stdout == b"contents"
    assert get(gone, folder, Ref.of(b"never seen")).exit_code == 1
