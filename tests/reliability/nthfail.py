"""The n-th system call of a kind fails, once or from then on; or writes take a few bytes only.

    nthfail.py STORE SEED SECONDS POINTS FOLDER

A worker opens the store and is then traced by strace, which lets its calls fail while it stores,
removes and reads. A failed call may make an operation fail, with an error of ours, and no more:
what was acknowledged is served, and when calls work again so does the store, in the same process.
One exception is meant: after a failed sync, or what can't be told from one, it is ReadOnly until it
is opened again, and says so. Whatever else fails must not end writing. The planted bug is localdisk
that takes failed writes and renames for done.
"""

import json
import math
import mmap
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from peatkeep.blob import Ref
from peatkeep.blobserver import filesystem
from peatkeep.blobserver.diskpacked import files as pack_files
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import ReadOnly, StoreError
from tests.reliability.disks import apart
from tests.reliability.stores import Blobs, file_batch, lost, opened, small_batch
from tests.reliability.verdict import Verdict
from tests.waiting import GUARD_S

OPENS, WRITES = "openat,open", "write,pwrite64,writev"
SYNCS, NAMES = "fsync,fdatasync,syncfs", "rename,renameat,renameat2"
UNLINKS, FOLDERS, LENGTHS = "unlink,unlinkat", "mkdir,mkdirat", "ftruncate,fallocate"
CALLS = {
    OPENS: ("ENOSPC", "EIO", "EMFILE", "EINTR"),
    WRITES: ("ENOSPC", "EIO", "EINTR"),
    SYNCS: ("ENOSPC", "EIO"),
    NAMES: ("ENOSPC", "EIO"),
    UNLINKS: ("EIO",),
    FOLDERS: ("ENOSPC", "EIO"),
    LENGTHS: ("EIO",),
}
DEEPEST = {OPENS: 30, WRITES: 25, SYNCS: 8, NAMES: 12, UNLINKS: 6, FOLDERS: 20, LENGTHS: 3}
"""How far the count goes: about as many calls as a worker makes."""

SHORT_EVERY = 10
"""One point in so many is about short writes."""

PLANTED = "swallows-errors"
PLANTED_POINTS = 25
MOST_PROBLEMS = 20
ANSWER_BYTES = 1 << 16


class Point(NamedTuple):
    """calls: names for strace; "" for short writes of `number` bytes at most."""

    calls: str
    error: str
    number: int
    is_sticky: bool

    @property
    def injection(self) -> str:
        return f"{self.calls}:error={self.error}:when={self.number}{'+' * self.is_sticky}"

    def may_end_writing(self, reason: str) -> bool:
        """Whether a store may take nothing more before it is opened again, as it says.

        LevelDB does not tell whether a write of its log failed or the sync.
        """
        is_log = self.calls == WRITES and self.error == "EIO" and ".log: " in reason
        return (self.calls == SYNCS or is_log) and "restart to write again" in reason


def some_point(dice: random.Random) -> Point:
    if dice.randrange(SHORT_EVERY) == 0:
        return Point("", "", dice.choice([1, 7, 1000, 4096]), True)
    calls = dice.choice(list(CALLS))
    error = dice.choice(CALLS[calls])
    number = dice.randint(1, DEEPEST[calls])
    # EINTR means "again": for ever would mean never.
    return Point(calls, error, number, error != "EINTR" and dice.random() < 0.5)


class Answer(NamedTuple):
    """What the worker says. failed: how many operations failed while calls did."""

    failed: int
    problems: list[str]


def write_short(most: int) -> None:
    """Let our own writes take at most so many bytes."""
    write, write_at = os.write, os.pwrite

    def short_write(descriptor: int, data: bytes | memoryview) -> int:
        return write(descriptor, data[:most])

    def short_write_at(descriptor: int, data: bytes | memoryview, offset: int) -> int:
        return write_at(descriptor, data[:most], offset)

    filesystem.os.write = short_write  # type: ignore[attr-defined]
    pack_files.os.pwrite = short_write_at  # type: ignore[attr-defined]


class Worker:
    """Stores, removes and reads; knows what was acknowledged and what may be either way."""

    def __init__(self, storage: Storage, dice: random.Random) -> None:
        self._storage = storage
        self._dice = dice
        self.there: Blobs = {}
        self.unsure: Blobs = {}
        self.failed = 0
        self.is_read_only = False
        self.problems: list[str] = []

    def work(self, steps: int) -> None:
        for step in range(steps):
            batch = file_batch(self._dice) if step == 2 else small_batch(self._dice)
            try:
                self._storage.receive_many(batch.items())
                self.there.update(batch)
            except StoreError as error:
                self._note(error, batch)
            gone = dict(self._dice.sample(sorted(batch.items()), 1))
            try:
                self._storage.remove(gone)
                for ref in gone:
                    self.there.pop(ref, None)
                    self.unsure.pop(ref, None)
            except StoreError as error:
                self._note(error, gone)
                for ref in gone:
                    self.there.pop(ref, None)

    def _note(self, error: StoreError, unsure: Blobs) -> None:
        self.failed += 1
        self.is_read_only = self.is_read_only or isinstance(error, ReadOnly)
        self.unsure.update(unsure)

    def check(self) -> list[str]:
        """With calls that work: what is not as promised."""
        found = lost(self._storage, self.there)
        for ref, data in self._storage.fetch_many(self.unsure):
            if not isinstance(data, Exception) and data != self.unsure[ref]:
                found.append(f"{ref} came back changed")
        return found

    def works_again(self, after: Point) -> list[str]:
        """What is not as promised of a store whose calls work again."""
        batch = small_batch(self._dice)
        try:
            self._storage.receive_many(batch.items())
        except StoreError as error:
            if isinstance(error, ReadOnly) and after.may_end_writing(error.reason):
                return []
            return [f"does not work again: {error!r}"]
        self.there.update(batch)
        return lost(self._storage, batch)


def be_worker(
    store_name: str, folder: Path, point: Point, seed: int, line: socket.socket, out: mmap.mmap
) -> None:
    """Tell by system calls that never fail here: the socket's, and memory."""
    worker = None
    problems: list[str] = []
    try:
        with opened(store_name, folder) as storage:
            if not point.calls:
                write_short(point.number)
            worker = Worker(storage, random.Random(seed))
            line.send(b"r")
            line.recv(1)
            worker.work(4)
            line.send(b"d")
            line.recv(1)
            problems += worker.check()
            problems += worker.works_again(point)
            problems += worker.check()
    except BaseException as error:
        problems.append(f"{type(error).__name__}: {error}")
        for _ in range(2):
            line.send(b"x")
    kept = [*worker.there] if worker else []
    answer = {"problems": problems[:5], "failed": worker.failed if worker else 0, "kept": kept}
    out.seek(0)
    out.write(json.dumps(answer).encode()[:ANSWER_BYTES])


def trace(process_id: int, point: Point) -> subprocess.Popen[bytes]:
    calls = point.calls
    command = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={calls}"]
    command += ["-e", f"inject={point.injection}", "-p", str(process_id)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    said = tracer.stderr.readline()
    if b"attached" not in said:
        raise RuntimeError(f"strace: {said.decode()}{tracer.stderr.read().decode()}")
    return tracer


def try_point(store_name: str, folder: Path, point: Point, seed: int) -> Answer:
    ours, theirs = socket.socketpair()
    ours.settimeout(2 * GUARD_S)
    out = mmap.mmap(-1, ANSWER_BYTES)
    process_id = os.fork()
    if process_id == 0:
        try:
            be_worker(store_name, folder, point, seed, theirs, out)
        finally:
            os._exit(0)
    try:
        ours.recv(1)
        tracer = trace(process_id, point) if point.calls else None
        ours.send(b"g")
        ours.recv(1)
        if tracer is not None:
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
        ours.send(b"g")
        os.waitpid(process_id, 0)
    except (TimeoutError, OSError) as error:
        os.kill(process_id, signal.SIGKILL)
        os.waitpid(process_id, 0)
        return Answer(0, [f"the worker hangs: {error}"])
    finally:
        ours.close()
        theirs.close()
    told = json.loads(bytes(out).rstrip(b"\0") or b'{"failed": 0, "problems": ["it died"]}')
    out.close()
    problems = list(told["problems"])
    try:
        with opened(store_name, folder) as storage:
            for ref, data in storage.fetch_many(map(Ref, told.get("kept", []))):
                if isinstance(data, Exception):
                    problems.append(f"{ref} is lost after reopening: {data}")
            batch = small_batch(random.Random(seed + 1))
            storage.receive_many(batch.items())
            problems += lost(storage, batch)
    except StoreError as error:
        problems.append(f"after reopening: {error}")
    return Answer(told["failed"], problems)


def campaign(
    store_name: str, seed: int, seconds: float, most: int, folder: Path
) -> dict[str, object]:
    dice = random.Random(seed)
    began = time.monotonic()
    count = bad = failed = 0
    problems: list[str] = []
    while count < most and (not count or time.monotonic() - began < seconds):
        point = some_point(dice)
        place = Path(tempfile.mkdtemp(dir=folder))
        answer = try_point(store_name, place, point, seed + count)
        count += 1
        bad += bool(answer.problems)
        failed += answer.failed > 0
        if answer.problems and len(problems) < MOST_PROBLEMS:
            problems.append(
                f"{store_name}, seed {seed + count - 1}, {point}: {answer.problems[:3]}"
            )
        shutil.rmtree(place)
    return {"n": count, "bad": bad, "problems": problems, "failed": failed}


def run(folder: Path, seed: int, store_name: str, seconds: float, most: int = 10**9) -> Verdict:
    """Let calls fail in a store for so many seconds, or points; and in one with the planted bug."""
    shared = Path("/dev/shm") if os.path.isdir("/dev/shm") else folder
    with tempfile.TemporaryDirectory(prefix="peatkeep-nthfail-", dir=shared) as place:
        ours = apart("nthfail", store_name, seed, seconds, most, place)
        planted = apart("nthfail", PLANTED, seed, math.inf, PLANTED_POINTS, place)
    notes = f"told={ours['failed']} planted={planted['bad']}/{planted['n']}"
    found = tuple(ours["problems"])
    return Verdict(
        f"nthfail {store_name}", ours["n"], ours["bad"], planted["bad"] > 0, notes, found
    )


if __name__ == "__main__":
    name, seed, seconds, most, place = sys.argv[1:]
    print(json.dumps(campaign(name, int(seed), float(seconds), int(most), Path(place))))
