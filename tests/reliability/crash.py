"""Power cuts: a store writes to ext4 on a logged disk; each state that a cut can leave is opened.

    crash.py STORE SEED SECONDS STATES FOLDER     in a mount namespace of its own

A state is what was flushed before some moment of the log, and any part of what was written since:
all of it (a plain prefix), none, or a random choice of its blocks. In every state all blobs that
were acknowledged by then must be served, what is listed must be readable, what was removed must
not be back, and opening takes at most 5 s. The planted bug is localdisk that syncs no folder.
STORE `stream`: a server works on that disk, with all that it keeps, and is fed over the stream.
"""

import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from peatkeep.blob import Ref
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import StoreError
from tests.reliability.blockfile import Event, read_log
from tests.reliability.disks import ROOT, Loop, apart, mounted, unmount
from tests.reliability.stores import (
    SERVED,
    Blobs,
    file_batch,
    lost,
    opened,
    served,
    small_batch,
    unserved,
)
from tests.reliability.verdict import Verdict

DISK_BYTES = 24 << 20
BLOCK_BYTES = 4096
"""What a disk writes whole: ext4 relies on that for its blocks."""

WRITERS = 2
BATCHES = 20
"""Of each writer; every fifth is a file."""

OPENING_S = 5.0
SWEEP = 60
"""States made in one pass through the log."""

PLANTED = "forgets-folders"
PLANTED_STATES = 60
MOST_PROBLEMS = 20


class Story(NamedTuple):
    """What a writer was told, and when: positions are lengths of the log."""

    stored: list[tuple[int, Ref]]
    removed: list[tuple[int, int, Ref]]  # asked, acknowledged


class Writer:
    """Stores and removes, and notes how long the log was at each acknowledgement."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._lock = threading.Lock()
        self.story = Story([], [])
        self.blobs: Blobs = {}
        self.failures: list[str] = []

    def _now(self) -> int:
        return self._log.stat().st_size

    def work(self, storage: Storage, seed: int, *, removes: bool) -> None:
        """removes: whether it may; a server does not unless it is told to."""

        def write(number: int) -> None:
            dice = random.Random(f"{seed} {number}")
            try:
                for step in range(BATCHES):
                    batch = file_batch(dice) if step % 5 == 4 else small_batch(dice)
                    self.blobs.update(batch)
                    storage.receive_many(batch.items())
                    at = self._now()
                    self.story.stored.extend((at, ref) for ref in batch)
                    if removes and step % 3 == 2:
                        gone = dice.sample(sorted(batch), 1)
                        asked = self._now()
                        storage.remove(gone)
                        at = self._now()
                        self.story.removed.extend((asked, at, ref) for ref in gone)
            except StoreError as error:
                self.failures.append(f"without any fault: {error}")

        threads = [threading.Thread(target=write, args=[n]) for n in range(WRITERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def make_disk(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(DISK_BYTES)
    options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    command = ["mkfs.ext4", "-q", "-F", "-b", str(BLOCK_BYTES), "-m", "0", "-E", options, str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)


def write_on(disk: Path, log: Path, folder: Path, store_name: str, seed: int) -> Writer:
    """Let a store work on a copy of the disk, whose writes are logged."""
    (folder / "fuse").mkdir()
    (folder / "ext4").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.reliability.blockfile"]
    server = subprocess.Popen(
        [*command, disk, log, folder / "fuse"], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    if server.stdout.readline() != b"serving\n":
        raise RuntimeError("the logged disk could not be mounted")
    loop = Loop(folder / "fuse" / "disk")
    writer = Writer(log)
    with mounted(loop.device, folder / "ext4", "ext4"):
        if store_name == SERVED:
            with served(folder, folder / "ext4") as storage:
                writer.work(storage, seed, removes=False)
        else:
            with opened(store_name, folder / "ext4") as storage:
                writer.work(storage, seed, removes=True)
    loop.close()
    unmount(folder / "fuse")
    server.wait()
    server.stdout.close()
    return writer


class State(NamedTuple):
    """cut: how many events of the log had begun. kind: which of those not flushed are there."""

    cut: int
    kind: str
    luck: int


def states(events: Sequence[Event], dice: random.Random) -> Iterator[list[State]]:
    """Without end, in passes: moments of the log in ascending order."""
    kinds = ["prefix", "flushed", "some", "some", "most", "few"]
    while True:
        cuts = sorted(dice.randrange(1, len(events) + 1) for _ in range(SWEEP))
        yield [State(cut, dice.choice(kinds), dice.randrange(1 << 30)) for cut in cuts]


class Disk:
    """What is durable at a moment of the log, and what is on its way."""

    def __init__(self, path: Path, events: Sequence[Event]) -> None:
        self._durable = bytearray(path.read_bytes())
        self._events = events
        self._next = 0
        self._waiting: list[Event] = []

    def image(self, state: State) -> bytearray:
        """The content after the cut. States must come in the order of their cuts."""
        for event in self._events[self._next : state.cut]:
            if event.data is None:
                for waiting in self._waiting:
                    _put(self._durable, waiting)
                self._waiting = []
            else:
                self._waiting.append(event)
        self._next = state.cut
        image = bytearray(self._durable)
        share = {"prefix": 1.0, "flushed": 0.0, "some": 0.5, "most": 0.9, "few": 0.1}[state.kind]
        dice = random.Random(state.luck)
        for event in self._waiting:
            assert event.data is not None
            for begin in range(0, len(event.data), BLOCK_BYTES):
                if share == 1.0 or dice.random() < share:
                    piece = event.data[begin : begin + BLOCK_BYTES]
                    _put(image, Event(event.offset + begin, piece, 0))
        return image


def _put(image: bytearray, event: Event) -> None:
    assert event.data is not None
    image[event.offset : event.offset + len(event.data)] = event.data


class Replayer:
    """Makes states on one loop device, and looks at each."""

    def __init__(self, folder: Path, store_name: str, story: Story, blobs: Blobs) -> None:
        self._path = folder / "state"
        self._path.write_bytes(bytes(DISK_BYTES))
        self._mountpoint = folder / "ext4"
        self._loop = Loop(self._path)
        self._store_name = store_name
        self._story = story
        self._blobs = blobs

    def problems(self, state: State, image: bytearray, position: int) -> list[str]:
        with self._path.open("r+b") as file:
            file.write(image)
        self._loop.forget()
        with mounted(self._loop.device, self._mountpoint, "ext4"):
            try:
                return self._look(position)
            except (StoreError, OSError) as error:
                return [f"does not open: {error}"]

    def _look(self, position: int) -> list[str]:
        asked = {ref for at, _, ref in self._story.removed if at <= position}
        removed = {ref for _, at, ref in self._story.removed if at <= position}
        kept = {ref for at, ref in self._story.stored if at <= position} - asked
        began = time.process_time()  # others may have the machine meanwhile
        with opened(self._store_name, self._mountpoint) as storage:
            took_s = time.process_time() - began
            found = lost(storage, {ref: self._blobs[ref] for ref in kept}) + unserved(storage)
            found += [f"{ref} is back" for ref, _ in storage.stat(removed)]
        return [*found, f"opening took {took_s:.1f} s"] if took_s > OPENING_S else found


def campaign(
    store_name: str, seed: int, seconds: float, most: int, folder: Path
) -> dict[str, object]:
    """Write once, then look at states until time is up or so many were seen, one at least."""
    make_disk(folder / "disk")
    writer = write_on(folder / "disk", folder / "log", folder, store_name, seed)
    events = list(read_log(folder / "log"))
    replayer = Replayer(folder, store_name, writer.story, writer.blobs)
    problems = list(writer.failures)
    count = bad = 0
    began = time.monotonic()
    for sweep in states(events, random.Random(seed)):
        disk = Disk(folder / "disk", events)
        for state in sweep:
            if count >= most or (count and time.monotonic() - began > seconds):
                flushes = sum(event.data is None for event in events)
                notes = f"events={len(events)} flushes={flushes} blobs={len(writer.blobs)}"
                return {"n": count, "bad": bad, "problems": problems, "notes": notes}
            found = replayer.problems(state, disk.image(state), events[state.cut - 1].end)
            count += 1
            bad += bool(found)
            if found and len(problems) < MOST_PROBLEMS:
                problems.append(f"{store_name}, seed {seed}, {state}: {'; '.join(found[:3])}")
    raise AssertionError("states have no end")


def run(folder: Path, seed: int, store_name: str, seconds: float, most: int = 10**9) -> Verdict:
    """Cut the power in a store for so many seconds, or states; and in one with the planted bug."""
    shared = Path("/dev/shm") if os.path.isdir("/dev/shm") else folder
    answers = []
    for name, limit_s, limit in ((store_name, seconds, most), (PLANTED, math.inf, PLANTED_STATES)):
        place = shared / f"peatkeep-crash-{os.getpid()}-{name}"
        place.mkdir()
        try:
            answers.append(apart("crash", name, seed, limit_s, limit, place, own_mounts=True))
        finally:
            subprocess.run(["rm", "-rf", "--one-file-system", str(place)], check=False)
    ours, planted = answers
    return Verdict(
        f"crash {store_name}",
        ours["n"],
        max(ours["bad"], len(ours["problems"])),
        planted["bad"] > 0,
        f"{ours['notes']} planted={planted['bad']}/{planted['n']}",
        tuple(ours["problems"]),
    )


if __name__ == "__main__":
    name, seed, seconds, most, place = sys.argv[1:]
    print(json.dumps(campaign(name, int(seed), float(seconds), int(most), Path(place))))
