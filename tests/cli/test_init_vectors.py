"""`pk-put init`, exit codes and the look-up of the configuration, against the recorded runs."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.running import IDENTITY, RunningServer, running_server

from .programs import Ran, run_program, shape
from .wiretap import Recorder, recording

VECTORS = Path(__file__).parents[1] / "vectors" / "http" / "clients-init-config.json"
RUNS: dict[str, dict[str, Any]] = {
    run["id"]: run for run in json.loads(VECTORS.read_text())["runs"]
}

CONFIGURED = {
    "old-single-server-config",
    "unknown-key",
    "alias-like-host",
    "no-default",
    "default-by-env",
    "server-flag-alias",
    "server-flag-hostport",
    "server-flag-other",
}
"""Runs that find a configuration of their own."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def recorder(server: RunningServer) -> Iterator[Recorder]:
    with recording(server.host) as running:
        yield running


def configuration(name: str, url: str) -> dict[str, object]:
    """The configuration that a run finds, made from what its name and note say."""
    entry = {"server": url, "auth": "userpass:alice:secret"}
    if name == "old-single-server-config":
        return dict(entry)
    if name == "server-flag-other":
        return {"servers": {"x": {**entry, "server": "http://elsewhere.example"}}}
    if name == "alias-like-host":
        return {"servers": {"a.b": {**entry, "default": True}}}
    bogus = {"bogus": 1} if name == "unknown-key" else {}
    return {"servers": {"x": entry}, **bogus}


def prepared_home(name: str, home: Path, url: str) -> None:
    """What earlier runs of the recording left in the home directory."""
    config = home / ".config" / "peatkeep"
    config.mkdir(parents=True)
    if name in CONFIGURED:
        (config / "client-config.json").write_text(json.dumps(configuration(name, url)))
    if name in ("init-reuse", "init-existing", "init-newkey-existing"):
        assert run_program(["pk-put", "init", "-newkey", "-noconfig"], {"HOME": str(home)}, home)
    if name == "init-existing":
        (config / "client-config.json").write_text("{}")


def run_recorded(name: str, home: Path, url: str) -> Ran:
    prepared_home(name, home, url)
    host = url.removeprefix("http://")
    run = RUNS[name]
    (home / "raw.bin").write_text("raw blob bytes")
    environ = {key: _filled(value, host, home) for key, value in run["env"].items()}
    return run_program([_filled(word, host, home) for word in run["argv"]], environ, home)


def _filled(text: str, host: str, home: Path) -> str:
    return text.replace("{{HOST}}", host).replace("{{HOME}}", str(home))


@pytest.mark.vectors("http")
@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_equivalent_to_the_recorded_one(
    name: str, tmp_path: Path, recorder: Recorder
) -> None:
    run = RUNS[name]
    recorder.take()
    ran = run_recorded(name, tmp_path, recorder.url)
    assert ran.exit_code == run["exit_code"], ran.stderr
    if "{" not in run["stdout"]:
        assert shape(ran.stdout.decode()) == shape(run["stdout"])
    else:  # a discovery document: its content is the server's matter
        theirs, ours = json.loads(run["stdout"]), json.loads(ran.stdout)
        assert theirs.keys() <= ours.keys()
    assert bool(ran.stderr) == bool(run["stderr"])
    assert "Traceback" not in ran.stderr
    theirs = [(request["method"], request["path"]) for request in run["requests"]]
    assert [(request.method, request.path) for request in recorder.take()] == theirs
    if "written_config" in run:
        check_written(run, tmp_path / ".config" / "peatkeep" / "client-config.json")


def check_written(run: dict[str, Any], path: Path) -> None:
    ours, theirs = json.loads(path.read_text()), run["written_config"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert ours.keys() == theirs.keys()
    assert ours["ignoredFiles"] == theirs["ignoredFiles"]
    assert len(ours["identity"]) == 16
    assert [entry["default"] for entry in ours["servers"].values()] == [True]
    for alias, entry in theirs["servers"].items():
        assert ours["servers"][alias].keys() == entry.keys()
        assert (
            shape(ours["servers"][alias]["server"]) == shape(entry["server"]) or alias == "default"
        )


def test_a_new_key_is_private_and_signs(tmp_path: Path) -> None:
    from peatkeep.schema.keyring import read_ring

    environ = {"HOME": str(tmp_path)}
    ran = run_program(["pk-put", "init", "--newkey"], environ, tmp_path)
    ring = tmp_path / ".config" / "peatkeep" / "identity-secring.gpg"
    (key,) = read_ring(ring.read_bytes())
    assert ring.stat().st_mode & 0o777 == 0o600
    assert key.public_ref in ran.stderr
    config = json.loads((ring.parent / "client-config.json").read_text())
    assert config["identity"] == key.key_id


def test_perkeeps_directory_is_read_and_never_written(
    tmp_path: Path, server: RunningServer
) -> None:
    theirs = tmp_path / ".config" / "perkeep"
    theirs.mkdir(parents=True)
    shutil.copy(server.secring, theirs / "identity-secring.gpg")
    before = sorted(theirs.iterdir())
    environ = {"HOME": str(tmp_path)}
    ran = run_program(["pk-put", "init"], environ, tmp_path)
    assert ran.exit_code == 0, ran.stderr
    assert sorted(theirs.iterdir()) == before
    config = json.loads((tmp_path / ".config" / "peatkeep" / "client-config.json").read_text())
    assert config["identity"] == IDENTITY["key_id"]
    assert config["identitySecretRing"] == str(theirs / "identity-secring.gpg")


def test_a_key_is_chosen_by_its_id(tmp_path: Path, server: RunningServer) -> None:
    environ = {"HOME": str(tmp_path), "PK_SECRET_RING": str(server.secring)}
    good = run_program(
        ["pk-put", "init", "-noconfig", f"-gpgkey={IDENTITY['key_id']}"], environ, tmp_path
    )
    assert good.exit_code == 0
    bad = run_program(["pk-put", "init", "-gpgkey=0000000000000000"], environ, tmp_path)
    assert bad.exit_code == 2
    assert "0000000000000000" in bad.stderr
