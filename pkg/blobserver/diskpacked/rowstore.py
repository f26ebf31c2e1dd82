"""Which rows belong to a folder of packs: the `metaIndex` of the configuration."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from ...errors import Corrupt
from ...sorted.kv import KeyValue
from ...sorted.registry import open_kv
from ...sorted.reserve import Reserved
from ...sorted.sqlite import SQLiteKeyValue

_Store = TypeVar("_Store")


def open_rows(
    root: Path, index: Mapping[str, object], use: Callable[[KeyValue, bool], _Store]
) -> tuple[_Store, list[str]]:
    """Open the index and give it to `use`; if it is damaged, set it aside and begin a new one.

    index: as a configuration has it; empty means LevelDB in `index.leveldb` below the root.
    use: is also told whether the index is new, so that rows may be lost.
    Returns what `use` returns, and what the log should say.
    """
    args = index_args(root, index)
    remarks = []
    if index.get("type") == "kv":
        remarks.append(
            f"{index.get('file')} can't be read, so {args.get('file')} is the index; before"
            " Perkeep uses the store again, it needs its own `pk reindex-diskpacked --overwrite`"
        )
    file = args.get("file")
    is_new = isinstance(file, str) and not os.path.lexists(file)
    try:
        return use(_open(args), is_new), remarks
    except Corrupt as error:
        if not isinstance(file, str) or not os.path.lexists(file):
            raise
        aside = _set_aside(Path(file))
        remarks.append(f"{error}; set aside as {aside}")
    return use(_open(args), True), remarks


def _open(args: Mapping[str, object]) -> KeyValue:
    """With a reserve beside the file, so that blobs can be removed from a full disk."""
    file = args.get("file")
    if not isinstance(file, str):
        return open_kv(args)
    return Reserved(lambda: _verified(open_kv(args)), Path(f"{file}.reserve"))


def _verified(rows: KeyValue) -> KeyValue:
    """SQLite notices damage only where it comes by; then it is too late to set the file aside."""
    if isinstance(rows, SQLiteKeyValue):
        try:
            rows.verify()
        except BaseException:
            rows.close()
            raise
    return rows


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


def _set_aside(file: Path) -> Path:
    """Rename a damaged index, and what belongs to it; nothing is deleted. Returns its new name."""
    number = 1
    while (aside := file.with_name(f"{file.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("", "-wal", "-shm"):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside
