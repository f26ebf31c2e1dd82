"""Everything in the bucket: a machine with nothing but configuration and key serves it again."""

import json
import shutil
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.objects import S3
from peatkeep.blobserver.registry import open_storage
from peatkeep.schema.filewriter import write_file
from peatkeep.server.checkpoints import KEY
from tests.blobserver.objects.radosgw import ACCESS_KEY, GROUP, SECRET_KEY, RadosGateway
from tests.e2e.machine import Machine, Server
from tests.server.running import AUTH, IDENTITY, RunningServer, high_level, running_server
from tests.server.stored import ROOT, claim, own_key, put, store_of

pytestmark = GROUP


def keys(radosgw: RadosGateway, bucket: str, **more: object) -> dict[str, object]:
    host = radosgw.url.removeprefix("http://")
    s3 = f"{ACCESS_KEY}:{SECRET_KEY}:{bucket}/life:{host}"
    return {"blobPath": None, "s3": s3, **more}


def bucket_store(radosgw: RadosGateway, bucket: str) -> S3:
    store = open_storage("s3", radosgw.args(bucket), lambda _: Memory())
    assert isinstance(store, S3)
    return store


def fill(server: RunningServer, count: int) -> dict[Ref, bytes]:
    """Store files, each below a permanode with a tag. Returns the contents by file."""
    storage, files = store_of(server), {}
    blobs: list[tuple[Ref, bytes]] = []
    for number in range(count):
        content = b"content of file %d\n" % number * (1 + number % 50)
        name = f"file {number}.txt"
        written = write_file(
            lambda ref, data: blobs.append((ref, data)), [content], {"fileName": name}
        )
        files[written.ref] = content
    storage.receive_many(blobs)
    key = own_key(server)
    permanode = claim(storage, key, {"camliType": "permanode", "random": "one"})
    target = next(iter(files))
    for attribute, value in (("tag", "kept"), ("camliContent", target)):
        members = {
            "camliType": "claim", "claimType": "set-attribute", "permaNode": permanode,
            "attribute": attribute, "value": value,
        }  # fmt: skip
        claim(storage, key, members)
    return files


def is_whole(server: RunningServer, files: dict[Ref, bytes]) -> None:
    """All files are served, and described."""
    refs = list(files)
    for ref in refs[::50]:
        reply = server.ask("GET", f"/ui/download/{ref}/x")
        assert (reply.status, reply.body) == (200, files[ref])
    for at in range(0, len(refs), 250):
        wanted = refs[at : at + 250]
        query = {"blobrefs": wanted}
        reply = server.ask("POST", "/my-search/camli/search/describe", json.dumps(query).encode())
        meta = reply.json["meta"]
        assert [meta[ref]["file"]["size"] for ref in wanted] == [len(files[ref]) for ref in wanted]
    query = json.dumps({"constraint": {"permanode": {"attr": "tag", "value": "kept"}}})
    found = server.ask("POST", "/my-search/camli/search/query", query.encode()).json
    assert len(found["blobs"]) == 1


@pytest.mark.parametrize("packs", [False, True])
def test_a_fresh_machine_serves_the_bucket(
    radosgw: RadosGateway, tmp_path: Path, packs: bool
) -> None:
    bucket = radosgw.new_bucket()
    changes = keys(radosgw, bucket, packRelated=packs or None)
    with running_server(tmp_path / "first", **changes) as server:
        files = fill(server, 100)
        is_whole(server, files)
    # Stored behind the back of the index, as by a machine that crashed before its checkpoint.
    late = b"late"
    loose, large = ("/loose", "/packed") if packs else ("", "")
    with bucket_store(radosgw, f"{bucket}/life{loose}") as store:
        store.receive(Ref.of(late), late)
    with bucket_store(radosgw, f"{bucket}/life{large}") as store:
        assert store.bucket.head(KEY).size > 0
    with running_server(tmp_path / "second", **changes) as server:
        is_whole(server, files)
        assert server.ask("GET", f"{ROOT}camli/{Ref.of(late)}").body == late
        index = server.service.world.topology.storage("/index/")
        assert [found.ref for found in index.stat([Ref.of(late)])] == [Ref.of(late)]


def write_config(machine: Machine, **values: object) -> Path:
    """A new machine's folder: the configuration and the key of the owner. Returns the former."""
    text = "".join(
        f"{name} = {json.dumps(value)}\n"
        for name, value in high_level(machine.home, listen=machine.listen, **values).items()
    )
    config = machine.home / "server.toml"
    config.write_text(text)
    config.chmod(0o600)
    return config


def as_owner(machine: Machine, running: Server) -> dict[str, str]:
    """The environment of the programs."""
    return {
        "PK_DISABLE_CLIENT_CONFIG_FILE": "1",
        "PK_SERVER": running.url,
        "PK_AUTH": AUTH,
        "PK_SECRET_RING": str(machine.home / "identity-secring.gpg"),
        "PK_KEYID": IDENTITY["key_id"],
    }


def test_one_command_brings_a_thousand_files_back_to_a_fresh_machine(
    radosgw: RadosGateway, tmp_path: Path
) -> None:
    values = keys(radosgw, radosgw.new_bucket())
    contents = {f"{n}.txt": b"content of file %d\n" % n * (1 + n % 50) for n in range(1000)}
    lost = Machine(tmp_path / "lost")
    config = write_config(lost, **values)
    (lost.home / "tree").mkdir()
    for name, content in contents.items():
        (lost.home / "tree" / name).write_bytes(content)
    with lost.serving("up", "--config", str(config)) as running:
        words = ["-permanode", "-tag", "kept", "tree"]
        put = lost.run("pk-put", "file", *words, environ=as_owner(lost, running))
    root = put.out.split()[0]
    shutil.rmtree(lost.home)
    fresh = Machine(tmp_path / "fresh")
    config = write_config(fresh, **values)
    with fresh.serving("up", "--config", str(config)) as running:
        assert "rows of the index from s3://" in running.log.read_text()
        assert SECRET_KEY not in running.log.read_text()
        fresh.run("pk-get", "-o", "out", root, environ=as_owner(fresh, running))
        back = {file.name: file.read_bytes() for file in (fresh.home / "out/tree").iterdir()}
        assert back == contents
        server = RunningServer(running.url, "", tmp_path, config, None)  # type: ignore[arg-type]
        directory = server.ask("GET", f"{ROOT}camli/{root}").json
        members = server.ask("GET", f"{ROOT}camli/{directory['entries']}").json["members"]
        query = json.dumps({"blobrefs": members}).encode()
        meta = server.ask("POST", "/my-search/camli/search/describe", query).json["meta"]
        is_whole(server, {ref: contents[meta[ref]["file"]["fileName"]] for ref in members})


def test_a_damaged_checkpoint_costs_time_only(radosgw: RadosGateway, tmp_path: Path) -> None:
    bucket = radosgw.new_bucket()
    with running_server(tmp_path / "first", **keys(radosgw, bucket)) as server:
        ref = put(store_of(server), b"hello")
    with bucket_store(radosgw, f"{bucket}/life") as store:
        store.bucket.put(KEY, b"pkindex1 and nonsense")
    with running_server(tmp_path / "second", **keys(radosgw, bucket)) as server:
        index = server.service.world.topology.storage("/index/")
        assert [found.ref for found in index.stat([ref])] == [ref]


def test_rows_older_than_the_checkpoint_are_compared_with_the_bucket(
    radosgw: RadosGateway, tmp_path: Path
) -> None:
    bucket = radosgw.new_bucket()
    changes = keys(radosgw, bucket)
    with running_server(tmp_path / "first", **changes) as server:
        put(store_of(server), b"hello")
    with running_server(tmp_path / "second", **changes) as server:
        ref = put(store_of(server), b"elsewhere")
    with running_server(tmp_path / "first", **changes) as server:
        index = server.service.world.topology.storage("/index/")
        assert [found.ref for found in index.stat([ref])] == [ref]
