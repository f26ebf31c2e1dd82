"""A home of its own with our programs in it, run as a user would run them."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.waiting import free_port

BIN = Path(sys.executable).parent
READY = re.compile(rb"available at (https?://\S+)")
READY_WAIT_S = 120.0
STOP_WAIT_S = 60.0
PEAK_POLL_S = 0.02


class Finished(NamedTuple):
    """What a program did. Peak memory is VmHWM summed over it and its children."""

    exit_code: int
    out: str
    err: str
    elapsed_s: float
    peak_bytes: int

    @property
    def last_word(self) -> str:
        """The last line of the output: of `pk-put`, the ref of what was put."""
        return self.out.split()[-1]


class Failed(AssertionError):
    """A program that should have succeeded did not."""


class PeakMemory:
    """Watches a process and its descendants; VmHWM only grows, so polling loses little."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peaks: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(PEAK_POLL_S):
            self.poll()

    def poll(self) -> int:
        """The sum of the peaks seen so far, in bytes."""
        pending = [self._pid]
        while pending:
            pid = pending.pop()
            try:
                status = Path(f"/proc/{pid}/status").read_text()
                tasks = Path(f"/proc/{pid}/task").iterdir()
                pending += [
                    int(p) for task in tasks for p in (task / "children").read_text().split()
                ]
            except (OSError, ValueError):
                continue  # it has ended meanwhile
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            if found:
                self._peaks[pid] = max(self._peaks.get(pid, 0), int(found[1]) * 1024)
        return sum(list(self._peaks.values()))

    def stop(self) -> int:
        self._ended.set()
        self._thread.join()
        return self.poll()


class Server:
    """A running peatkeepd."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.peak = PeakMemory(process.pid)
        self.url = self._wait_until_ready()

    def _wait_until_ready(self) -> str:
        deadline = time.monotonic() + READY_WAIT_S
        while time.monotonic() < deadline:
            found = READY.search(self.log.read_bytes())
            if found:
                return found[1].decode()
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        self.kill()
        raise Failed(f"peatkeepd did not get ready:\n{self.log.read_text()}")

    def kill(self) -> None:
        """End it as a power button would: nothing is said, nothing is cleaned up."""
        self.process.kill()
        self.process.wait()
        self.peak.stop()

    def stop(self) -> int:
        """Ask it to end, and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_WAIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failed(f"peatkeepd did not stop:\n{self.log.read_text()}") from None
        finally:
            self.peak.stop()


class Machine:
    """A folder that is the home of somebody who uses our programs.

    server_command: starts the server; another than ours plants a bug.
    """

    def __init__(self, folder: Path, server_command: list[str] | None = None) -> None:
        self.home = folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.listen = f"127.0.0.1:{free_port()}"
        self._server_command = server_command or [str(BIN / "peatkeepd")]
        self._logs = 0

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("LANG", "TMPDIR", "TZ") if name in os.environ}
        path = f"{BIN}:{os.environ.get('PATH', '/usr/bin:/bin')}"
        return kept | {"HOME": str(self.home), "PATH": path, "PK_LISTEN": self.listen}

    def start_server(self, *words: str) -> Server:
        self._logs += 1
        log = self.home / f"peatkeepd-{self._logs}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*self._server_command, *words],
                env=self.environ,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        return Server(process, log)

    @contextmanager
    def serving(self, *words: str) -> Iterator[Server]:
        server = self.start_server(*words)
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.stop()

    def start(
        self, program: str, *words: str | Path, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program of ours in the background, its output thrown away."""
        return subprocess.Popen(
            [str(BIN / program), *map(str, words)],
            env=self.environ | dict(environ or {}),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def attempt(
        self, program: str, *words: str | Path, environ: Mapping[str, str] | None = None
    ) -> Finished:
        """Run a program of ours to its end, however it ends."""
        began = time.monotonic()
        process = subprocess.Popen(
            [str(BIN / program), *map(str, words)],
            env=self.environ | dict(environ or {}),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        peak = PeakMemory(process.pid)
        out, err = process.communicate()
        elapsed_s = time.monotonic() - began
        decoded = [os.fsdecode(text) for text in (out, err)]
        return Finished(process.returncode, *decoded, elapsed_s, peak.stop())

    def run(
        self, program: str, *words: str | Path, environ: Mapping[str, str] | None = None
    ) -> Finished:
        """Run a program of ours. Raises Failed unless it exits with 0."""
        finished = self.attempt(program, *words, environ=environ)
        if finished.exit_code != 0:
            line = " ".join(map(str, [program, *words]))
            raise Failed(f"{line} exits {finished.exit_code}:\n{finished.out}{finished.err}")
        return finished
