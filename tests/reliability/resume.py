"""The line is cut at random points of a put and a get; each goes on where it was.

Through a proxy of ours (tests/proxy.py). No acknowledged blob is sent again, what is sent twice is
at most a window for each cut, and the same bytes come back. The planted bug is a client that
takes what has left for stored.
"""

import contextlib
import filecmp
import itertools
import json
import random
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from unittest.mock import patch

from peatkeep.blob import Ref
from peatkeep.blobserver.remote.dialogue import Dialogue, Upload
from peatkeep.blobserver.wire import ClientMachine
from peatkeep.clients.client import Client
from peatkeep.clients.config import ClientConfig, ServerEntry
from peatkeep.errors import StoreError
from tests.e2e.machine import Machine
from tests.proxy import Line, line_to
from tests.reliability.verdict import Verdict

WINDOW_BYTES = 4 * 1024 * 1024
SLACK_BYTES = 512 * 1024
"""For each cut: what lay in sockets, heads of frames, a handshake, the question after it."""

OVERHEAD = 1.02
PLANTED_BYTES = 12_000_000
PLANTED_CUTS = 4
PIECE_BYTES = 1_000_000


class Watch:
    """Notes what is put and what is acknowledged, within this process."""

    def __init__(self) -> None:
        self.acknowledged: set[Ref] = set()
        self.again: list[Ref] = []

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        put, end = ClientMachine.put, Dialogue._end

        def noted_put(machine: ClientMachine, ref: Ref, *args: object, **rest: object) -> int:
            if ref in self.acknowledged:
                self.again.append(ref)
            return put(machine, ref, *args, **rest)  # type: ignore[arg-type]

        def noted_end(dialogue: Dialogue, upload: Upload, error: StoreError | None) -> None:
            if error is None:
                self.acknowledged.add(upload.ref)
            end(dialogue, upload, error)

        with (
            patch.object(ClientMachine, "put", noted_put),
            patch.object(Dialogue, "_end", noted_end),
        ):
            yield


class Cuts:
    """Cuts a line `count` times while so many bytes pass."""

    def __init__(self, line: Line, dice: random.Random, count: int, size_bytes: int) -> None:
        self._line = line
        self._points = iter(sorted(dice.randrange(size_bytes) for _ in range(count)))
        self._begin = line.up_bytes + line.down_bytes
        self.done = 0
        line.on_cut = self._next
        line.cut_after = self._point()

    def _next(self) -> int | None:
        self.done += 1
        return self._point()

    def _point(self) -> int | None:
        point = next(self._points, None)
        return None if point is None else self._begin + point


def campaign(folder: Path, seed: int, size_bytes: int, count: int) -> tuple[list[str], str]:
    """Put and get one file under `count` cuts each; problems, and figures."""
    folder.mkdir(parents=True)
    dice = random.Random(seed)
    path, out = folder / "data", folder / "out"
    with path.open("wb") as file:
        for _ in range(size_bytes // PIECE_BYTES):
            file.write(dice.randbytes(PIECE_BYTES))
    machine, watch = Machine(folder), Watch()
    problems: list[str] = []
    with machine.serving() as server, line_to(server.url) as line, watch.watching():
        with client_of(machine, line.url) as client:
            cuts = Cuts(line, dice, count, size_bytes)
            ref = client.put(bytes(path))
            twice = line.up_bytes - int(size_bytes * OVERHEAD)
            put_cuts = cuts.done
        if twice > put_cuts * (WINDOW_BYTES + SLACK_BYTES):
            problems.append(f"{twice} bytes too many were sent with {put_cuts} cuts")
        if watch.again:
            problems.append(f"{len(watch.again)} acknowledged blobs were sent again")
        with client_of(machine, line.url) as client:
            cuts = Cuts(line, dice, count, size_bytes)
            down_bytes = line.down_bytes
            client.restore(ref, bytes(out))
            more = line.down_bytes - down_bytes - int(size_bytes * OVERHEAD)
        if more > cuts.done * (WINDOW_BYTES + SLACK_BYTES):
            problems.append(f"{more} bytes too many came with {cuts.done} cuts")
        if not filecmp.cmp(path, out / "data", shallow=False):
            problems.append("the file came back with other bytes")
    if min(put_cuts, cuts.done) < count * 0.8:
        problems.append(f"only {put_cuts} and {cuts.done} of {count} cuts fell into it")
    figures = f"put_cuts={put_cuts} get_cuts={cuts.done} sent_twice={max(0, twice)}"
    shutil.rmtree(folder)
    return problems, f"{figures} came_twice={max(0, more)}"


def client_of(machine: Machine, url: str) -> Client:
    """A client that remembers nothing."""
    config = next(machine.home.rglob("client-config.json"))
    (entry,) = json.loads(config.read_text())["servers"].values()
    return Client(ServerEntry(url, entry["auth"]), ClientConfig())


def planted(folder: Path, seed: int) -> bool:
    """Whether a client that takes for stored whatever has left is found out."""
    checked = Dialogue._checked

    def trusting(dialogue: Dialogue, found: Iterable[tuple[Upload, int | None]]) -> None:
        checked(dialogue, ((upload, upload.size) for upload, _ in found))

    with patch.object(Dialogue, "_checked", trusting):
        for attempt in itertools.count(seed):
            try:
                problems, _ = campaign(folder / f"{attempt}", attempt, PLANTED_BYTES, PLANTED_CUTS)
            except StoreError:
                return True  # what comes back is not whole
            if problems or attempt - seed == 3:
                return bool(problems)
    raise AssertionError


def run(folder: Path, seed: int, size_bytes: int, count: int) -> Verdict:
    """Cut `count` times during a put and as often during a get of so many bytes."""
    problems, figures = campaign(folder / "ours", seed, size_bytes, count)
    found = planted(folder / "planted", seed)
    return Verdict("resume", 2 * count, len(problems), found, figures, tuple(problems))
