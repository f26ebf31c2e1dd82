"""Moving the blobs of a server that does not run (of one that does: `reliability/migrate.py`)."""

import json
import tomllib
from pathlib import Path

from tests.reliability.migrate import Home


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
