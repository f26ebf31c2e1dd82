"""The server program: flags, exit codes, the first start, and that it serves."""

import base64
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peatkeep.cli import common, peatkeepd
from tests.waiting import GUARD_S, free_port

PROGRAM = [sys.executable, "-c", "from peatkeep.cli.peatkeepd import main; main()"]
READY = "server: available at "


class Server:
    """A peatkeepd that answers."""

    def __init__(self, words: list[str]) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, *words], stderr=subprocess.PIPE, text=True, env=os.environ
        )
        self.said = ""
        self.url = ""
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.said += line
            if line.startswith(READY):
                self.url = line.removeprefix(READY).strip()
                return
        raise AssertionError(f"not ready, exit {self.process.wait()}: {self.said}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code; again, once it has ended, only the latter."""
        if self.process.returncode is None:
            self.process.send_signal(number)
            # Not communicate(): it passes over what the loop above has in its buffer.
            assert self.process.stderr
            with self.process.stderr as stderr:
                self.said += stderr.read()
        return self.process.wait(timeout=GUARD_S)

    def get(self, path: str, user: str = "", password: str = "") -> bytes:
        request = urllib.request.Request(self.url + path)
        if user:
            login = base64.b64encode(f"{user}:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        with urllib.request.urlopen(request, timeout=GUARD_S) as answer:
            data: bytes = answer.read()
            return data


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start_one(*words: str) -> Server:
        servers.append(Server(list(words)))
        return servers[-1]

    yield start_one
    for server in servers:
        server.stop(signal.SIGKILL)


def run(*words: str) -> int:
    return common.run(peatkeepd.peatkeepd, common.PEATKEEPD, list(words))


def write_config(path: Path, port: int, **changes: object) -> Path:
    identity = Path(__file__).parents[1] / "vectors/http/identity.json"
    ring = path.with_name("ring")
    ring.write_bytes(base64.b64decode(json.loads(identity.read_text())["secret_ring_file_base64"]))
    values = {
        "auth": "userpass:ann:pw",
        "listen": f"127.0.0.1:{port}",
        "identity": "D4DEEB67AB332011",
        "identitySecretRing": str(ring),
        "memoryStorage": True,
        "memoryIndex": True,
    } | changes
    path.write_text(json.dumps(values))
    return path


# -- without serving -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "exit_code", "said"),
    [
        (["-version"], 0, "peatkeepd version: "),
        (["-help"], 0, "Usage: peatkeepd"),
        (["--legal"], 0, "Apache License"),
        (["-zz"], 2, "-zz"),
        (["down"], 2, "up"),
        (["-recovery", "3"], 2, "recovery"),
        (["-configfile", "/nonexistent/x.json"], 1, "/nonexistent/x.json: no such file"),
        (["--config", "nonexistent.toml"], 1, "nonexistent.toml: no such file"),
        (["--config", "a", "-configfile", "b"], 2, "exclude each other"),
    ],
)
def test_flags_and_exit_codes(
    words: list[str], exit_code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == exit_code
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_a_configuration_that_can_not_be_served_is_refused_with_every_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"memoryStorage": False, "blobPath": str(tmp_path / "b")}
    changes |= {"memoryIndex": False, "mongo": "me:secret@host"}
    file = write_config(tmp_path / "c.json", 1, listen=":1", auth="none", **changes)
    assert run("--config", str(file)) == 1
    said = capsys.readouterr().err
    assert "mongo needs mongo, which this version does not have yet" in said
    assert "would let everybody in" in said
    assert not (tmp_path / "b").exists()


def test_a_taken_port_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        words = ["up", "--data", str(tmp_path / "data"), "--listen", f"127.0.0.1:{port}"]
        assert run(*words) == 1
    assert "is another server running there?" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    assert not (Path(os.environ["HOME"]) / ".config").exists()


def test_the_configuration_is_found_where_the_flags_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"HOME": str(tmp_path), "PK_CONFIG_DIR": "/conf"}
    location = peatkeepd._location
    assert location(environ, None, "x.toml", None) == "x.toml"
    assert location(environ, None, None, "x.toml") == "/conf/x.toml"
    assert location(environ, None, None, "/abs/x.toml") == "/abs/x.toml"
    assert location(environ, None, None, "http://h/x") == "http://h/x"
    assert location(environ, "data", None, None) is None
    (tmp_path / "data").mkdir()
    (tmp_path / "data/server-config.json").write_text("{}")
    assert location(environ, "data", None, None) == "data/server-config.json"
    assert location(environ, None, None, None) is None


# -- serving ---------------------------------------------------------------------------------------


def test_a_first_start_serves_and_its_password_opens(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    port = free_port()
    data = tmp_path / "data"
    server = start("up", "--data", str(data), "--listen", f"127.0.0.1:{port}")
    assert server.url == f"http://127.0.0.1:{port}"
    client = Path(os.environ["HOME"]) / ".config/peatkeep/client-config.json"
    auth = json.loads(client.read_text())["servers"]["peatkeep"]["auth"]
    _, user, password = auth.split(":")
    discovery = json.loads(server.get("/?camli.mode=config", user, password))
    assert discovery["blobRoot"] == "/bs-and-maybe-also-index/"
    assert server.stop() == 0
    assert password not in server.said
    for words in (
        str(data / "server.toml"),
        "cp ",
        "pk-put file --permanode",
        "pk-get -o",
        "pk list",
    ):
        assert words in server.said


def test_a_second_start_uses_what_the_first_made(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    port = free_port()
    words = ("up", f"--data={tmp_path}/data", f"--listen=127.0.0.1:{port}")
    assert start(*words).stop() == 0
    before = (tmp_path / "data/server.toml").read_bytes()
    again = start(*words[:2])
    assert again.url == f"http://127.0.0.1:{port}"
    assert again.stop(signal.SIGINT) == 0
    assert (tmp_path / "data/server.toml").read_bytes() == before
    assert "Next" not in again.said


def test_the_flag_beats_the_variable_and_both_beat_the_file(
    start: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_config(tmp_path / "c.json", free_port())
    by_variable, by_flag = free_port(), free_port()
    monkeypatch.setenv("PK_LISTEN", f"127.0.0.1:{by_variable}")
    assert start("--config", str(file)).url.endswith(f":{by_variable}")
    server = start("-configfile", str(file), f"-listen=127.0.0.1:{by_flag}")
    assert server.url.endswith(f":{by_flag}")


def test_a_configuration_of_perkeep_open_to_the_network_is_served_with_a_warning(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    folder = Path(os.environ["HOME"]) / ".config/perkeep"
    folder.mkdir(parents=True)
    port = free_port()
    write_config(folder / "server-config.json", 0, listen=f":{port}", auth="localhost")
    server = start()
    assert re.search(rf'warning: .*listen = ":{port}" is open to the network', server.said)
    assert server.stop() == 0
    assert not (folder.parent / "peatkeep").exists()


def test_packed_stores_are_recovered_once_when_asked_for(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    changes = {"memoryStorage": False, "blobPath": str(tmp_path / "b"), "packRelated": True}
    file = write_config(tmp_path / "c.json", free_port(), auth="none", **changes)
    server = start("-recovery", "1", "--config", str(file))
    assert server.said.count("recovering /bs/") == 1
    server.process.send_signal(signal.SIGHUP)
    server.wait_until_ready()
    assert server.said.count("recovering /bs/") == 1
    restart = urllib.request.Request(server.url + "/status/restart", b"recovery=2")
    with pytest.raises(urllib.error.HTTPError):  # the server it leads to is not there yet
        urllib.request.build_opener(NoRedirect).open(restart, timeout=GUARD_S)
    server.wait_until_ready()
    assert server.said.count("recovering /bs/") == 2
    assert server.stop() == 0


def test_https_without_files_is_served_with_a_certificate_of_its_own(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    port = free_port()
    file = write_config(tmp_path / "c.json", port, https=True, auth="none")
    server = start("--config", str(file))
    assert server.url == f"https://127.0.0.1:{port}"
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=GUARD_S) as plain,
        context.wrap_socket(plain) as connection,
    ):
        seen = connection.getpeercert(binary_form=True)
        connection.sendall(b"GET /?camli.mode=config HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    assert seen is not None
    fingerprint = hashlib.sha256(seen).hexdigest()[:20]
    assert f'"trustedCerts": ["{fingerprint}"]' in server.said


def test_help_is_shown_without_importing_the_server() -> None:
    code = (
        "import sys; from peatkeep.cli import common, peatkeepd;"
        "common.run(peatkeepd.peatkeepd, common.PEATKEEPD, ['--help']);"
        "heavy = {'starlette', 'uvicorn', 'cryptography', 'numpy', 'rich', 'logging'};"
        "sys.exit(repr(heavy & sys.modules.keys()) if heavy & sys.modules.keys() else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
