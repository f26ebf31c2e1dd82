"""Opening by configuration, and types that other distributions add."""

import importlib.metadata

import pytest

from peatkeep.errors import ConfigError, Unsupported
from peatkeep.sorted import registry
from peatkeep.sorted.memory import MemoryKeyValue
from peatkeep.sorted.options import Options
from peatkeep.sorted.registry import BUILTIN, ENTRY_POINTS, EXTRAS, missing_extra, open_kv


@pytest.mark.parametrize("kind", sorted(EXTRAS))
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    assert missing_extra(kind) == "sql"
    with pytest.raises(Unsupported, match=rf"{kind}.*pip install \"peatkeep\[sql\]\""):
        open_kv({"type": kind})


def test_a_type_of_the_core_needs_no_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    assert [kind for kind in BUILTIN if missing_extra(kind)] == sorted(EXTRAS)
    open_kv({"type": "memory"}).close()


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
