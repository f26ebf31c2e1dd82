"""A note left at a clean close, which spares the next opening a look at every row.

The note says how long the packs were and what some rows were. It needs no syncing: lost, torn or
outdated, it does not fit what is there any more, and then all rows are looked at.
"""

import json
from itertools import islice
from typing import Final

from ...sorted.kv import KeyValue
from .files import PackFileSystem
from .packs import Packs

FILE_NAME: Final = "peatkeep-closed.json"

_SAMPLE: Final = 8
_READ_LIMIT: Final = 1 << 22


def is_unchanged(packs: Packs, rows: KeyValue, files: PackFileSystem) -> bool:
    """Whether packs and index are as a clean close left them."""
    note = _read(packs, files)
    if note.get("packs") != _lengths(packs):
        return False
    sample = note.get("rows")
    if not isinstance(sample, dict) or not sample:
        return False
    keys = {str(key).encode(): str(value).encode() for key, value in sample.items()}
    return rows.get_many(keys) == keys


def leave(packs: Packs, rows: KeyValue, files: PackFileSystem) -> None:
    """Leave the note. What fails leaves none, and says nothing: the next opening takes longer."""
    sample = {
        key.decode("ascii", "replace"): value.decode("ascii", "replace")
        for key, value in islice(rows.find(), _SAMPLE)
    }
    note = json.dumps({"packs": _lengths(packs), "rows": sample}).encode()
    path = f"{packs.root}/{FILE_NAME}"
    try:
        descriptor = files.open_new(f"{path}.tmp")
        try:
            files.write_all(descriptor, note)
        finally:
            files.close(descriptor)
        files.rename(f"{path}.tmp", path)
    except OSError:
        try:
            files.unlink(f"{path}.tmp")
        except OSError:
            pass


def _read(packs: Packs, files: PackFileSystem) -> dict[str, object]:
    try:
        descriptor = files.open_read(f"{packs.root}/{FILE_NAME}")
        try:
            note = json.loads(files.read_all(descriptor, _READ_LIMIT))
        finally:
            files.close(descriptor)
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _lengths(packs: Packs) -> dict[str, int]:
    return {str(number): packs.end(number) for number in packs.numbers}
