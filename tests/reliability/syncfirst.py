"""strace shows: a blob's bytes are synced before the first answer that acknowledges it.

The default peatkeepd is traced while blobs come by HTTP and over the stream. In the trace stand, in
this order: the write that holds the blob's bytes; a sync of that file, or of its file system, which
ended well; the send that holds the answer as the client received it. The planted bug is a server
that answers before it has written.
"""

import json
import random
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from peatkeep.blob import Ref
from peatkeep.blobserver.wire import events
from tests.e2e.machine import Machine, Server
from tests.reliability.kill9 import PLANTED_SERVER, Door
from tests.reliability.verdict import Verdict
from tests.server.streaming import StreamClient, streaming_to
from tests.waiting import GUARD_S

BLOB_BYTES = 5000
ROUNDS = 3
SYNCS = ("fsync", "fdatasync", "syncfs", "sync")
WRITES = ("write", "writev", "pwrite64", "pwritev")
SENDS = ("sendto", "sendmsg", "write", "writev")
TRACED = ",".join(dict.fromkeys((*SYNCS, *WRITES, *SENDS)))
_LINE = re.compile(r"(\d+) +(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)")
_DESCRIPTOR = re.compile(r"(\d+)<(.*?)>")


class Call(NamedTuple):
    """A system call that was begun, or (is_end) that has ended; text holds the bytes in hex."""

    name: str
    text: str
    is_begin: bool
    is_end: bool

    @property
    def path(self) -> str:
        found = _DESCRIPTOR.match(self.text)
        return found[2] if found else ""

    @property
    def succeeded(self) -> bool:
        return self.is_end and not self.text.rpartition(" = ")[2].startswith("-")


def calls_of(trace: str) -> Iterator[Call]:
    """Yield calls in the order of the trace; the end of a resumed one has the text of its begin."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        thread, resumed, name, text = found.groups()
        is_begin, is_end = not resumed, not text.endswith("<unfinished ...>")
        if not is_end:
            begun[thread] = text
        elif resumed:
            text = begun.pop(thread, "") + text
        yield Call(name or resumed, text, is_begin, is_end)


def in_hex(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def problem_of(calls: list[Call], data: bytes, answer: bytes) -> str:
    """Why these calls do not show that the data was synced before the answer; "" if they do."""
    data_hex, answer_hex = in_hex(data), in_hex(answer)
    path = ""
    is_synced = False
    for call in calls:
        if call.name in SENDS and call.is_begin and answer_hex in call.text:
            if not path:
                return "answered before it was written"
            return "" if is_synced else f"answered before {path} was synced"
        if call.name in WRITES and call.is_end and data_hex in call.text:
            path, is_synced = call.path, False
        elif path and call.name in SYNCS and call.succeeded:
            is_synced = is_synced or call.name in ("syncfs", "sync") or call.path == path
    return "the answer is not in the trace"


def traced(server: Server, trace: Path) -> "subprocess.Popen[bytes]":
    command = ["strace", "-f", "-y", "-xx", "-s", "1000000", "-o", str(trace)]
    command += ["-e", f"trace={TRACED}", "-p", str(server.process.pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
    assert tracer.stderr is not None
    said = tracer.stderr.readline()
    if b"attached" not in said:
        raise RuntimeError(f"strace: {said.decode()}")
    return tracer


def by_http(door: Door, data: bytes) -> bytes:
    """Upload a blob; returns the part of the answer that names it."""
    name = str(Ref.of(data))
    assert door.upload({name: data}) == [name]
    return name.encode()


def over_stream(client: StreamClient, data: bytes) -> bytes:
    """Upload a blob; returns the message that says it is stored."""
    [request] = client.put(data)
    while True:
        client.send()
        message = client.socket.recv(timeout=GUARD_S)
        assert isinstance(message, bytes)
        for event in client.machine.receive(message, 0.0):
            if isinstance(event, events.Stored) and request in event.requests:
                return message


def campaign(folder: Path, seed: int, server_command: list[str] | None = None) -> list[str]:
    """What the traces of a server do not show, for uploads by HTTP and over the stream."""
    dice = random.Random(seed)
    machine = Machine(folder, server_command)
    with machine.serving() as server:
        config = machine.home / ".config" / "peatkeep" / "client-config.json"
        auth: str = next(iter(json.loads(config.read_text())["servers"].values()))["auth"]
        door = Door(server, auth)
        user = auth.removeprefix("userpass:")
        place = f"ws://{machine.listen}{door.root}stream"
        uploads: list[tuple[str, bytes, bytes]] = []
        with streaming_to(place, user) as client:
            over_stream(client, dice.randbytes(10))  # what is said once is said before the trace
            trace = folder / "trace"
            tracer = traced(server, trace)
            for _ in range(ROUNDS):
                data = dice.randbytes(BLOB_BYTES)
                uploads.append(("by HTTP", data, by_http(door, data)))
                data = dice.randbytes(BLOB_BYTES)
                uploads.append(("over the stream", data, over_stream(client, data)))
            tracer.send_signal(signal.SIGINT)
            tracer.communicate()
    calls = list(calls_of(trace.read_text()))
    found = [(way, problem_of(calls, data, answer)) for way, data, answer in uploads]
    return [f"{way}: {problem}" for way, problem in found if problem]


def run(folder: Path, seed: int) -> Verdict:
    problems = campaign(folder / "ours", seed)
    planted = campaign(folder / "planted", seed, PLANTED_SERVER)
    notes = f"planted={len(planted)}/{2 * ROUNDS}"
    return Verdict("syncfirst", 2 * ROUNDS, len(problems), bool(planted), notes, tuple(problems))
