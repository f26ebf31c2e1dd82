"""What the real servers of these tests have in common."""

import ctypes
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.waiting import GUARD_S


def begin(command: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a program in its folder; what it says goes to a file there.

    The kernel ends it when the thread that started it ends, however that happens.
    """
    with (folder / f"{Path(command[0]).name}.out").open("ab") as out:
        return subprocess.Popen(
            command, stdout=out, stderr=out, cwd=folder, preexec_fn=_end_with_parent
        )


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() == 1:
        os._exit(1)


def end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in reversed(processes):
        process.kill()
    for process in processes:
        process.wait(GUARD_S)


def wait_for(url: str, process: subprocess.Popen[bytes], said: Callable[[], str]) -> None:
    """Wait until the URL answers, whatever it answers."""
    give_up = time.monotonic() + 2 * GUARD_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=GUARD_S).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"{url} does not answer: {said()}") from None
            time.sleep(0.1)


def ask(url: str, method: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, method=method, headers=headers, data=body)
    try:
        with urllib.request.urlopen(request, timeout=GUARD_S) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{method} {url}: {error.code} {error.read()!r}") from None
