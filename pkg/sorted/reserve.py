"""A file that holds room for deleting rows, so that a full disk can be emptied."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from ..errors import Unavailable
from .folders import free_bytes, size_bytes
from .kv import Batch, KeyValue

_MOST_BYTES: Final = 6 << 20
"""LevelDB's log has up to 4 MiB, and as much is written when it is opened anew."""

_PART_OF_DISK: Final = 16
"""A reserve is at most one part of so many of the file system."""

_WANTED_BELOW: Final = 16
"""No reserve is laid while so many times its size are free: it would be a file for nothing."""

_SCARCE_BYTES: Final = 256 << 10

_T = TypeVar("_T")


class Reserve:
    """The file. Not durable, and no harm if it is missing: then there is no reserve."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.is_laid = path.exists()

    def lay(self) -> None:
        """Take the room while there is some but not plenty, and the file system knows how."""
        if self.is_laid or not hasattr(os, "posix_fallocate"):
            return
        try:
            wanted, free = self._size_bytes(), free_bytes(self._path.parent)
            if not 2 * wanted <= free < _WANTED_BELOW * wanted:
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, wanted)
            finally:
                os.close(descriptor)
            self.is_laid = True
        except OSError:
            self._path.unlink(missing_ok=True)  # it is wanted when there is room, not needed

    def give_up(self) -> bool:
        """Give the room back if it is needed; whether it was, and there was any."""
        try:
            if not self.is_laid or free_bytes(self._path.parent) >= self._size_bytes():
                return False
            self.is_laid = False
            self._path.unlink()
        except OSError:
            return False
        return True

    def is_room_scarce(self) -> bool:
        """Whether a batch of deletes may not find room."""
        try:
            return free_bytes(self._path.parent) < min(_SCARCE_BYTES, self._size_bytes())
        except OSError:
            return False

    def _size_bytes(self) -> int:
        return min(_MOST_BYTES, size_bytes(self._path.parent) // _PART_OF_DISK)


class Reserved(KeyValue):
    """Another store, which takes what `Batch.frees_room` although the disk is full.

    Everything else gets Unavailable then, as without a reserve. Opening may use it too.
    """

    def __init__(self, open_behind: Callable[[], KeyValue], path: Path) -> None:
        """Open the store; where that takes room which there is not, with the reserve's.

        path: of the reserve, in the file system where the store lies.
        """
        self._reserve = Reserve(path)
        self._behind = self._with_room(open_behind)
        self._reserve.lay()

    def _with_room(self, deed: Callable[[], _T]) -> _T:
        try:
            return deed()
        except Unavailable:
            if not self._reserve.give_up():
                raise
        return deed()

    def get(self, key: bytes) -> bytes | None:
        return self._behind.get(key)

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        return self._behind.get_many(keys)

    def find(self, start: bytes = b"", end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return self._behind.find(start, end)

    def commit(self, batch: Batch, durable: bool = True) -> None:
        if batch.frees_room:
            # Before it fails: LevelDB needs more room once a write has.
            if self._reserve.is_room_scarce():
                self._reserve.give_up()
            self._with_room(lambda: self._behind.commit(batch, durable))
        else:
            self._behind.commit(batch, durable)
        if not self._reserve.is_laid:
            self._reserve.lay()

    def wipe(self) -> None:
        self._with_room(self._behind.wipe)

    def close(self) -> None:
        self._behind.close()
