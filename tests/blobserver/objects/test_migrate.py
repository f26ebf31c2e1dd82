"""The blobs of a server move into a bucket, and back, by `pk storage migrate`."""

import json
import tomllib
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.receive import receive_many
from tests.blobserver.objects.radosgw import ACCESS_KEY, GROUP, SECRET_KEY, RadosGateway
from tests.reliability.migrate import Home, lost, small_blobs

pytestmark = GROUP

KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


def served(home: Home) -> dict[Ref, bytes]:
    with home.machine.serving() as server, home.storage(server) as store:
        refs = [found.ref for found in store.enumerate()]
        return {ref: data for ref, data in store.fetch_many(refs) if isinstance(data, bytes)}


def migrate(home: Home, *words: str) -> dict[str, object]:
    """Run the command to its end; what it says last. No key is ever shown."""
    done = home.machine.run("pk", "storage", "migrate", *words, "--json", environ=KEYS)
    assert SECRET_KEY not in done.out + done.err
    last = json.loads(done.out.splitlines()[-1])
    assert (last["error"], last["phase"], last["damagedCount"]) == (None, "done", 0)
    return dict(last)


@pytest.mark.parametrize("kind", ["s3", "s3-packed"])
def test_the_blobs_of_a_running_server_move_into_a_bucket_and_back(
    radosgw: RadosGateway, tmp_path: Path, kind: str
) -> None:
    home = Home(tmp_path)
    place = f"{radosgw.new_bucket()}/all:{radosgw.url.removeprefix('http://')}"
    blobs = small_blobs(60, seed=4)
    with home.machine.serving() as server:
        with home.storage(server) as store:
            receive_many(store, list(blobs.items())[:40])
        migrate(home, kind, "--to", place)
        with home.storage(server) as store:
            receive_many(store, list(blobs.items())[40:])
    values = tomllib.loads(home.config.read_text())
    assert values["s3"] == f"{ACCESS_KEY}:{SECRET_KEY}:{place}"
    assert values.get("packRelated", False) is (kind == "s3-packed")
    assert not values.keys() & {"migration", "blobPath", "packBlobs"}
    assert home.config.stat().st_mode & 0o077 == 0

    refused = home.machine.attempt("pk", "storage", "migrate", kind, "--to", place, environ=KEYS)
    assert (refused.exit_code, "already" in refused.err) == (1, True)
    folder = tmp_path / "back"
    migrate(home, "diskpacked", "--to", str(folder))
    values = tomllib.loads(home.config.read_text())
    assert (values["blobPath"], values["packBlobs"]) == (str(folder), True)
    assert not values.keys() & {"migration", "s3", "packRelated"}
    assert lost(blobs, served(home)) == []


def test_a_bucket_that_is_not_there_is_told_and_changes_nothing_for_good(
    radosgw: RadosGateway, tmp_path: Path
) -> None:
    home = Home(tmp_path)
    blobs = small_blobs(5, seed=5)
    with home.machine.serving() as server, home.storage(server) as store:
        receive_many(store, blobs.items())
    before = home.config.read_text()
    place = f"absent-bucket:{radosgw.url.removeprefix('http://')}"
    words = ("pk", "storage", "migrate", "s3", "--to", place)

    without_keys = home.machine.attempt(*words)
    assert (without_keys.exit_code, "AWS_ACCESS_KEY_ID" in without_keys.err) == (1, True)
    without_place = home.machine.attempt(*words[:4], environ=KEYS)
    assert (without_place.exit_code, "--to" in without_place.err) == (1, True)
    failed = home.machine.attempt(*words, environ=KEYS)
    assert failed.exit_code == 2
    assert "no such bucket" in failed.err
    assert SECRET_KEY not in failed.out + failed.err
    assert home.config.read_text() == before
    assert lost(blobs, served(home)) == []
