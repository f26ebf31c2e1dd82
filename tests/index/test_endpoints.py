"""The search endpoints against the golden answers; differences are listed and checked."""

import json
import time
import tomllib
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from peatkeep.index.endpoints import Answer, answer
from tests.index.corpus import World, corpus, named, vectors

DIFFERENCES = Path(__file__).parent / "differences.toml"
SEARCH_ROOTS = ("/my-search/camli/search/", "/my-search/")

# The handshake of a WebSocket belongs to the server.
NOT_HERE = {"h084"}


@cache
def world() -> World:
    world = World()
    world.add(corpus(), batch=100)
    return world


@cache
def differences() -> dict[str, dict[str, Any]]:
    listed = tomllib.loads(DIFFERENCES.read_text())["difference"]
    return {entry["vector"]: entry for entry in listed}


@cache
def cases() -> dict[str, dict[str, Any]]:
    return {case["id"]: case for case in [*vectors("describe"), *vectors("endpoints")]}


def ask(case: dict[str, Any]) -> Answer:
    address = urlsplit(case["path"])
    root = next(root for root in SEARCH_ROOTS if address.path.startswith(root))
    body = json.dumps(case["request"]) if "request" in case else case.get("requestBody", "")
    return answer(
        world().index.view,
        case["method"],
        address.path.removeprefix(root),
        parse_qsl(address.query, keep_blank_values=True),
        body.encode(),
        time.time_ns(),
    )


def in_order(value: Any) -> Any:
    """The answer with its sets sorted, as the vectors have them."""
    if isinstance(value, list):
        return [in_order(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = {name: in_order(item) for name, item in value.items()}
    orders = {
        "dirChildren": str,
        "edgesTo": lambda edge: edge["from"],
        "paths": lambda path: (path["baseRef"], path["suffix"], path["claimRef"]),
    }
    for name, order in orders.items():
        if value.get(name):
            value[name] = sorted(value[name], key=order)
    return value


def received(case: dict[str, Any]) -> tuple[int, Any]:
    got = ask(case)
    return got.status, in_order(json.loads(json.dumps(got.body)))


def is_equal(case: dict[str, Any]) -> bool:
    return received(case) == (case["status"], in_order(case["response"]))


EQUAL = sorted(set(cases()) - set(differences()) - NOT_HERE)


@pytest.mark.vectors("search")
@pytest.mark.parametrize("vector", EQUAL)
def test_the_answer_is_that_of_the_reference(vector: str) -> None:
    case = cases()[vector]
    assert received(case) == (case["status"], in_order(case["response"]))


@pytest.mark.vectors("search")
@pytest.mark.parametrize("vector", sorted(differences()))
def test_a_listed_difference_is_one_and_is_as_described(vector: str) -> None:
    case, listed = cases()[vector], differences()[vector]
    assert not is_equal(case)
    status, body = received(case)
    assert status == listed.get("status", case["status"])
    if "recent_also" in listed:
        got = [entry["blobref"] for entry in body["recent"]]
        was = [entry["blobref"] for entry in case["response"]["recent"]]
        also = {named(name) for name in listed["recent_also"]}
        assert [ref for ref in got if ref not in also] == was[: len(got) - len(also)]
        assert also <= set(got)
        assert also <= set(body["meta"])
    if "paths" in listed:
        assert [path["suffix"] for path in body["paths"] or []] == listed["paths"]
    if "described" in listed:
        assert list(body["meta"]) == [named(name) for name in listed["described"]]
    if "error_type" in listed:
        assert body["errorType"] == listed["error_type"]
    if "any_children" in listed:
        (ref,) = [ref for ref in body["meta"] if "dirChildren" in body["meta"][ref]]
        children = body["meta"][ref]["dirChildren"]
        assert len(children) == listed["any_children"]
        assert set(body["meta"]) == {ref, *children}
