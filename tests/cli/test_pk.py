"""`pk` against a server."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.receive import receive_many
from peatkeep.schema.keyring import read_ring
from peatkeep.schema.text import encode
from tests.e2e.machine import Machine
from tests.waiting import wait_until

FILE = encode(
    {
        "camliType": "file",
        "fileName": "a.txt",
        "parts": [{"blobRef": Ref.of(b"hello"), "size": 5}],
    }
)
FILE_REF = Ref.of(FILE)
BLOBS = [FILE, b"", b"hello", b"tag:foo", bytes(100_000), *(b"%d" % n for n in range(300))]
HEAVY = ["numpy", "cryptography", "starlette", "rich", "httptools", "sqlite3", "http.client"]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A server with BLOBS in it."""
    machine = Machine(tmp_path_factory.mktemp("pk"))
    with machine.serving() as server:
        disk = machine.home / "source"
        disk.mkdir()
        with LocalDisk(disk) as store:
            receive_many(store, [(Ref.of(data), data) for data in BLOBS])
        machine.run("pk", "sync", "-src", f"{disk}/", "-dest", f"{server.url}/bs/")
        yield machine


@pytest.fixture(scope="module")
def blobs(machine: Machine) -> dict[Ref, bytes]:
    """What is stored, in the order of the refs: BLOBS, and the key of the server's owner."""
    ring = machine.home / ".config" / "peatkeep" / "identity-secring.gpg"
    (key,) = read_ring(ring.read_bytes())
    datas = [*BLOBS, key.public_text]
    return {Ref.of(data): data for data in sorted(datas, key=Ref.of)}


def test_list_shows_every_blob_in_order(machine: Machine, blobs: dict[Ref, bytes]) -> None:
    lines = machine.run("pk", "list").out.splitlines()
    assert lines == [f"{ref} {len(data)}" for ref, data in blobs.items()]


def test_list_as_json_ends_with_the_outcome(machine: Machine, blobs: dict[Ref, bytes]) -> None:
    *listed, last = map(json.loads, machine.run("pk", "list", "--json").out.splitlines())
    assert [blob["blobRef"] for blob in listed] == list(blobs)
    assert last == {"error": None, "exit": 0}


def test_a_list_tells_what_each_blob_is(machine: Machine) -> None:
    line = f"{FILE_REF} {len(FILE)}\tfile (a.txt size=5)"
    # What was synced to the plain prefix is indexed a moment later.
    wait_until(lambda: machine.run("pk", "list", "-type", "file").out.splitlines() == [line])
    lines = machine.run("pk", "list", "-describe").out.splitlines()
    assert {line, f"{Ref.of(b'hello')} 5"} <= {*lines}
    found, last = map(
        json.loads, machine.run("pk", "list", "-type", "file", "--json").out.splitlines()
    )
    assert (found["blobRef"], found["camliType"], last["exit"]) == (FILE_REF, "file", 0)


def test_sync_copies_what_is_missing_and_says_so(
    machine: Machine, blobs: dict[Ref, bytes], tmp_path: Path
) -> None:
    first = machine.run("pk", "sync", "-dest", f"{tmp_path}/copy", "-j", "3")
    assert sorted(re.findall(r"\[(\S+); \d+ bytes\]", first.out)) == list(blobs)
    with LocalDisk(tmp_path / "copy") as store:
        assert {ref: store.fetch(ref) for ref in blobs} == blobs
    assert machine.run("pk", "sync", "-dest", f"{tmp_path}/copy").out == ""


def test_sync_leaves_a_damaged_blob_out_and_fails(
    machine: Machine, blobs: dict[Ref, bytes], tmp_path: Path
) -> None:
    damaged = Ref.of(b"hello")
    machine.run("pk", "sync", "-dest", f"{tmp_path}/a")
    (file,) = (tmp_path / "a").rglob(f"{damaged}.dat")
    file.write_bytes(b"jello")
    finished = machine.attempt("pk", "sync", "-src", f"{tmp_path}/a", "-dest", f"{tmp_path}/b")
    assert finished.exit_code == 2
    assert damaged in finished.err
    with LocalDisk(tmp_path / "b") as store:
        assert [found.ref for found in store.enumerate()] == [
            ref for ref in blobs if ref != damaged
        ]


def test_sync_removes_from_the_source_only_what_it_copied(
    machine: Machine, blobs: dict[Ref, bytes], tmp_path: Path
) -> None:
    machine.run("pk", "sync", "-dest", f"{tmp_path}/a")
    (tmp_path / "b").mkdir()
    with LocalDisk(tmp_path / "b") as store:
        receive_many(store, [(Ref.of(b"hello"), b"hello")])
    machine.run("pk", "sync", "-src", f"{tmp_path}/a", "-dest", f"{tmp_path}/b", "-removesrc")
    with LocalDisk(tmp_path / "a") as source, LocalDisk(tmp_path / "b") as target:
        assert [found.ref for found in source.enumerate()] == [Ref.of(b"hello")]
        assert [found.ref for found in target.enumerate()] == list(blobs)


def test_sync_copies_to_the_third_leg_what_neither_has(
    machine: Machine, blobs: dict[Ref, bytes], tmp_path: Path
) -> None:
    machine.run("pk", "sync", "-dest", f"{tmp_path}/all")
    for name, data in {"dest": b"hello", "leg": b"tag:foo"}.items():
        (tmp_path / name).mkdir()
        with LocalDisk(tmp_path / name) as store:
            receive_many(store, [(Ref.of(data), data)])
    places = {"src": "all", "dest": "dest", "thirdleg": "leg"}
    flags = [f"-{flag}={tmp_path}/{name}" for flag, name in places.items()]
    machine.run("pk", "sync", *flags)
    with LocalDisk(tmp_path / "dest") as target, LocalDisk(tmp_path / "leg") as leg:
        assert [found.ref for found in target.enumerate()] == [Ref.of(b"hello")]
        wanted = [ref for ref in blobs if ref != Ref.of(b"hello")]
        assert [found.ref for found in leg.enumerate()] == wanted


def test_doctor_finds_nothing_wrong_after_a_first_start(machine: Machine) -> None:
    finished = machine.run("pk", "doctor", "--json")
    *findings, last = map(json.loads, finished.out.splitlines())
    subjects = [finding["subject"] for finding in findings if finding["status"] == "ok"]
    wanted = "configuration key identity server clock credentials generation cache"
    assert subjects == wanted.split()
    assert last["error"] is None


@pytest.mark.parametrize(
    ("environ", "subject"),
    [
        ({"PK_SERVER": "http://127.0.0.1:1"}, "server"),
        ({"PK_AUTH": "userpass:somebody:wrong"}, "credentials"),
        ({"PK_SECRET_RING": "/nonexistent"}, "key"),
        ({"PK_CONFIG_DIR": "/nonexistent"}, "configuration"),
        ({"PK_CACHE_DIR": "/proc/nonexistent"}, "cache"),
    ],
)
def test_doctor_names_what_is_wrong_with_a_hint(
    environ: dict[str, str], subject: str, machine: Machine
) -> None:
    finished = machine.attempt("pk", "doctor", "--json", environ=environ)
    assert finished.exit_code == 2
    findings = [json.loads(line) for line in finished.out.splitlines()[:-1]]
    problems = [finding for finding in findings if finding["status"] == "problem"]
    assert [problem["subject"] for problem in problems] == [subject]
    assert problems[0]["hint"]


def test_doctor_warns_of_files_that_others_can_read(machine: Machine) -> None:
    config = machine.home / ".config" / "peatkeep" / "client-config.json"
    config.chmod(0o644)
    try:
        finished = machine.attempt("pk", "doctor")
    finally:
        config.chmod(0o600)
    assert finished.exit_code == 2
    assert f"chmod 600 {config}" in finished.out


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from peatkeep.cli.common import PK, run; from peatkeep.cli.pk import pk;"
        f" run(pk, PK, ['--help']); print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
    assert "Modes:" in done.stderr
