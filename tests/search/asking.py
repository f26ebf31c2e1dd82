"""An index over the golden blobs, and ways to ask it."""

import json
import time
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from peatkeep.index.endpoints import Answer
from peatkeep.search.endpoint import answer_query
from tests.index.corpus import World, corpus

DIFFERENCES = Path(__file__).parent / "differences.toml"

Json = dict[str, Any]


@cache
def world() -> World:
    world = World()
    world.add(corpus(), batch=100)
    return world


def ask(request: Any, of: World | None = None) -> Answer:
    """The answer to a request as an object."""
    return ask_text(json.dumps(request), of)


def ask_text(body: str, of: World | None = None) -> Answer:
    of = world() if of is None else of
    return answer_query(of.index, body.encode(), time.time_ns())


def refs_of(answer: Answer) -> list[str]:
    """The results in order."""
    assert answer.status == 200, answer.body
    return [entry["blob"] for entry in answer.body["blobs"] or ()]


@cache
def differences(kind: str) -> dict[str, Json]:
    """The listed differences of a kind, by vector."""
    listed = tomllib.loads(DIFFERENCES.read_text()).get(kind, [])
    return {entry["vector"]: entry for entry in listed}
