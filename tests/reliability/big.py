"""One large file up and down: both ends stay below a bound of memory, whatever the file's size.

The planted bug is a program that reads the whole file into memory.
"""

import filecmp
import hashlib
import subprocess
import sys
from pathlib import Path

from tests.e2e.machine import Machine, PeakMemory
from tests.reliability.verdict import Verdict

BOUND_BYTES = 200_000_000
PIECE_BYTES = 1 << 20


def make_file(path: Path, size_bytes: int) -> None:
    """Bytes that neither repeat nor compress, the same every time."""
    state = hashlib.shake_128(b"big")
    with path.open("wb") as file:
        for begin in range(0, size_bytes, PIECE_BYTES):
            state.update(b"%d" % begin)
            file.write(state.digest(min(PIECE_BYTES, size_bytes - begin)))


def run(folder: Path, size_bytes: int, *, is_plain: bool = False) -> Verdict:
    """Over the stream to the usual store; is_plain: over plain HTTP to a file for each blob."""
    words = ("up", "--storage", "localdisk") if is_plain else ()
    environ = {"PK_STREAM": "0"} if is_plain else {}
    source, out = folder / "large", folder / "out"
    make_file(source, size_bytes)
    machine = Machine(folder / "machine")
    peaks: dict[str, int] = {}
    problems: list[str] = []
    with machine.serving(*words) as server:
        put = machine.run("pk-put", "file", source, environ=environ)
        got = machine.run("pk-get", "-o", out, put.last_word, environ=environ)
        peaks = {"put": put.peak_bytes, "get": got.peak_bytes, "server": server.peak.poll()}
    if not filecmp.cmp(source, out / source.name, shallow=False):
        problems.append("the file came back changed")
    for name, peak in peaks.items():
        if peak > BOUND_BYTES:
            problems.append(f"{name} took {peak / 1e6:.0f} MB")
    figures = " ".join(f"{name}={peak / 1e6:.0f}MB" for name, peak in peaks.items())
    caught = reads_it_whole(source) > BOUND_BYTES
    name = "big over plain HTTP" if is_plain else "big"
    return Verdict(name, 2, len(problems), caught, figures, tuple(problems))


def reads_it_whole(source: Path) -> int:
    """The peak memory of a program that holds the whole file, in bytes."""
    program = f"open({str(source)!r}, 'rb').read()"
    process = subprocess.Popen([sys.executable, "-c", program])
    peak = PeakMemory(process.pid)
    process.wait()
    return peak.stop()
