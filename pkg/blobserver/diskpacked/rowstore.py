"""Which rows belong to a folder of packs: the `metaIndex` of the configuration."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from ...errors import Corrupt
from ...sorted.kv import KeyValue
from ...sorted.registry import open_kv

_Store = TypeVar("_Store")


def open_rows(root: Path, index: Mapping[str, object], use: Callable[[KeyValue], _Store]) -> _Store:
    """Open the index and give it to `use`; if it is damaged, set it aside and begin a new one.

    index: as a configuration has it; empty means LevelDB in `index.leveldb` below the root.
    """
    args = index_args(root, index)
    try:
        return use(open_kv(args))
    except Corrupt:
        file = args.get("file")
        if not isinstance(file, str) or not os.path.lexists(file):  # noqa: PTH117
            raise
        _set_aside(Path(file))
    return use(open_kv(args))


def index_args(root: Path, index: Mapping[str, object]) -> dict[str, object]:
    """The index that stands for the one configured.

    Perkeep's `kv` files have no reader: the rows are made anew from the packs, in LevelDB beside.
    """
    if not index:
        return {"type": "leveldb", "file": str(root / "index.leveldb")}
    args = dict(index)
    file = args.get("file")
    if args.get("type") == "kv" and isinstance(file, str):
        args |= {"type": "leveldb", "file": file.removesuffix(".kv") + ".leveldb"}
    return args


def _set_aside(file: Path) -> None:
    """Rename a damaged index, and what belongs to it; nothing is deleted."""
    number = 1
    while (aside := file.with_name(f"{file.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("", "-wal", "-shm"):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
