"""Moving the blobs of a running server to another kind of store; it is killed twice meanwhile."""

import json
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

BLOBS: Final = 1000
COMMAND_WAIT_S: Final = 300


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

    def copied(self) -> int:
        return sum(1 for _ in self.new.rglob("*.dat"))

    def migrate(self, server: Server, count: int, kills: int) -> Server:
        """Run the command to its end; on its way the server is killed and started anew."""
        command = self.machine.start("pk", "storage", "migrate", "blobpacked", "--json")
        for kill in range(1, kills + 1):
            while command.poll() is None and self.copied() < kill * count // (kills + 1):
                time.sleep(0.02)
            assert command.poll() is None, "it ended before the kill"
            server.kill()
            server = self.machine.start_server()
        assert command.wait(COMMAND_WAIT_S) == 0
        return server


def blobs_of(store: Storage) -> dict[Ref, bytes]:
    listed = [found.ref for found in store.enumerate()]
    assert len(listed) == len(set(listed)), "a blob is listed twice"
    return {ref: data for ref, data in store.fetch_many(listed) if isinstance(data, bytes)}


def run(folder: Path, count: int, kills: int = 2) -> int:
    """Move `count` blobs while a client writes; return how many it wrote. Raises AssertionError."""
    home = Home(folder)
    home.old.mkdir(parents=True)
    before = small_blobs(count, 1)
    with LocalDisk(home.old) as store:
        receive_many(store, before.items())
    server = home.machine.start_server()
    clients = Clients(f"{server.url}/bs-and-maybe-also-index/", home.auth)
    clients.start()
    try:
        server = home.migrate(server, count, kills)
    finally:
        clients.stop()
        server.stop()
    values = tomllib.loads(home.config.read_text())
    assert values["blobPath"] == str(home.new)
    assert values["packRelated"] is True
    assert "migration" not in values
    with LocalDisk(home.old) as old:
        assert before.items() <= blobs_of(old).items()
    expected = before | clients.stored
    with home.machine.serving() as again:
        args = {"url": f"{again.url}/bs/", "auth": home.auth}
        with open_storage("remote", args, lambda _: Memory()) as served:
            found = blobs_of(served)
    assert expected.items() <= found.items()
    # What is more: the server's public key, and what a kill left without an acknowledgement.
    assert len(found) - len(expected) <= 1 + 20 * kills
    return len(clients.stored)


def test_nothing_is_lost_when_the_server_is_killed_twice_while_its_blobs_move(
    tmp_path: Path,
) -> None:
    assert run(tmp_path, BLOBS) > 0


def test_without_a_server_the_command_moves_the_blobs_itself(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.machine.serving():
        pass
    assert tomllib.loads(home.config.read_text())["packBlobs"] is True
    done = home.machine.run("pk", "storage", "migrate", "localdisk", "--json")
    last = json.loads(done.out.splitlines()[-1])
    assert (last["error"], last["phase"], last["damagedCount"]) == (None, "done", 0)
    values = tomllib.loads(home.config.read_text())
    assert values["blobPath"] == str(home.old.with_name("blobs-localdisk"))
    assert "packBlobs" not in values
    refused = home.machine.attempt("pk", "storage", "migrate", "localdisk")
    assert refused.exit_code == 1
    assert "already" in refused.err
