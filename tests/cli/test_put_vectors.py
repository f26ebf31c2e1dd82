"""pk-put and pk-get against the recorded runs of Perkeep's: the same blobs, the same exits."""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from peatkeep.schema.parse import parse_object
from tests.server.running import IDENTITY, running_server

from .programs import Ran, make_files, run_program, shape
from .wiretap import Recorded, recording

VECTORS = Path(__file__).parents[1] / "vectors" / "http"
PUT = json.loads((VECTORS / "clients-pk-put.json").read_text())
GET = json.loads((VECTORS / "clients-pk-get.json").read_text())
RUNS = {f"put-{run['id']}": run for run in PUT["runs"]} | {
    f"get-{run['id']}": run for run in GET["runs"]
}

STRICTER = {
    f"{entry['topic'].removeprefix('clients-pk-')}-{entry['run']}": entry["exit_code"]
    for entry in tomllib.loads((VECTORS.parent / "differences.toml").read_text())["run"]
}
"""Exit codes where Perkeep's is a quirk: it prints an error and exits 0."""

MACHINE = re.compile(r"unix(Owner|Group|OwnerId|GroupId|Ctime)|random|claimDate|camliSig|expires")
"""Members that differ from machine to machine, or from run to run."""

UNDATED = ("directory", "symlink")
"""Kinds of nodes whose mtime the recording did not set."""

Outcomes = dict[str, tuple[Ran, list[Recorded]]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcomes]:
    """All runs in order against one server, each with what it sent."""
    top = tmp_path_factory.mktemp("runs")
    work = top / "work"
    work.mkdir()
    make_files(work, PUT["files"], PUT["files"]["mtime_of_all"])
    with running_server(top / "server") as server, recording(server.host) as recorder:
        write_config(top / "config", recorder.url, "secret")
        write_config(top / "home" / "bad", recorder.url, "wrong")
        places = {"HOST": recorder.url.removeprefix("http://"), "HOME": str(top / "home")}
        known: dict[str, str] = {}
        found: Outcomes = {}
        for number, (name, run) in enumerate(RUNS.items()):
            if run["cache"] == "fresh":
                cache_dir = top / f"cache{number}"
            environ = {
                "HOME": str(top / "home"),
                "CAMLI_CONFIG_DIR": str(top / "config"),
                "CAMLI_SECRET_RING": str(server.secring),
                "CAMLI_CACHE_DIR": str(cache_dir),
                "PK_STREAM": "0",  # requests alone are recorded
                **{
                    key: filled(value, places, known)
                    for key, value in (run.get("env") or {}).items()
                },
            }
            places["OUT"] = str(top / f"out{number}")
            argv = [filled(word, places, known) for word in run["argv"]]
            ran = run_program(argv, environ, work, run.get("stdin") or "")
            learn(run, ran, known)
            found[name] = ran, recorder.take()
        yield found


def write_config(folder: Path, url: str, password: str) -> None:
    folder.mkdir(parents=True)
    config = json.loads(json.dumps(PUT["client_config"]))
    config["servers"]["px"] |= {"server": url, "auth": f"userpass:alice:{password}"}
    (folder / "client-config.json").write_text(json.dumps(config))


def filled(word: str, places: dict[str, str], known: dict[str, str]) -> str:
    """A recorded word with our places and refs in it."""
    for name, value in places.items():
        word = word.replace("{{" + name + "}}", value)
    for theirs, ours in known.items():
        word = word.replace(theirs, ours)
    return word


def learn(run: dict[str, Any], ran: Ran, known: dict[str, str]) -> None:
    """Refs differ with owners and times: note which of ours stands for which of theirs."""
    if isinstance(run["stdout"], str) and run["argv"][0] == "pk-put":
        theirs = re.findall(r"sha\d+-[0-9a-f]+", run["stdout"])
        ours = re.findall(r"sha\d+-[0-9a-f]+", ran.stdout.decode())
        known.update(zip(theirs, ours, strict=False))


# -- what a blob is, apart from what differs with machine and time --------------------------------


def essence(data: bytes) -> str:
    schema = parse_object(data.partition(b',"camliSig"')[0] + b"}") or parse_object(data)
    if schema is None or not schema.type:
        return repr(data if len(data) < 100 else hash(data))
    members = {
        name: value
        for name, value in schema.members.items()
        if not MACHINE.match(name) and not (schema.type in UNDATED and name == "unixMtime")
    }
    members.pop("search", None)  # they fill in a member that says nothing
    parts = [part.size for part in schema.parts]
    return shape(f"{sorted(members.items())} {parts}")


@cache
def big_chunks() -> dict[str, bytes]:
    """The chunks of the big file by their ref: the recording has only their digests."""
    import random

    from peatkeep.blob import Ref
    from peatkeep.schema.chunker import cuts

    rng = random.Random(7)
    data = bytes(rng.getrandbits(8) for _ in range(400_000))
    return {Ref.of(chunk.data): chunk.data for chunk in cuts([data])}


def recorded_blobs(run: dict[str, Any]) -> Counter[str]:
    found: Counter[str] = Counter()
    for request in run["requests"]:
        for part in (request.get("body") or {}).get("multipart", ()):
            body = part["body"]
            if "text" in body:
                found[essence(body["text"].encode())] += 1
            else:
                ref = re.search(r'name="([^"]+)"', part["headers"][0])
                assert ref is not None
                found[essence(big_chunks()[ref[1]])] += 1
    return found


def our_blobs(requests: list[Recorded]) -> Counter[str]:
    return Counter(
        essence(data)
        for request in requests
        if request.path.endswith("/camli/upload")
        for _, data in request.parts()
    )


def operations(requests: list[tuple[str, str]]) -> set[str]:
    """What kinds of requests there are. Fetching many blobs at once is fetching blobs."""
    kinds = set()
    for method, path in requests:
        place = urlsplit(path).path
        if "/share/" in place:
            kinds.add("share")
        elif "/ui/download/" in place:
            kinds.add(f"{method} download")
        elif place.rpartition("/camli/")[2].startswith("sha") or place.endswith("fetch-blobs"):
            kinds.add("get")
        else:
            kinds.add(f"{method} {place.rpartition('/camli/')[2]}")
    return kinds


def fetched(requests: list[tuple[str, str, bytes]]) -> Counter[str]:
    return Counter(
        ref
        for _, path, body in requests
        for ref in (
            body.decode().split()
            if path.endswith("fetch-blobs")
            else [urlsplit(path).path.rpartition("/")[2]]
        )
        if ref.startswith("sha") and ("/camli/" in path or "/share/" in path)
    )


# -- the tests ------------------------------------------------------------------------------------


@pytest.mark.vectors("http")
@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_equivalent_to_the_recorded_one(name: str, outcomes: Outcomes) -> None:
    run, (ran, requests) = RUNS[name], outcomes[name]
    assert ran.exit_code == STRICTER.get(name, run["exit_code"]), ran.stderr
    check_stdout(name, run, ran)
    theirs = operations([(request["method"], request["path"]) for request in run["requests"]])
    ours = operations([(request.method, request.path) for request in requests])
    # We ask less often whether a blob is there: a request costs more than a small blob. And what
    # is wrong on the command line is said before anything is sent.
    left_out = {"POST stat"} if run["exit_code"] == 0 else {"POST stat", "GET /"}
    assert ours - theirs == set()
    assert theirs - ours <= left_out
    if run["exit_code"] == 0:
        assert our_blobs(requests) == recorded_blobs(run)


def check_stdout(name: str, run: dict[str, Any], ran: Ran) -> None:
    if isinstance(run["stdout"], dict):
        import hashlib

        assert hashlib.sha224(ran.stdout).hexdigest() == run["stdout"]["sha224"]
    elif name.startswith("get-") and "camliType" in run["stdout"]:
        (before, _, ours), (expected, _, theirs) = (
            text.partition("{") for text in (ran.stdout.decode(), run["stdout"])
        )
        assert before == expected
        assert essence(b"{" + ours.encode()) == essence(b"{" + theirs.encode())
    else:
        assert shape(ran.stdout.decode()) == shape(run["stdout"])


@pytest.mark.parametrize(
    "name",
    [
        "put-blob",
        "put-blob-sha1",
        "put-blob-stdin",
        "put-blob-empty",
        "put-permanode-planned",
        "put-rawobj",
        "put-explicit-server-flag",
    ],
)
def test_refs_that_depend_on_nothing_else_are_the_same(name: str, outcomes: Outcomes) -> None:
    assert outcomes[name][0].stdout.decode() == RUNS[name]["stdout"]


@pytest.mark.parametrize("name", [name for name in RUNS if name.startswith("get-shared")])
def test_a_share_link_is_followed_without_credentials(name: str, outcomes: Outcomes) -> None:
    assert all("Authorization" not in request.headers for request in outcomes[name][1])
    theirs = fetched([("GET", request["path"], b"") for request in RUNS[name]["requests"]])
    ours = fetched([(r.method, r.path, r.body) for r in outcomes[name][1]])
    assert sum(ours.values()) == sum(theirs.values())


def test_the_folder_comes_back(outcomes: Outcomes) -> None:
    for name in ("get-dir-to-folder", "get-shared-dir"):
        assert outcomes[name][0].stderr == ""


def test_secrets_never_show(outcomes: Outcomes) -> None:
    for ran, requests in outcomes.values():
        assert "secret" not in ran.stdout.decode("latin-1")
        assert "alice:" not in ran.stderr
        assert all("secret" not in request.path for request in requests)


def test_the_recorded_identity_is_ours() -> None:
    assert PUT["client_config"]["identity"] == IDENTITY["key_id"]
