"""Where the rows of an index lie: opened, made anew beside the old ones, and put in their place.

FILE              the rows: a folder (LevelDB) or a file
FILE.new          those of an index that is being made
FILE.new.whole    there when they are complete, and FILE is out of date
FILE.seen         what FILE looked like when we closed it
FILE.damaged      rows that could not be opened
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import Corrupt
from ..sorted.kv import Batch, KeyValue
from ..sorted.registry import open_kv

FOREIGN: Final = "another program wrote into the index"
DAMAGED: Final = "the rows were damaged"
UNFINISHED: Final = "an index that was being made is not complete"

_MOVABLE: Final = frozenset({"leveldb", "lmdb", "sqlite"})
_BESIDE: Final = ("-wal", "-shm", "-journal", "-lock")
"""Endings of what engines of one file keep beside it."""

_UNTOLD: Final = frozenset({"LOCK", "LOG", "LOG.old"})
"""Files of LevelDB that say nothing of the rows."""


class SwappableRows(KeyValue):
    """Rows that can be replaced by others while they are used. Safe to use from many threads.

    What is replaced stays open for those who are just reading it, until all is closed.
    on_damage: told when the rows in use turn out to be damaged; must be quick.
    """

    def __init__(self, rows: KeyValue) -> None:
        self._rows = rows
        self._old: list[KeyValue] = []
        self.on_damage: Callable[[str], None] = lambda _: None

    def swap(self, fresh: KeyValue) -> None:
        self._old.append(self._rows)
        self._rows = fresh

    def get(self, key: bytes) -> bytes | None:
        try:
            return self._rows.get(key)
        except Corrupt as error:
            self.on_damage(str(error))
            raise

    def find(self, start: bytes = b"", end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        try:
            yield from self._rows.find(start, end)
        except Corrupt as error:
            self.on_damage(str(error))
            raise

    def commit(self, batch: Batch, durable: bool = True) -> None:
        self._rows.commit(batch, durable)

    def bulk(self) -> AbstractContextManager[None]:
        return self._rows.bulk()

    def wipe(self) -> None:
        self._rows.wipe()

    def close(self) -> None:
        for old in self._old:
            old.close()
        self._rows.close()


class Opened(NamedTuple):
    """reason: why the rows should be made anew; "": no reason is known."""

    rows: SwappableRows
    reason: str


class Place:
    """The rows that a configuration describes: {"type": "leveldb", "file": "/a/b"}.

    can_move: whether they lie in files of their own; others are made anew where they are.
    """

    def __init__(self, args: Mapping[str, object]) -> None:
        self._args = args
        file = args.get("file")
        self.can_move: Final = isinstance(file, str) and args.get("type") in _MOVABLE
        self._path = Path(str(file))

    def _beside(self, ending: str) -> Path:
        return self._path.with_name(self._path.name + ending)

    def open(self) -> Opened:
        """Open, after what a process left is put in order. Raises what opening raises.

        Rows that are damaged are put aside: the index is then a new one.
        """
        if not self.can_move:
            return Opened(SwappableRows(open_kv(self._args)), "")
        self._adopt()
        reason = FOREIGN if self._was_written() else ""
        self._beside(".seen").unlink(missing_ok=True)
        try:
            rows = open_kv(self._args)
        except Corrupt:
            damaged = self._beside(".damaged")
            _remove(damaged)
            self._path.rename(damaged)
            rows, reason = open_kv(self._args), DAMAGED
        if not reason and self._beside(".new").exists():
            reason = UNFINISHED
        return Opened(SwappableRows(rows), reason)

    def open_next(self) -> KeyValue:
        """Begin, or go on with, an index beside the old one."""
        try:
            return self._open(self._beside(".new"))
        except Corrupt:
            _remove(self._beside(".new"))
            return self._open(self._beside(".new"))

    def finish_next(self) -> None:
        """The next rows, which are durable, count from now on, whatever happens."""
        self._beside(".new.whole").touch()
        _sync_folder(self._path.parent)

    def closed(self) -> None:
        """To be called after a clean close."""
        if self.can_move:
            self._adopt()
            seen = self._beside(".seen")
            seen.write_text(json.dumps(self._look()))
            _sync_folder(self._path.parent)

    def _open(self, path: Path) -> KeyValue:
        return open_kv({**self._args, "file": str(path)})

    def _adopt(self) -> None:
        """Put finished rows in the place of the old ones. A crash in between is made good."""
        whole, fresh = self._beside(".new.whole"), self._beside(".new")
        if not whole.exists():
            return
        if fresh.exists():
            self._open(fresh).close()  # what SQLite keeps beside them goes into the file
            self._beside(".seen").unlink(missing_ok=True)
            _remove(self._path)
            fresh.rename(self._path)
            _sync_folder(self._path.parent)
        whole.unlink()
        _sync_folder(self._path.parent)

    def _was_written(self) -> bool:
        """Whether the files are not as we left them. After a crash that is not known: False."""
        seen = self._beside(".seen")
        if not seen.exists() or not self._path.exists():
            return False
        try:
            known = json.loads(seen.read_bytes())
        except ValueError:
            return True
        return bool(known != self._look())

    def _look(self) -> list[list[object]]:
        """Name, size and time of change of each file."""
        files = sorted(self._path.iterdir()) if self._path.is_dir() else [self._path]
        looks: list[list[object]] = []
        for file in files:
            if file.name not in _UNTOLD:
                status = file.stat()
                looks.append([file.name, status.st_size, status.st_mtime_ns])
        return looks


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    for ending in _BESIDE:
        path.with_name(path.name + ending).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
