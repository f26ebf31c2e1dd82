"""Run our programs in this process, as a shell would, and keep what they say."""

import io
import os
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from peatkeep.cli.common import PEATKEEPD, PK, PK_GET, PK_PUT, run


@dataclass
class Ran:
    """How a run ended."""

    exit_code: int
    stdout: bytes
    stderr: str

    @property
    def lines(self) -> list[str]:
        return self.stdout.decode().splitlines()


def run_program(
    argv: Sequence[str], environ: Mapping[str, str], folder: Path, stdin: str = ""
) -> Ran:
    """Run a program, named as Perkeep names it, with exactly these variables, in this folder."""
    from peatkeep.cli.get import pk_get
    from peatkeep.cli.peatkeepd import peatkeepd
    from peatkeep.cli.pk import pk
    from peatkeep.cli.put import pk_put

    program, codes = {
        "pk-put": (pk_put, PK_PUT),
        "pk-get": (pk_get, PK_GET),
        "pk": (pk, PK),
        "perkeepd": (peatkeepd, PEATKEEPD),
    }[argv[0]]
    out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    before = Path.cwd()
    os.chdir(folder)
    try:
        with (
            mock.patch.dict(os.environ, environ, clear=True),
            mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()))),
            mock.patch.object(sys, "stdout", out),
            mock.patch.object(sys, "stderr", err),
        ):
            exit_code = run(program, codes, list(argv[1:]))
            out.flush()
            err.flush()
    finally:
        os.chdir(before)
    return Ran(exit_code, out.buffer.getvalue(), err.buffer.getvalue().decode())  # type: ignore[attr-defined]


def make_files(folder: Path, files: Mapping[str, object], mtime_s: int) -> None:
    """The files that a vector file describes; all with this mtime."""
    big = random.Random(7)
    data = bytes(big.getrandbits(8) for _ in range(400_000))
    for name, contents in files.items():
        path = folder / name
        if not isinstance(contents, dict):
            if name == "bigcopy.bin":
                path.write_bytes(data)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if "symlink" in contents:
            path.symlink_to(contents["symlink"])
        elif "python" in contents:
            path.write_bytes(data)
        else:
            path.write_text(contents["text"])
    for path in folder.rglob("*"):
        os.utime(path, (mtime_s, mtime_s), follow_symlinks=False)


REF = re.compile(r"(sha1|sha224|sha256)-[0-9a-f]{40,64}")


def shape(text: str) -> str:
    """A text with every ref, port and time in it made equal."""
    text = re.sub(r"sha224_[0-9a-f]{56}|(?<=label=.)[0-9a-f]{7}", "REF", text)
    return re.sub(r"127\.0\.0\.1:\d+|\{\{HOST\}\}", "HOST", REF.sub("REF", text))
