"""Moving the blobs of a server that does not run (of one that does: `reliability/migrate.py`)."""

import json
import tomllib
from pathlib import Path

from peatkeep.blob import Ref
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.receive import receive_many
from tests.reliability.migrate import Home, small_blobs


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


def test_damaged_blobs_are_named_and_left_behind_only_when_told_so(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.old.mkdir(parents=True)
    blobs = small_blobs(20, seed=1)
    with LocalDisk(home.old) as store:
        receive_many(store, blobs.items())
    victim = sorted(blobs)[7]
    (file,) = home.old.rglob(f"{victim}.dat")
    file.write_bytes(bytes(len(blobs[victim])))
    with home.machine.serving():
        pass

    stopped = home.machine.attempt("pk", "storage", "migrate", "blobpacked")
    assert (stopped.exit_code, stopped.out.split()) == (2, [victim])
    assert "-leave-damaged" in stopped.err
    assert "migration" in tomllib.loads(home.config.read_text())

    ended = home.machine.attempt("pk", "storage", "migrate", "blobpacked", "-leave-damaged")
    assert (ended.exit_code, ended.out.split()) == (2, [victim])
    assert "all other blobs have moved" in ended.err
    values = tomllib.loads(home.config.read_text())
    assert (values["blobPath"], values["packRelated"]) == (str(home.new), True)
    assert not values.keys() & {"migration", "leaveDamaged"}
    with home.machine.serving() as server, home.storage(server) as served:
        found = dict(served.fetch_many(map(Ref, blobs)))
    assert {ref for ref, data in found.items() if data != blobs[ref]} == {victim}
