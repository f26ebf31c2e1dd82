"""Opening by configuration, and types that other distributions add."""

import importlib.metadata
from pathlib import Path

import pytest

from peatkeep.errors import ConfigError
from peatkeep.sorted.memory import MemoryKeyValue
from peatkeep.sorted.options import Options
from peatkeep.sorted.registry import BUILTIN, ENTRY_POINTS, open_kv


@pytest.mark.parametrize("kind", sorted(BUILTIN))
def test_every_builtin_type_opens_by_its_name(tmp_path: Path, kind: str) -> None:
    file = {"type": "sqlite", "file": str(tmp_path / "rows")}
    args = {"memory": {}, "buffer": {"storage": file}}.get(kind, file) | {"type": kind}
    with open_kv(args) as kv:
        kv.set(b"a", b"1")
        assert kv.get(b"a") == b"1"


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"type": 3},
        {"type": "nosuch"},
        {"type": "leveldb"},
        {"type": "leveldb", "file": 5},
        {"type": "memory", "file": "x"},
        {"type": "sqlite", "file": "x", "sync": True},
    ],
)
def test_arguments_that_do_not_fit_are_refused(args: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        open_kv(args)


def test_other_distributions_add_types(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint(
        "theirs", "peatkeep.sorted.memory:MemoryKeyValue", ENTRY_POINTS
    )

    def entry_points(group: str, name: str) -> list[importlib.metadata.EntryPoint]:
        return [point] if (group, name) == (ENTRY_POINTS, "theirs") else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert isinstance(open_kv({"type": "theirs"}), MemoryKeyValue)


def test_options_are_taken_by_type() -> None:
    args = {"s": "text", "n": 3.0, "l": ["a"], "t": {"x": 1}}
    with Options("storage-x", args) as options:
        assert options.string("s") == "text"
        assert options.string("absent", "default") == "default"
        assert options.integer("n") == 3
        assert options.strings("l") == ["a"]
        assert options.string_or_table("t") == {"x": 1}


@pytest.mark.parametrize("value", [True, 1.5, "3", None, [3]])
def test_a_number_must_be_whole(value: object) -> None:
    with pytest.raises(ConfigError, match="storage-x, n"):
        Options("storage-x", {"n": value}).integer("n")


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(ConfigError, match="colour"), Options("storage-x", {"colour": 1}):
        pass
