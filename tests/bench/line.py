"""Measure a long line: `./pk bench line [--bytes N] [--rate BYTES_S] [--round-trip S]`.

A proxy of ours (tests/proxy.py) is the line. Put and get of one file as a share of what it can
carry, an interactive read while it is full, and how much still comes after "stop send".
"""

import argparse
import json
import random
import shutil
import statistics
import tempfile
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from peatkeep.blob import Ref
from peatkeep.blobserver.remote import FREE_LINE, Remote
from peatkeep.clients.client import Client
from peatkeep.clients.config import ClientConfig, ServerEntry
from tests.e2e.machine import Machine
from tests.proxy import Line, line_to

MEGABYTE: Final = 1_000_000
SHARE_TARGET: Final = 0.85
READ_TARGET_S: Final = 0.3
READS: Final = 10
QUIET_S: Final = 0.5
"""What has not come by then does not come any more."""


class Figures(NamedTuple):
    """put_share, get_share: of the rate. read_s: median of the interactive reads. late_bytes:
    what came after "stop send"."""

    put_share: float
    get_share: float
    read_s: float
    late_bytes: int


def measure(folder: Path, size_bytes: int, rate: float, round_trip_s: float) -> Figures:
    """rate: bytes a second, 0 for plain loopback, where shares are 0."""
    path, machine = folder / "data", Machine(folder)
    dice = random.Random(1)
    with path.open("wb") as file:
        for _ in range(max(1, size_bytes // MEGABYTE)):
            file.write(dice.randbytes(MEGABYTE))
    with (
        machine.serving() as server,
        line_to(server.url, delay_s=round_trip_s / 2, rate=rate) as line,
    ):
        with client_of(machine, line.url) as client:
            began = time.monotonic()
            ref = client.put(bytes(path))
            put_s = time.monotonic() - began
        with client_of(machine, line.url) as client:
            began = time.monotonic()
            client.restore(ref, bytes(folder / "out"))
            get_s = time.monotonic() - began
        with client_of(machine, line.url) as client:
            read_s = interactive(client.storage, ref)
        with client_of(machine, line.url) as client:
            late_bytes = after_stop(client.storage, ref, line)
    least_s = path.stat().st_size / rate if rate else 0.0
    return Figures(least_s / put_s, least_s / get_s, read_s, late_bytes)


def client_of(machine: Machine, url: str) -> Client:
    """A client that remembers nothing."""
    config = next(machine.home.rglob("client-config.json"))
    (entry,) = json.loads(config.read_text())["servers"].values()
    return Client(ServerEntry(url, entry["auth"]), ClientConfig(), line=FREE_LINE)


def interactive(storage: Remote, ref: Ref) -> float:
    """The median time of single reads, one after the other, while a file is fetched."""
    stream = storage.open_stream()
    assert stream is not None
    waits_s = []
    with closing(stream.read_file(ref)) as bulk:
        for _ in range(READS):
            for _ in islice(bulk, 20):  # the line stays full
                pass
            began = time.monotonic()
            stream.fetch(ref)
            waits_s.append(time.monotonic() - began)
    return statistics.median(waits_s)


def after_stop(storage: Remote, ref: Ref, line: Line) -> int:
    """Bytes that still come down the line after a fetch at full speed was given up."""
    stream = storage.open_stream()
    assert stream is not None
    with closing(stream.read_file(ref)) as bulk:
        for _ in islice(bulk, 300):
            pass
        before = line.down_bytes
    time.sleep(QUIET_S)
    return line.down_bytes - before


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pk bench line", description=__doc__)
    parser.add_argument("--bytes", type=int, default=200 * MEGABYTE)
    parser.add_argument("--rate", type=float, default=20.0 * MEGABYTE)
    parser.add_argument("--round-trip", type=float, default=0.1)
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/peatkeep-bench"))
    options = parser.parse_args(words)
    options.folder.mkdir(parents=True, exist_ok=True)
    late_target = int(options.rate * options.round_trip) + MEGABYTE
    rows = []
    for name, rate, round_trip_s in (
        (f"{options.rate / MEGABYTE:g} MB/s", options.rate, options.round_trip),
        ("loopback", 0.0, 0.0),
    ):
        folder = Path(tempfile.mkdtemp(dir=options.folder))
        try:
            found = measure(folder, options.bytes, rate, round_trip_s)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if rate:
            rows.append((name, "put", f"{found.put_share:.0%}", f">= {SHARE_TARGET:.0%}"))
            rows.append((name, "get", f"{found.get_share:.0%}", f">= {SHARE_TARGET:.0%}"))
            rows.append((name, "read", f"{found.read_s:.3f} s", f"< {READ_TARGET_S} s"))
        limit = late_target if rate else MEGABYTE
        late = f"{found.late_bytes / MEGABYTE:.2f} MB"
        rows.append((name, "after stop", late, f"<= {limit / MEGABYTE:.2f} MB"))
    for row in (("line", "work", "measured", "target"), ("-" * 10,) * 4, *rows):
        print("| " + " | ".join(cell.ljust(10) for cell in row) + " |")
    return 0
