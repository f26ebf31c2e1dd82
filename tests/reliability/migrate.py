"""The blobs of a running server move to another kind of store; it is killed meanwhile.

Clients write all the time. At the end all that was there, and all that was acknowledged, is in the
new store, each once, and the old store is as it was. The planted bug is a mover that goes on from
a remembered position after a kill, and so leaves out the batch that was in hand.
"""

import random
import threading
import time
import tomllib
from pathlib import Path
from typing import Final

from peatkeep.blob import Ref
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.receive import receive_many
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import StoreError
from tests.e2e.machine import Machine, Server
from tests.reliability.verdict import Verdict

COMMAND_WAIT_S: Final = 3600
BATCH: Final = 50


def small_blobs(count: int, seed: int) -> dict[Ref, bytes]:
    source = random.Random(seed)
    texts = [source.randbytes(source.randrange(20, 2000)) for _ in range(count)]
    return {Ref.of(text): text for text in texts}


class Clients(threading.Thread):
    """Puts blobs until told to stop; `stored` are those that the server acknowledged."""

    def __init__(self, url: str, auth: str) -> None:
        super().__init__(daemon=True)
        self._args = {"url": url, "auth": auth, "skipStartupCheck": True}
        self._ended = threading.Event()
        self.stored: dict[Ref, bytes] = {}

    def run(self) -> None:
        seed = 1000
        with open_storage("remote", self._args, lambda _: Memory()) as store:
            while not self._ended.is_set():
                seed += 1
                batch = small_blobs(20, seed)
                try:
                    receive_many(store, batch.items())
                except StoreError:
                    self._ended.wait(0.05)  # the server is being started anew
                    continue
                self.stored |= batch

    def stop(self) -> None:
        self._ended.set()
        self.join()


class Home:
    """A machine whose server keeps each blob in a file, and the folders of its stores."""

    def __init__(self, folder: Path) -> None:
        self.machine = Machine(folder)
        self.old = self.machine.home / ".local/share/peatkeep/blobs"
        self.new = self.old.with_name("blobs-blobpacked")
        self.config = self.machine.home / ".config/peatkeep/server.toml"

    @property
    def auth(self) -> str:
        return str(tomllib.loads(self.config.read_text())["auth"])

    def storage(self, server: Server) -> Storage:
        """What the server serves, as a store."""
        args = {"url": f"{server.url}/bs/", "auth": self.auth}
        return open_storage("remote", args, lambda _: Memory())

    def copied_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.new.glob("pack-*.blobs"))

    def migrate(self, server: Server, size_bytes: int, kills: int) -> tuple[Server, int]:
        """Run the command to its end; on its way the server is killed and started anew.

        size_bytes: of all that moves. Returns the last server, and how many were killed: fewer
        than `kills` where the migration was quicker than we.
        """
        done = 0
        command = self.machine.start("pk", "storage", "migrate", "blobpacked", "--json")
        for kill in range(1, kills + 1):
            while command.poll() is None and self.copied_bytes() < kill * size_bytes // (kills + 1):
                time.sleep(0.02)
            if command.poll() is None:
                server.kill()
                done += 1
                server = self.machine.start_server()
        assert command.wait(COMMAND_WAIT_S) == 0
        return server, done


def blobs_of(store: Storage) -> dict[Ref, bytes]:
    listed = [found.ref for found in store.enumerate()]
    assert len(listed) == len(set(listed)), "a blob is listed twice"
    return {ref: data for ref, data in store.fetch_many(listed) if isinstance(data, bytes)}


def lost(expected: dict[Ref, bytes], found: dict[Ref, bytes]) -> list[str]:
    """A line for each blob that is not there as it was."""
    return [f"{ref} is lost" for ref, data in expected.items() if found.get(ref) != data]


def run(folder: Path, seed: int, count: int, kills: int = 2) -> Verdict:
    """Move `count` blobs while a client writes; the server is killed so many times at most."""
    home = Home(folder)
    home.old.mkdir(parents=True)
    before = small_blobs(count, seed)
    with LocalDisk(home.old) as store:
        receive_many(store, before.items())
    server = home.machine.start_server()
    clients = Clients(f"{server.url}/bs-and-maybe-also-index/", home.auth)
    clients.start()
    try:
        server, kills = home.migrate(server, sum(map(len, before.values())), kills)
    finally:
        clients.stop()
        server.stop()
    with LocalDisk(home.old) as old:
        problems = [f"old store: {line}" for line in lost(before, blobs_of(old))]
    values = tomllib.loads(home.config.read_text())
    if (values["blobPath"], "migration" in values) != (str(home.new), False):
        problems.append(f"{home.config} does not name the new store alone")
    expected = before | clients.stored
    with home.machine.serving() as again, home.storage(again) as served:
        found = blobs_of(served)
    problems += lost(expected, found)
    # What is more: the server's public key, and what a kill left without an acknowledgement.
    if len(found) - len(expected) > 1 + 20 * kills:
        problems.append(f"{len(found)} blobs, but only {len(expected)} were stored")
    notes = f"kills={kills} written meanwhile={len(clients.stored)}"
    caught = bool(lost(before, careless(before)))
    return Verdict("migrate", count, len(problems), caught, notes, tuple(problems[:20]))


def careless(blobs: dict[Ref, bytes]) -> dict[Ref, bytes]:
    """The planted bug: the position is kept before the batch is stored; a kill comes between."""
    refs, moved, position = sorted(blobs), Memory(), 0
    while position < len(refs):
        batch = refs[position : position + BATCH]
        is_killed = position == BATCH
        position += len(batch)
        if not is_killed:
            moved.receive_many([(ref, blobs[ref]) for ref in batch])
    return blobs_of(moved)
