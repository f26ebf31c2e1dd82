"""Measure the stores themselves: `./pk bench storage [STORE …] [--share N] [--folder DIR]`.

Durable receives in groups, random reads, listings, stats and the stream that reindexing reads, for
localdisk, diskpacked and blobpacked (whose blobs are packed before they are read; its loose ones in
packs, and in files). Then `encrypt` and `s3`, each beside what carries it alone. Wall time and
processor time stand side by side: on a shared machine the second is what can be compared.
"""

import argparse
import gc
import json
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

from peatkeep.blob import Ref
from peatkeep.blobserver.blobpacked import BlobPacked
from peatkeep.blobserver.diskpacked import DiskPacked
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.receive import receive_many
from peatkeep.blobserver.storage import Storage
from peatkeep.cli.common import COLLECTED_AT
from peatkeep.sorted.leveldb import LevelDBKeyValue
from tests.bench.encrypt import encrypt
from tests.bench.objects import against_ceph

MEGABYTE: Final = 1_000_000
LARGE_BYTES: Final = 65_536
SMALL_BYTES: Final = 1_024
GROUP: Final = {LARGE_BYTES: 256, SMALL_BYTES: 1_000}
"""Blobs made durable together: 16 MiB of large ones; of small ones what a client sends at once."""

LARGE_COUNT: Final = 8_192
SMALL_COUNT: Final = 100_000
LISTED_COUNT: Final = 1_000_000
READ_COUNT: Final = 20_000
STAT_COUNT: Final = 200_000


class Line(NamedTuple):
    """One line of the table. Amounts are bytes where `unit` is MB/s, else blobs."""

    store: str
    work: str
    unit: str
    amount: int
    wall_s: float
    cpu_s: float
    target: float  # 0: none

    def rate(self, seconds: float) -> float:
        scale = MEGABYTE if self.unit == "MB/s" else 1
        return self.amount / scale / max(seconds, 1e-9)


class Clock:
    """Wall time, and processor time of the whole process, over one piece of work."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), processor_s()

    def stop(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall_s, processor_s() - self._cpu_s


def processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def blobs(size: int, count: int, seed: int) -> Iterator[tuple[Ref, bytes]]:
    """Random blobs, the same for the same seed."""
    source = random.Random(seed)
    for _ in range(count):
        data = source.randbytes(size)
        yield Ref.of(data), data


@contextmanager
def open_localdisk(folder: Path) -> Iterator[Storage]:
    with LocalDisk(folder) as store:
        yield store


@contextmanager
def open_diskpacked(folder: Path) -> Iterator[Storage]:
    with DiskPacked(folder, LevelDBKeyValue(folder / "index.leveldb")) as store:
        yield store


@contextmanager
def open_blobpacked(folder: Path) -> Iterator[Storage]:
    """As `packRelated` with `packLoose` puts it together: what a first start makes."""
    with open_diskpacked(folder) as small, zips_over(small, folder) as store:
        yield store


@contextmanager
def open_blobpacked_over_files(folder: Path) -> Iterator[Storage]:
    """As `packRelated` alone puts it together, for Perkeep too."""
    with LocalDisk(folder) as small, zips_over(small, folder) as store:
        yield store


@contextmanager
def zips_over(small: Storage, folder: Path) -> Iterator[Storage]:
    (folder / "packed").mkdir(exist_ok=True)
    rows = LevelDBKeyValue(folder / "packindex.leveldb")
    with LocalDisk(folder / "packed") as large, BlobPacked(small, large, rows) as store:
        yield store


STORES: Final = {
    "localdisk": open_localdisk,
    "diskpacked": open_diskpacked,
    "blobpacked": open_blobpacked,
    "blobpacked-files": open_blobpacked_over_files,
}

BESIDE: Final[dict[str, Callable[[Path], Iterable[object]]]] = {
    "encrypt": encrypt,
    "s3": lambda _: against_ceph(),
}
"""Stores that are measured beside what they are made of: lines to print."""

TARGETS: Final = {
    ("diskpacked", "receive 64 KiB"): 200.0,
    ("blobpacked", "receive 64 KiB"): 200.0,
    ("diskpacked", "receive 1 KiB"): 20_000.0,
    ("diskpacked", "read 1 KiB, random"): 20_000.0,
    ("diskpacked", "list"): 500_000.0,
    ("diskpacked", "stat"): 80_000.0,
    ("diskpacked", "stream 64 KiB"): 400.0,
    ("blobpacked", "read 1 KiB, random"): 20_000.0,
    ("blobpacked", "list"): 500_000.0,
    ("blobpacked", "stat"): 80_000.0,
    ("blobpacked", "stream 64 KiB"): 400.0,
}
"""Of issue 4; ours where it names no store."""


def pack(store: Storage, group: list[tuple[Ref, bytes]]) -> None:
    """Let blobpacked move these blobs into zips, as the content of one file."""
    if not isinstance(store, BlobPacked):
        return
    parts = [{"blobRef": ref, "size": len(data)} for ref, data in group]
    schema = {"camliVersion": 1, "camliType": "file", "fileName": "bench", "parts": parts}
    text = json.dumps(schema).encode()
    receive_many(store, [(Ref.of(text), text)])
    store.settle()


class Bench:
    """Measures one kind of store in a folder."""

    def __init__(self, name: str, folder: Path, share: float) -> None:
        """share: of the full numbers of blobs."""
        self.name = name
        self.lines: list[Line] = []
        self._folder = folder
        self._share = share

    def run(self) -> list[Line]:
        self._large()
        self._small()
        self._many()
        return self.lines

    def _large(self) -> None:
        with self._opened("large") as store:
            self._receive(store, LARGE_BYTES, self._count(LARGE_COUNT), "MB/s")
            clock = Clock()
            amount = sum(len(blob.data) for blob in store.stream())
            self._line("stream 64 KiB", "MB/s", amount, clock)

    def _small(self) -> None:
        with self._opened("small") as store:
            refs = self._receive(store, SMALL_BYTES, self._count(SMALL_COUNT), "blobs/s")
            wanted = random.Random(1).sample(refs, min(READ_COUNT, len(refs)))
            clock = Clock()
            for ref in wanted:
                store.fetch(ref)
            self._line("read 1 KiB, random", "blobs/s", len(wanted), clock)
            clock = Clock()
            for _ in store.fetch_many(wanted):
                pass
            self._line("read 1 KiB, batch", "blobs/s", len(wanted), clock)

    def _many(self) -> None:
        """Listing and stat over a million blobs of a few bytes, of other stores a tenth."""
        size, count = (16, LISTED_COUNT) if self.name == "diskpacked" else (600, LISTED_COUNT // 10)
        with self._opened("many") as store:
            for group in groups(blobs(size, self._count(count), 3), GROUP[SMALL_BYTES]):
                receive_many(store, group)
                pack(store, group)
            clock = Clock()
            refs = [found.ref for found in store.enumerate()]
            self._line("list", "blobs/s", len(refs), clock)
            wanted = random.Random(2).sample(refs, min(STAT_COUNT, len(refs)))
            clock = Clock()
            found_count = sum(1 for _ in store.stat(wanted))
            self._line("stat", "blobs/s", found_count, clock)

    def _receive(self, store: Storage, size: int, count: int, unit: str) -> list[Ref]:
        refs: list[Ref] = []
        wall_s = cpu_s = 0.0
        for group in groups(blobs(size, count, size), GROUP[size]):
            refs += [ref for ref, _ in group]
            clock = Clock()  # making the bytes is not counted
            receive_many(store, group)
            more_wall_s, more_cpu_s = clock.stop()
            wall_s, cpu_s = wall_s + more_wall_s, cpu_s + more_cpu_s
            pack(store, group)
        amount = count * size if unit == "MB/s" else count
        self._add(f"receive {size // 1024} KiB", unit, amount, wall_s, cpu_s)
        return refs

    @contextmanager
    def _opened(self, place: str) -> Iterator[Storage]:
        folder = self._folder / f"{self.name}-{place}"
        folder.mkdir()
        with STORES[self.name](folder) as store:
            yield store

    def _line(self, work: str, unit: str, amount: int, clock: Clock) -> None:
        self._add(work, unit, amount, *clock.stop())

    def _add(self, work: str, unit: str, amount: int, wall_s: float, cpu_s: float) -> None:
        target = TARGETS.get((self.name, work), 0.0)
        self.lines.append(Line(self.name, work, unit, amount, wall_s, cpu_s, target))

    def _count(self, full: int) -> int:
        return max(100, int(full * self._share))


def groups(items: Iterable[tuple[Ref, bytes]], count: int) -> Iterator[list[tuple[Ref, bytes]]]:
    source = iter(items)
    while group := list(islice(source, count)):
        yield group


HEADS: Final = ["store", "work", "unit", "by wall time", "by CPU time", "target", "met"]


def table(lines: Iterable[Line]) -> str:
    """Lines as a Markdown table with aligned columns."""
    rows = [HEADS, *(row(line) for line in lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in rows
    )


def row(line: Line) -> list[str]:
    wall, cpu = line.rate(line.wall_s), line.rate(line.cpu_s)
    target = f"{line.target:,.0f}" if line.target else ""
    met = "yes" if wall >= line.target else "by CPU" if cpu >= line.target else "no"
    numbers = [f"{wall:,.0f}", f"{cpu:,.0f}"]
    return [line.store, line.work, line.unit, *numbers, target, met if line.target else ""]


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pk bench storage", description=__doc__)
    parser.add_argument("store", nargs="*", choices=[[], *STORES, *BESIDE])
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/peatkeep-bench"))
    parser.add_argument("--share", type=float, default=1.0, help="of the full numbers of blobs")
    options = parser.parse_args(words)
    gc.set_threshold(COLLECTED_AT)  # as our programs do
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    wanted = options.store or [*STORES, *BESIDE]
    try:
        lines = [
            line
            for name in STORES
            if name in wanted
            for line in Bench(name, folder, options.share).run()
        ]
        if lines:
            print(table(lines))
        for name in BESIDE:
            if name in wanted:
                (folder / name).mkdir()
                print(*BESIDE[name](folder / name), sep="\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0
