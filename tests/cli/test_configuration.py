"""pk dumpconfig, pk config, pk env."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from peatkeep.cli import common, pk

VECTORS = Path(__file__).parents[1] / "vectors/http"
CASES = json.loads((VECTORS / "config.json").read_text())["cases"]


class Case:
    """One case of the golden data, with its placeholders replaced."""

    def __init__(self, case: dict[str, Any], folder: Path) -> None:
        identity = json.loads((VECTORS / "identity.json").read_text())
        ring = folder / "secring"
        ring.write_bytes(base64.b64decode(identity["secret_ring_file_base64"]))
        values = {"D": folder / "d", "C": folder, "SECRING": ring, "TMPDIR": folder / "tmp"}
        text = json.dumps(case)
        for name, value in values.items():
            text = text.replace(f"{{{{{name}}}}}", str(value))
        self.values = json.loads(text)
        self.file = folder / "c.json"
        self.file.write_text(json.dumps(self.values["high_level"]))
        self.environ = {"USER": "tester", "MYBLOBS": f"{folder}/d/envblobs"}
        self.environ["TMPDIR"] = str(folder / "tmp")


def pk_run(*words: str | Path) -> int:
    return common.run(pk.pk, common.PK, [str(word) for word in words])


@pytest.mark.vectors("http")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_dumpconfig_prints_what_perkeeps_prints(
    case: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    golden = Case(case, tmp_path)
    for name, value in golden.environ.items():
        monkeypatch.setenv(name, value)
    exit_code = pk_run("dumpconfig", golden.file)
    printed = capsys.readouterr()
    if "error" in case:
        assert printed.err.splitlines()[0] == golden.values["error"]
        assert printed.out == ""
    else:
        assert json.loads(printed.out) == golden.values["low_level"]
    assert exit_code == case.get("exit_code", 0)


def write_config(folder: Path, **changes: object) -> Path:
    golden = Case(CASES[0], folder)
    values = golden.values["high_level"] | changes
    golden.file.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    return golden.file


def test_a_sound_configuration_is_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_config(tmp_path, listen="127.0.0.1:3179")
    assert pk_run("config", "check", file) == 0
    assert capsys.readouterr().out == f"{file}: ok\n"


def test_each_problem_is_told_with_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mongo = {"sqlite": None, "levelDB": None, "mongo": "me:secret@host"}
    file = write_config(tmp_path, auth="magic", **mongo)
    assert pk_run("config", "check", file) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
    assert all(str(file) in line for line in lines)
    assert "mongo needs mongo, which this version does not have yet" in lines[0]
    assert "auth: " in lines[-1]


def test_a_key_that_is_unknown_is_told_with_a_hint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_config(tmp_path, blobpath="/x")
    assert pk_run("config", "check", file) == 1
    assert f'"blobpath" in file "{file}"; did you mean "blobPath"?' in capsys.readouterr().err


def test_a_folder_stands_for_the_configuration_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_config(tmp_path)
    file.rename(tmp_path / "server-config.json")
    assert pk_run("config", "check", tmp_path) == 0
    assert capsys.readouterr().out == f"{tmp_path}/server-config.json: ok\n"


def test_without_any_configuration_the_way_to_one_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert pk_run("config", "check") == 1
    assert "peatkeepd makes one" in capsys.readouterr().err


def test_secrets_are_shown_only_when_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_config(tmp_path, auth="userpass:ann:hunter2", s3="id:hunter3:bucket")
    assert pk_run("config", "show", file) == 0
    shown = capsys.readouterr()
    assert "hunter" not in shown.out + shown.err
    assert json.loads(shown.out)["auth"] == "REDACTED"
    assert pk_run("config", "show", "--secrets", file) == 0
    assert json.loads(capsys.readouterr().out)["auth"] == "userpass:ann:hunter2"


def test_env_names_the_places(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PK_CONFIG_DIR", "/c")
    monkeypatch.setenv("CAMLI_SECRET_RING", "/ring")
    assert pk_run("env") == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines == {
        "configdir": "/c",
        "clientconfig": "/c/client-config.json",
        "serverconfig": "/c/server.toml",
        "srcroot": str(Path(__file__).parents[2]),
        "secretring": "/ring",
    }
    assert pk_run("env", "configdir") == 0
    assert capsys.readouterr().out == "/c\n"


def test_env_refuses_a_place_that_it_does_not_know() -> None:
    assert pk_run("env", "nowhere") == 2
