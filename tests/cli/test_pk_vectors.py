"""The requests of Perkeep's `pk`: ours sends the same kinds, and exits alike."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.recording import Answer, Recorder, Request, recording
from tests.e2e.machine import Finished, Machine

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "http" / "clients-pk.json"
RUNS: list[dict[str, Any]] = json.loads(VECTORS.read_text())["runs"]

DISCOVERY = {"GET /", "GET /bs-and-maybe-also-index/", "HEAD /ui/"} | {
    f"GET /{prefix}{slash}" for prefix in ("bs", "index", "cache") for slash in ("", "/")
}
"""Perkeep discovers again for each prefix, and follows a redirection: once is enough."""

BEFORE = {
    "sync-to-disk-again": "-dest={out}/disk",
    "sync-disk-to-server": "-dest={out}/disk",
    "sync-server-to-server": "-src=http://{host}/bs/ -dest=http://{host}/cache/",
    "sync-third-leg": "-src=http://{host}/bs/ -dest=http://{host}/cache/",
    "sync-all": "-src=http://{host}/bs/ -dest=http://{host}/index/",
    "index": "-src=http://{host}/bs/ -dest=http://{host}/index/",
}
"""What was in sync already when a run was recorded: flags of `pk sync`."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A server with a few blobs."""
    machine = Machine(tmp_path_factory.mktemp("pk"))
    with machine.serving():
        for name, data in {"raw.bin": b"raw", "query": b"tag:foo", "long": bytes(100_000)}.items():
            (machine.home / name).write_bytes(data)
            machine.run("pk-put", "blob", name)
        yield machine


@pytest.fixture(scope="module")
def recorder(machine: Machine) -> Iterator[Recorder]:
    with recording(machine.listen) as recorder:
        yield recorder


def requests_of(run: dict[str, Any]) -> list[Request]:
    found = []
    for request in run["requests"]:
        text = (request.get("body") or {}).get("text", "")
        found.append(Request(request["method"], request["path"], text.encode()))
    return found


def recorded_answers(run: dict[str, Any]) -> dict[str, Answer]:
    """What the search handler answered when the run was recorded.

    Long bodies were not kept whole: an empty result stands for them.
    """
    answers = {}
    for request, one in zip(requests_of(run), run["requests"], strict=True):
        if "/camli/search/" in request.path:
            body = one["response"]["body"].get("text", '{"meta": {}, "claims": null}')
            answers[request.kind] = Answer(one["response"]["status"], body.encode())
    return answers


@pytest.mark.vectors("http")
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run["id"])
def test_pk_asks_what_perkeep_asks(
    run: dict[str, Any], machine: Machine, recorder: Recorder, tmp_path: Path
) -> None:
    host = recorder.url.removeprefix("http://")
    values = {"{{HOST}}": host, "{{OUT}}": str(tmp_path), "{{HOME}}": str(machine.home)}
    words = [fill(word, values) for word in run["argv"][1:]]
    environ = {name: fill(text, values) for name, text in (run.get("env") or {}).items()}
    environ = {name: text for name, text in environ.items() if name.startswith("CAMLI_")}
    if run["id"] in BEFORE:
        flags = BEFORE[run["id"]].format(host=host, out=tmp_path)
        machine.run("pk", "sync", *flags.split(), environ=client_of(machine, recorder, tmp_path))
    recorder.clear()
    recorder.answers = recorded_answers(run)
    environ |= client_of(machine, recorder, tmp_path)
    finished = machine.attempt("pk", *words, environ=environ)
    assert finished.exit_code == run["exit_code"], finished.err
    assert "Traceback" not in finished.err
    recorded = requests_of(run)
    assert recorder.kinds - DISCOVERY == {request.kind for request in recorded} - DISCOVERY
    if words[0] != "list":  # which asks for the blobs that are there
        assert queries(recorder.requests) == queries(recorded)
    searches = [one for one in run["requests"] if is_search(one)]
    is_kept_whole = all("text" in one["response"]["body"] for one in searches)
    if searches and is_kept_whole and run["exit_code"] == 0:
        same_output(run, finished)


def is_search(request: dict[str, Any]) -> bool:
    return "/camli/search/" in request["path"]


def queries(requests: list[Request]) -> set[str]:
    """The bodies of the queries, in one spelling."""
    bodies = [r.body for r in requests if "/camli/search/" in r.path and r.body]
    return {json.dumps(json.loads(body), sort_keys=True) for body in bodies}


def same_output(run: dict[str, Any], finished: Finished) -> None:
    if run["id"] == "named-search-set":  # the refs are new ones
        assert json.loads(finished.out).keys() == json.loads(run["stdout"]).keys()
    elif run["id"] == "search-1":
        assert finished.out == run["stdout"]
    else:
        assert json.loads(finished.out) == json.loads(run["stdout"])


def client_of(machine: Machine, recorder: Recorder, tmp_path: Path) -> dict[str, str]:
    """An environment with a client configuration that calls the recorder `px`."""
    usual = machine.home / ".config" / "peatkeep"
    members = json.loads((usual / "client-config.json").read_text())
    (entry,) = members["servers"].values()
    folder = tmp_path / "config"
    folder.mkdir(exist_ok=True)
    servers = {"px": entry | {"server": recorder.url}}
    (folder / "client-config.json").write_text(json.dumps(members | {"servers": servers}))
    ring = usual / "identity-secring.gpg"
    return {"PK_CONFIG_DIR": str(folder), "PK_SECRET_RING": str(ring)}


def fill(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    return text
