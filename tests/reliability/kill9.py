"""kill -9 of client or server at random points of a backup, under the load of four writers.

After each kill: no acknowledged blob is missing, and a second run of the same backup succeeds and
restores to the same tree. The planted bug is a server that answers before it has written.
"""

import base64
import hashlib
import json
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from itertools import cycle, islice
from pathlib import Path
from subprocess import Popen
from typing import NamedTuple
from urllib.parse import urlsplit

from websockets.exceptions import WebSocketException

from peatkeep.blob import Ref
from peatkeep.blobserver.wire import events
from tests.e2e.compare_trees import differences
from tests.e2e.machine import Failed, Machine, Server
from tests.reliability.verdict import Verdict
from tests.server.streaming import streaming_to
from tests.waiting import GUARD_S

WRITERS = 4
MOST_UNDER_WAY = 16
TREE_FILES = 160
MOST_PLANTED_KILLS = 10
LARGE_FILES = {"large 1": 3_000_000, "large 2": 7_000_000}
BLOB_BYTES = (10, 60_000)
POLL_S = 0.002
PLANTED_SERVER = [sys.executable, str(Path(__file__).parent / "planted_server.py")]
IN_FLIGHT_SHARE = 0.8
"""At least this share of the kills must fall while bytes are in flight."""


MOST_ROUNDS = 3
"""So many times as many rounds as kills are made at most to have that share: on a busy machine a
backup may end before it is seen to be where it was to be killed."""


class Round(NamedTuple):
    in_flight: bool
    problems: list[str]


class Tally(NamedTuple):
    rounds: list[Round]
    acknowledged: int

    @property
    def in_flight(self) -> int:
        return sum(one.in_flight for one in self.rounds)

    @property
    def problems(self) -> list[str]:
        return [problem for one in self.rounds for problem in one.problems]

    @property
    def bad(self) -> int:
        return sum(bool(one.problems) for one in self.rounds)


class Door:
    """The server's upload and get endpoints, spoken to without any of our code."""

    def __init__(self, server: Server, auth: str) -> None:
        parts = urlsplit(server.url)
        self.connection = HTTPConnection(parts.hostname or "", parts.port, timeout=GUARD_S)
        self.password = auth.removeprefix("userpass:").partition(":+")[0]
        basic = base64.b64encode(self.password.encode()).decode()
        self.headers = {"Authorization": f"Basic {basic}"}
        accept = {"Accept": "text/x-camli-configuration"}
        document = json.loads(self._ask("GET", "/", b"", accept)[1])
        self.root = f"{document['blobRoot']}camli/"
        self.stream_url = f"ws://{parts.netloc}{self.root}stream"

    def _ask(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        self.connection.request(method, path, body or None, self.headers | headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def upload(self, blobs: dict[str, bytes]) -> list[str]:
        """Upload blobs by name; return the names that the server acknowledged."""
        pieces = []
        for name, data in blobs.items():
            disposition = f'Content-Disposition: form-data; name="{name}"; filename="{name}"'
            pieces.append(f"--cut\r\n{disposition}\r\n\r\n".encode() + data + b"\r\n")
        body = b"".join(pieces) + b"--cut--\r\n"
        form = {"Content-Type": "multipart/form-data; boundary=cut"}
        status, answer = self._ask("POST", f"{self.root}upload", body, form)
        if status != 200:
            return []
        return [received["blobRef"] for received in json.loads(answer)["received"]]

    def has(self, name: str) -> bool:
        """Whether the server gives the blob, and it is the right one."""
        status, data = self._ask("GET", f"{self.root}{name}", b"", {})
        return status == 200 and hashlib.sha224(data).hexdigest() == name.partition("-")[2]


def name_of(data: bytes) -> str:
    return f"sha224-{hashlib.sha224(data).hexdigest()}"


class Writers:
    """Threads that upload small blobs until they are stopped or the server is gone.

    Every second one uploads over the stream, as our clients do, the others by plain HTTP.
    """

    def __init__(self, server: Server, auth: str, seed: int) -> None:
        self.acknowledged: list[str] = []
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(way, server, auth, f"{seed} {n}"))
            for n, way in zip(range(WRITERS), cycle((self._by_stream, self._by_http)), strict=False)
        ]
        for thread in self._threads:
            thread.start()

    def _write(
        self, way: Callable[[Door, Iterator[bytes]], None], server: Server, auth: str, seed: str
    ) -> None:
        dice = random.Random(seed)
        datas = iter(lambda: dice.randbytes(dice.randint(*BLOB_BYTES)), None)
        try:
            way(Door(server, auth), datas)
        except (OSError, HTTPException, WebSocketException):
            return  # the server was killed: what was not acknowledged may be lost

    def _by_http(self, door: Door, datas: Iterator[bytes]) -> None:
        while not self._ended.is_set():
            self.acknowledged += door.upload({name_of(data): data for data in islice(datas, 4)})

    def _by_stream(self, door: Door, datas: Iterator[bytes]) -> None:
        with streaming_to(door.stream_url, door.password) as client:
            under_way: dict[int, str] = {}
            while not self._ended.is_set():
                while client.machine.room > 0 and len(under_way) < MOST_UNDER_WAY:
                    data = next(datas)
                    under_way[client.machine.put(Ref.of(data), data)] = name_of(data)
                client.send()
                for event in client.receive():
                    if isinstance(event, events.Stored):
                        self.acknowledged += [under_way.pop(one) for one in event.requests]

    def stop(self) -> list[str]:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        return self.acknowledged


def make_tree(root: Path, dice: random.Random) -> None:
    """A tree that no earlier round has backed up."""
    for number in range(TREE_FILES):
        path = root / f"folder {number % 7}" / f"file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(dice.choice([0, 10, 3_000, 40_000, 200_000])))
    for name, size in LARGE_FILES.items():
        (root / name).write_bytes(dice.randbytes(size))


def bytes_read(pid: int) -> int:
    """What a process has read from files so far; 0 when it has ended."""
    try:
        words = Path(f"/proc/{pid}/io").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(words[1])


class Campaign:
    """Rounds of kills against one machine, whose store grows from round to round."""

    def __init__(self, folder: Path, seed: int, server_command: list[str] | None = None) -> None:
        self.folder = folder
        self.seed = seed
        self.machine = Machine(folder, server_command)
        self.server = self.machine.start_server()
        config = self.machine.home / ".config" / "peatkeep" / "client-config.json"
        servers = json.loads(config.read_text())["servers"]
        self.auth: str = next(iter(servers.values()))["auth"]
        self.acknowledged = 0
        self.start_bytes = self._bytes_read_at_start()

    def _bytes_read_at_start(self) -> int:
        """What `pk-put` reads (code, configuration) before it comes to what it backs up."""
        empty = self.folder / "empty"
        empty.mkdir()
        backup = self.machine.start("pk-put", "file", empty)
        most = 0
        while backup.poll() is None:
            most = max(most, bytes_read(backup.pid))
        return most

    def round(self, number: int, victim: str) -> Round:
        dice = random.Random(f"{self.seed} {number}")
        tree = self.folder / f"round {number}"
        make_tree(tree, dice)
        problems: list[str] = []

        def check(promise: Callable[[], list[str]]) -> None:
            try:
                problems.extend(f"round {number}, {victim} killed: {p}" for p in promise())
            except (Failed, OSError, HTTPException) as error:
                problems.append(f"round {number}, {victim} killed: {error}")

        # What was acknowledged a moment before the kill is what is most likely lost.
        writers = Writers(self.server, self.auth, number)
        backup = self.machine.start("pk-put", "file", tree)
        in_flight = self._wait_for_share(backup, tree, dice.random())
        if victim == "server":
            self.server.kill()
        backup.kill()
        backup.wait()
        names = writers.stop()
        self.acknowledged += len(names)
        if victim == "server":
            self.server = self.machine.start_server()
        check(lambda: self._missing(names))
        check(lambda: self._backed_up_again(tree))
        shutil.rmtree(tree)
        return Round(in_flight, problems)

    def _wait_for_share(self, backup: Popen[bytes], tree: Path, share: float) -> bool:
        """Wait until the backup has read this share of the tree; whether it still runs."""
        tree_bytes = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
        until = self.start_bytes + share * tree_bytes
        while backup.poll() is None and bytes_read(backup.pid) < until:
            time.sleep(POLL_S)
        return backup.poll() is None

    def _missing(self, names: list[str]) -> list[str]:
        door = Door(self.server, self.auth)
        return [f"{name} was acknowledged and is lost" for name in names if not door.has(name)]

    def _backed_up_again(self, tree: Path) -> list[str]:
        ref = self.machine.run("pk-put", "file", tree).last_word
        out = self.folder / "restored"
        try:
            self.machine.run("pk-get", "-o", out, ref)
            return [str(difference) for difference in differences(tree, out / tree.name)]
        finally:
            shutil.rmtree(out, ignore_errors=True)

    def end(self) -> None:
        if self.server.process.poll() is None:
            self.server.stop()


def campaign(
    folder: Path,
    seed: int,
    count: int,
    server_command: list[str] | None = None,
    victims: tuple[str, ...] = ("server", "client"),
    until_bad: bool = False,
) -> Tally:
    """Kill `count` times, the victims in turn; more often where kills came too late.

    until_bad: end with the first that shows something.
    """
    running = Campaign(folder, seed, server_command)
    tally = Tally([], 0)
    try:
        for number in range(MOST_ROUNDS * count):
            if number >= count and tally.in_flight >= IN_FLIGHT_SHARE * count:
                break
            if until_bad and tally.bad:
                break
            tally.rounds.append(running.round(number, victims[number % len(victims)]))
    finally:
        running.end()
    return tally._replace(acknowledged=running.acknowledged)


def run(folder: Path, seed: int, count: int) -> Verdict:
    """Kill `count` times, client and server in turn, and try the planted bug."""
    tally = campaign(folder / "ours", seed, count)
    planted = campaign(
        folder / "planted", seed, MOST_PLANTED_KILLS, PLANTED_SERVER, ("server",), until_bad=True
    )
    problems = tally.problems
    if tally.in_flight < IN_FLIGHT_SHARE * count:
        problems.append(f"only {tally.in_flight} of {count} kills fell into a backup")
    notes = f"in_flight={tally.in_flight} acknowledged={tally.acknowledged}"
    return Verdict(
        "kill9", len(tally.rounds), len(problems), planted.bad > 0, notes, tuple(problems)
    )
