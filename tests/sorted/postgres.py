"""A real PostgreSQL for tests: one server for each run, a new empty database for each test.

It listens on a free port of 127.0.0.1 and keeps its files in a folder of its own, both gone
afterwards. It does not sync to disk: no test here cuts the power.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from peatkeep.server.config import tls
from tests.waiting import GUARD_S, free_port

USER = "keeper"
PASSWORD = "hunter2 with 'quotes' & %percents"

GROUP = pytest.mark.xdist_group("postgres")
"""Marks the tests that need the server, so that one worker has them all and starts one."""


class Postgres:
    """A server that may be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._programs = _find_programs()
        self._folder = folder
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self._give(folder)
        password_file = folder / "password"
        password_file.write_text(PASSWORD + "\n")
        password_file.chmod(0o644)
        subprocess.run(
            self._as_owner(
                "initdb", "--no-sync", "--pgdata", str(self._data), "--username", USER,
                "--pwfile", str(password_file), "--auth", "scram-sha-256",
                "--encoding", "UTF8", "--locale", "C.UTF-8",
            ),
            check=True, capture_output=True, cwd=folder, timeout=GUARD_S,
        )  # fmt: skip
        for name, pem in zip(("server.crt", "server.key"), tls.make(["localhost"]), strict=True):
            (self._data / name).write_bytes(pem)
            (self._data / name).chmod(0o600)
            self._give(self._data / name)

    def start(self) -> None:
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(
            self._as_owner(
                "postgres", "-D", str(self._data), "-p", str(self.port), "-h", "127.0.0.1",
                "-k", str(self._data), "-c", "fsync=off", "-c", "max_connections=60",
                "-c", "ssl=on",
            ),
            stdout=log, stderr=log, cwd=self._folder,
        )  # fmt: skip
        log.close()
        give_up = time.monotonic() + GUARD_S
        while subprocess.run(
            [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)],
            check=False,
        ).returncode:
            if self._process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop at once, as a crash would; whoever is connected is thrown out."""
        if self._process is not None:
            leader = (self._data / "postmaster.pid").read_text().split("\n", 1)[0]
            os.kill(int(leader), signal.SIGQUIT)
            self._process.wait(GUARD_S)
            self._process = None

    def new_database(self, options: str = "") -> "Database":
        """Make an empty database; options as CREATE DATABASE takes them."""
        name = f"test_{secrets.token_hex(4)}"
        self.sql("postgres", f"CREATE DATABASE {name} {options}")
        return Database(self, name)

    def sql(self, database: str, statements: str) -> list[str]:
        """Run statements by PostgreSQL's own client; the lines of what it printed."""
        run = subprocess.run(
            [
                self._programs / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1",
                "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database,
            ],
            input=statements, env={"PGPASSWORD": PASSWORD, "LC_ALL": "C.UTF-8"},
            check=False, capture_output=True, text=True, timeout=GUARD_S,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        return run.stdout.splitlines()

    def _give(self, path: Path) -> None:
        """Make it the user's as whom the server runs."""
        if os.geteuid() == 0:  # as which PostgreSQL refuses to run
            owner = pwd.getpwnam("postgres")
            os.chown(path, owner.pw_uid, owner.pw_gid)

    def _as_owner(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._programs / program), *arguments]
        return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else command


class Database(NamedTuple):
    """A database of a test."""

    server: Postgres
    name: str

    @property
    def args(self) -> dict[str, object]:
        """What a configuration says to open it."""
        return {
            "type": "postgres",
            "host": f"127.0.0.1:{self.server.port}",
            "user": USER,
            "password": PASSWORD,
            "database": self.name,
        }

    def sql(self, statements: str) -> list[str]:
        return self.server.sql(self.name, statements)


def _find_programs() -> Path:
    """Debian keeps the programs of the server out of PATH, a folder for each version."""
    installed = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name)
    )
    if installed:
        return installed[-1]
    found = shutil.which("initdb")
    if found is None:
        raise RuntimeError("these tests need PostgreSQL: apt-get install postgresql")
    return Path(found).parent


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    # Not below pytest's folders: those may be read by their owner only.
    folder = Path(tempfile.mkdtemp(prefix="peatkeep-postgres-"))
    try:
        server = Postgres(folder)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgres(postgres_server: Postgres) -> Database:
    """An empty database."""
    return postgres_server.new_database()
