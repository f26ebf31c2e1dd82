"""Peers that hold a connection and do little with it: half headers, half bodies, answers that are
never read, websockets that are silent. Others must not notice, and the memory must not grow.

What the server cuts off is opened anew, so that there are always so many. The planted bug is a
server that reads on for a stream whose client takes nothing.
"""

import base64
import hashlib
import json
import math
import os
import random
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from peatkeep.blob import Ref
from peatkeep.blobserver.wire import ClientMachine, Hello
from tests.e2e.machine import Machine, Server
from tests.reliability.verdict import Verdict
from tests.waiting import GUARD_S

MOST_MS = 250.0
MOST_BYTES = 100_000_000
PEERS = 2000
BLOB_BYTES = 72_000
"""As chunks of files have."""
BLOBS = 100
ROOT = "/bs-and-maybe-also-index/camli/"
TRICKLE_S = 3.0
PLANTED_PEERS = 600
PLANTED_SERVER = [sys.executable, str(Path(__file__).parent / "planted_reader.py")]

First = Callable[[], list[bytes]]
"""What a peer sends at once; between two pieces it waits for an answer."""


class Seen(NamedTuple):
    """What a campaign came to. growth_bytes: of the server's resident memory, at its highest."""

    answers: int
    p99_ms: float
    growth_bytes: int
    problems: list[str]


class Target:
    """A server, and what peers send to it."""

    def __init__(self, server: Server, auth: str, refs: list[Ref]) -> None:
        parts = urlsplit(server.url)
        self.address = (parts.hostname or "", parts.port or 80)
        self.basic = base64.b64encode(auth.encode()).decode()
        self._refs = refs

    def _head(self, line: str, *fields: str) -> bytes:
        host = f"Host: {self.address[0]}:{self.address[1]}"
        lines = [f"{line} HTTP/1.1", host, f"Authorization: Basic {self.basic}", *fields, "", ""]
        return "\r\n".join(lines).encode()

    def half_header(self) -> list[bytes]:
        return [self._head(f"GET {ROOT}stat")[:-2]]

    def half_body(self) -> list[bytes]:
        kind = "Content-Type: multipart/form-data; boundary=cut"
        begin = b'--cut\r\nContent-Disposition: form-data; name="x"\r\n\r\n'
        return [self._head(f"POST {ROOT}upload", kind, "Content-Length: 900000") + begin]

    def unread_answer(self) -> list[bytes]:
        body = "\n".join(self._refs).encode()
        return [self._head(f"POST {ROOT}fetch-blobs", f"Content-Length: {len(body)}") + body]

    def _stream(self, machine: ClientMachine) -> list[bytes]:
        key = base64.b64encode(os.urandom(16)).decode()
        handshake = self._head(
            f"GET {ROOT}stream",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
        )
        frames = b""
        while (message := machine.next_message()) is not None:
            # A mask of zeros changes nothing.
            frames += b"\x82\xff" + len(message).to_bytes(8, "big") + bytes(4) + message
        return [handshake, frames]

    def silent_stream(self) -> list[bytes]:
        return self._stream(ClientMachine(0.0))

    def unread_stream(self) -> list[bytes]:
        machine = ClientMachine(0.0, Hello(window=64 * 1024 * 1024))
        machine.fetch(self._refs)
        return self._stream(machine)


class Peers:
    """Connections that are opened again when the server cuts them off."""

    def __init__(self, address: tuple[str, int], kinds: list[tuple[First, bytes]]) -> None:
        """kinds: for each peer what it sends at first, and what every few seconds."""
        self._address = address
        self._kinds = kinds
        self._sockets: list[socket.socket | None] = [None] * len(kinds)
        self._ended = threading.Event()
        self.all_open = threading.Event()
        self.opened = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            for number in range(len(self._kinds)):
                if self._sockets[number] is None and not self._ended.is_set():
                    self._open(number)
            self.all_open.set()
            self._ended.wait(TRICKLE_S)
            self._trickle()
        for wire in self._sockets:
            if wire is not None:
                wire.close()

    def _open(self, number: int) -> None:
        wire = socket.socket()
        # Little is taken by the system in the peer's place.
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.settimeout(GUARD_S)
        try:
            wire.connect(self._address)
            first, *rest = self._kinds[number][0]()
            wire.sendall(first)
            for piece in rest:
                wire.recv(4096)
                wire.sendall(piece)
        except OSError:
            wire.close()
            return
        self._sockets[number] = wire
        self.opened += 1

    def _trickle(self) -> None:
        """Send a little where something is sent; forget what was cut off."""
        watch = select.poll()
        for wire in self._sockets:
            if wire is not None:
                watch.register(wire, select.POLLRDHUP)
        cut = {descriptor for descriptor, _ in watch.poll(0)}
        for number, wire in enumerate(self._sockets):
            if wire is None:
                continue
            try:
                if wire.fileno() in cut:
                    raise ConnectionResetError
                wire.send(self._kinds[number][1])
            except OSError:
                wire.close()
                self._sockets[number] = None

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()


def resident_bytes(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Other:
    """A client that behaves, and how long its requests take."""

    def __init__(self, target: Target, dice: random.Random) -> None:
        self._connection = HTTPConnection(*target.address, timeout=GUARD_S)
        self._headers = {"Authorization": f"Basic {target.basic}"}
        self._dice = dice
        self.times_ms: list[float] = []
        self.problems: list[str] = []

    def put(self, size_bytes: int) -> Ref:
        data = self._dice.randbytes(size_bytes)
        ref = Ref(f"sha224-{hashlib.sha224(data).hexdigest()}")
        self._timed("PUT", ref, data)
        return ref

    def get(self, ref: Ref) -> None:
        answer = self._timed("GET", ref, None)
        if not ref.matches(answer):
            self.problems.append(f"{ref} came back changed")

    def _timed(self, method: str, ref: Ref, body: bytes | None) -> bytes:
        began = time.monotonic()
        self._connection.request(method, ROOT + ref, body, self._headers)
        answer = self._connection.getresponse()
        data = answer.read()
        self.times_ms.append((time.monotonic() - began) * 1000)
        if answer.status not in (200, 204):
            self.problems.append(f"{method} {ref}: {answer.status}")
        return data

    def p99_ms(self) -> float:
        return sorted(self.times_ms)[len(self.times_ms) * 99 // 100]


def campaign(
    folder: Path,
    seed: int,
    seconds: float,
    peers: int,
    server_command: list[str] | None = None,
    enough_bytes: float = math.inf,
) -> Seen:
    """Let peers of all kinds hold a server for some seconds, or until it has grown so much."""
    machine = Machine(folder, server_command)
    with machine.serving() as server:
        config = machine.home / ".config" / "peatkeep" / "client-config.json"
        auth = next(iter(json.loads(config.read_text())["servers"].values()))["auth"]
        password = auth.removeprefix("userpass:").partition(":+")[0]
        dice = random.Random(seed)
        other = Other(Target(server, password, []), dice)
        refs = [other.put(BLOB_BYTES) for _ in range(BLOBS)]
        target = Target(server, password, refs)
        kinds: list[tuple[First, bytes]] = [
            *[(target.half_header, b"X")] * 8,
            *[(target.half_body, b"x")] * 8,
            *[(target.silent_stream, b"")] * 8,
            (target.unread_answer, b""),
            (target.unread_stream, b""),
        ]
        before = highest = resident_bytes(server.process.pid)
        other.times_ms.clear()
        held = Peers(target.address, [kinds[n % len(kinds)] for n in range(peers)])
        try:
            assert held.all_open.wait(15 * GUARD_S)
            until = time.monotonic() + seconds
            while time.monotonic() < until and highest - before <= enough_bytes:
                other.get(refs[dice.randrange(BLOBS)])
                other.put(1000)
                highest = max(highest, resident_bytes(server.process.pid))
                time.sleep(0.01)
        finally:
            held.stop()
        problems = other.problems
        if held.opened < peers:
            problems.append(f"only {held.opened} of {peers} could connect")
    return Seen(len(other.times_ms), other.p99_ms(), highest - before, problems)


def run(
    folder: Path, seed: int, seconds: float, peers: int = PEERS, most_ms: float = MOST_MS
) -> Verdict:
    """Hold a server with so many peers, and try the planted bug.

    most_ms: bound of the 99th percentile of the others' requests; infinite on a busy machine.
    """
    seen = campaign(folder / "ours", seed, seconds, peers)
    planted = campaign(folder / "planted", seed, GUARD_S, PLANTED_PEERS, PLANTED_SERVER, MOST_BYTES)
    problems = seen.problems
    if seen.p99_ms > most_ms:
        problems.append(f"the 99th percentile of the others was {seen.p99_ms:.0f} ms")
    if seen.growth_bytes > MOST_BYTES:
        problems.append(f"the server took {seen.growth_bytes / 1e6:.0f} MB more")
    notes = f"p99={seen.p99_ms:.0f}ms memory=+{seen.growth_bytes / 1e6:.0f}MB peers={peers}"
    caught = planted.growth_bytes > MOST_BYTES
    return Verdict("slow", seen.answers, len(problems), caught, notes, tuple(problems))
