"""Opening by configuration, and types that other distributions add."""

import importlib.metadata
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import ALIASES, BUILTIN, ENTRY_POINTS, open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import ConfigError


def nowhere(prefix: str) -> Storage:
    raise ConfigError("resolve", prefix, "there is no such prefix")


@pytest.mark.parametrize("kind", ["storage-filesystem", "filesystem", "localdisk"])
def test_localdisk_opens_under_perkeeps_name_too(tmp_path: Path, kind: str) -> None:
    with open_storage(kind, {"path": str(tmp_path)}, nowhere) as store:
        assert isinstance(store, LocalDisk)
        store.receive(Ref.of(b"x"), b"x")


def test_memory_takes_no_arguments() -> None:
    assert isinstance(open_storage("storage-memory", {}, nowhere), Memory)


def test_aliases_name_builtin_types() -> None:
    assert set(ALIASES.values()) <= BUILTIN.keys()


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("storage-nosuch", {}),
        ("storage-filesystem", {}),
        ("storage-filesystem", {"path": 3}),
        ("storage-filesystem", {"path": "/nonexistent/folder"}),
        ("storage-filesystem", {"path": "/tmp", "paht": "/tmp"}),
        ("storage-filesystem", {"path": ""}),
        ("storage-diskpacked", {"path": "/nonexistent/folder"}),
        ("storage-diskpacked", {"path": ""}),
        ("storage-memory", {"size": 1}),
        ("storage-replica", {"backends": ["/nowhere/"]}),
        ("storage-cond", {"read": "/nowhere/", "write": "/nowhere/"}),
    ],
)
def test_what_does_not_fit_is_refused(kind: str, args: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        open_storage(kind, args, nowhere)


def test_other_distributions_add_types(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint(
        "theirs", "peatkeep.blobserver.memory:Memory", ENTRY_POINTS
    )

    def entry_points(group: str, name: str) -> list[importlib.metadata.EntryPoint]:
        return [point] if (group, name) == (ENTRY_POINTS, "theirs") else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    assert isinstance(open_storage("storage-theirs", {}, nowhere), Memory)


@pytest.mark.parametrize(
    "index", [{}, {"type": "leveldb"}, {"type": "leveldb", "file": ""}, {"type": "sqlite"}]
)
def test_an_index_without_a_file_is_refused_and_none_is_made_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: dict[str, object]
) -> None:
    monkeypatch.chdir(tmp_path)
    args = {"smallBlobs": "/a/", "largeBlobs": "/b/", "metaIndex": index}
    with pytest.raises(ConfigError, match=r"metaIndex|file"):
        open_storage("blobpacked", args, lambda _: Memory())
    assert list(tmp_path.iterdir()) == []
