"""Which stores a configuration may name."""

from typing import Any

import pytest

from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import ALIASES, BUILTIN, open_storage
from peatkeep.server.config import handlers, support
from peatkeep.server.config.record import LowConfig, Prefix
from peatkeep.server.topology import Topology

KV = {"type": "memory"}
ARGS: dict[str, dict[str, Any]] = {
    "faulty": {"storage": "/a/", "effect": "corrupt", "operations": ["fetch"], "percent": 5},
    "limited": {"storage": "/a/", "bytesPerSecond": 1000, "operationsPerSecond": 10},
    "namespace": {"storage": "/a/", "inventory": KV},
    "overlay": {"lower": "/a/", "upper": "/b/", "deleted": KV},
    "placed": {"backends": ["/a/", "/b/"], "policy": "tier", "copies": 2, "tiers": [0, 1],
               "weights": [1, 2], "folders": ["", ""], "reserveBytes": 1000},
    "proxycache": {"origin": "/a/", "cache": "/b/", "maxCacheBytes": 1000, "eviction": "lfu",
                   "accounting": KV},
    "readonly": {"storage": "/a/"},
    "replica": {"backends": ["/a/", "/b/"], "readBackends": ["/b/"], "minWritesForSuccess": 1,
                "queue": KV},
    "retry": {"storage": "/a/", "attempts": 3},
    "shard": {"backends": ["/a/", "/b/"]},
    "union": {"subsets": ["/a/", "/b/"]},
}  # fmt: skip


def config_of(kind: str) -> LowConfig:
    prefixes = {name: Prefix("storage-memory") for name in ("/a/", "/b/")}
    prefixes["/x/"] = Prefix(f"storage-{kind}", ARGS[kind])
    return LowConfig(auth="localhost", listen="127.0.0.1:0", prefixes=prefixes)


@pytest.mark.parametrize("kind", sorted(ARGS))
def test_a_combinator_is_served_with_every_argument_that_it_has(kind: str) -> None:
    shape = handlers.SHAPES[f"storage-{kind}"]
    optional = {"seed"}  # of faulty; the others are all given above
    assert ARGS[kind].keys() >= (shape.required | shape.optional) - optional
    assert handlers.problems(f"storage-{kind}", ARGS[kind]) == []
    assert support.check_supported(config_of(kind)) == []
    with Topology(config_of(kind)) as topology:
        assert list(topology.storage("/x/").enumerate()) == []
    open_storage(kind, ARGS[kind], lambda _: Memory()).close()


@pytest.mark.parametrize("kind", sorted(ARGS))
def test_the_stores_below_are_known_from_the_arguments(kind: str) -> None:
    named = {prefix for _, prefix in handlers.references(f"storage-{kind}", ARGS[kind])}
    assert named == {value for arg in ARGS[kind].values()
                     for value in (arg if isinstance(arg, list) else [arg])
                     if value in ("/a/", "/b/")}  # fmt: skip


def test_every_builtin_store_is_in_the_table() -> None:
    names = {name for name in BUILTIN if name not in ALIASES.values()} | ALIASES.keys()
    assert {f"storage-{name}" for name in names} <= handlers.SHAPES.keys()
