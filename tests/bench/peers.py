"""What is measured: our programs, restic and borg, each in a fresh place with its defaults."""

import os
import shutil
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.e2e.machine import Machine, PeakMemory


class Measured(NamedTuple):
    """One piece of work. Peak memory is VmHWM summed over all processes that took part."""

    elapsed_s: float
    peak_bytes: int


class Peer(ABC):
    """A backup program with a store below `folder`, which is empty."""

    name: str

    @abstractmethod
    def __init__(self, folder: Path) -> None: ...

    @abstractmethod
    def put(self, path: Path) -> Measured:
        """Store a file or tree; durable when this returns."""

    @abstractmethod
    def get(self, out: Path) -> Measured:
        """Bring what was put last back below `out`, an empty folder."""

    def close(self) -> None:  # noqa: B027 - most have nothing running
        """End what runs."""


def measure(words: list[str], environ: Mapping[str, str], folder: Path) -> Measured:
    began = time.monotonic()
    process = subprocess.Popen(
        words, env={**os.environ, **environ}, cwd=folder, stdout=subprocess.DEVNULL
    )
    peak = PeakMemory(process.pid)
    exit_code = process.wait()
    elapsed_s = time.monotonic() - began
    if exit_code != 0:
        raise RuntimeError(f"{' '.join(words)} exits {exit_code}")
    return Measured(elapsed_s, peak.stop())


class Peatkeep(Peer):
    """Client and server on loopback, as after a first start."""

    name = "peatkeep"
    storage = ""  # the kind of store; empty: the default of a first start
    stream = True  # whether the clients may use the stream; else requests alone

    def __init__(self, folder: Path) -> None:
        self.machine = Machine(folder)
        flags = [f"--storage={self.storage}"] if self.storage else []
        self.server = self.machine.start_server(*flags)
        self.ref = ""

    def put(self, path: Path) -> Measured:
        done = self.machine.run("pk-put", "file", path, environ=self._line)
        self.ref = done.last_word
        return Measured(done.elapsed_s, done.peak_bytes + self.server.peak.poll())

    def get(self, out: Path) -> Measured:
        # A get on another machine: what putting cached there is not here.
        cache = self.machine.home.parent / "fresh cache"
        environ = {"PK_CACHE_DIR": str(cache), **self._line}
        done = self.machine.run("pk-get", "-o", out, self.ref, environ=environ)
        shutil.rmtree(cache, ignore_errors=True)
        return Measured(done.elapsed_s, done.peak_bytes + self.server.peak.poll())

    def close(self) -> None:
        self.server.stop()

    @property
    def _line(self) -> dict[str, str]:
        return {} if self.stream else {"PK_STREAM": "0"}


class Restic(Peer):
    """A local repository, no server."""

    name = "restic"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environ = {
            "RESTIC_REPOSITORY": str(folder / "repository"),
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(folder / "cache"),
        }
        measure(["restic", "-q", "init"], self.environ, folder)

    def put(self, path: Path) -> Measured:
        return measure(["restic", "-q", "backup", str(path)], self.environ, self.folder)

    def get(self, out: Path) -> Measured:
        words = ["restic", "-q", "restore", "latest", "--target", str(out)]
        return measure(words, self.environ, self.folder)


class Borg(Peer):
    """A local repository, no server, not encrypted."""

    name = "borg"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.environ = {
            "BORG_REPO": str(folder / "repository"),
            "BORG_BASE_DIR": str(folder),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        }
        measure(["borg", "init", "--encryption", "none"], self.environ, folder)

    def put(self, path: Path) -> Measured:
        self.count += 1
        words = ["borg", "create", f"::{self.count}", str(path)]
        return measure(words, self.environ, self.folder)

    def get(self, out: Path) -> Measured:
        out.mkdir(exist_ok=True)
        return measure(["borg", "extract", f"::{self.count}"], self.environ, out)


PEERS: list[type[Peer]] = [Peatkeep, Restic, Borg]
PACKAGES = {"restic": "restic", "borg": "borgbackup"}


def install_missing() -> None:
    """Install the Debian packages of the peers, saying so. Raises RuntimeError where impossible."""
    missing = [package for name, package in PACKAGES.items() if not shutil.which(name)]
    if not missing:
        return
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing]
    print(f"bench: installing Debian packages: {' '.join(missing)}", flush=True)
    elevate = [] if os.geteuid() == 0 else ["sudo"]
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for words in (install, ["apt-get", "update", "-q"], install):
        done = subprocess.run(
            [*elevate, *words], env=environ, capture_output=True, text=True, check=False
        )
        if words is install and done.returncode == 0:
            return
    raise RuntimeError(f"{' '.join(install)} failed: {done.stderr}")
