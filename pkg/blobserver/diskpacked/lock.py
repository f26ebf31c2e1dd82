"""The lock file of the pack that is being written (README.md, "Lock")."""

import threading
from typing import Final

from ...errors import Unavailable
from ..filesystem import translate
from .files import PackFileSystem
from .records import pack_name

Identity = tuple[int, int]


class PackLock:
    """Holds `pack-NNNNN.blobs.lock` by fcntl, as Perkeep does.

    Such a lock keeps other processes out, and is lost when the process closes any descriptor of
    the file: so stores of one process keep each other out by a list, and never open it twice.
    """

    _held: Final[set[Identity]] = set()
    _held_guard: Final = threading.Lock()

    def __init__(self, root: str, number: int, files: PackFileSystem) -> None:
        """Raises Unavailable, naming the file, when somebody else has it."""
        self._path = f"{root}/{pack_name(number)}.lock"
        self._files = files
        try:
            with self._held_guard:
                while not self._take():
                    pass
        except OSError as error:
            raise translate(error, "lock", self._path) from error

    def release(self) -> None:
        """Remove the file, then give back the lock on it. Raises nothing."""
        with self._held_guard:
            try:
                self._files.unlink(self._path)
            except OSError:
                pass  # an empty lock file that nobody holds is in nobody's way
            self._held.discard(self._identity)
            self._files.close(self._descriptor)

    def _take(self) -> bool:
        """Open and lock; False when the file was removed in between, by who had it before."""
        if self._identity_of_path() in self._held:
            raise self._in_use("another store of this process has it")
        self._descriptor = self._files.open_lock(self._path)
        try:
            status = self._files.status_of(self._descriptor)
            if status.st_size:
                raise self._in_use("it is not empty; if no program uses the store, delete it")
            self._files.lock(self._descriptor)
            self._identity = status.st_dev, status.st_ino
            is_same = self._identity_of_path() == self._identity
        except (BlockingIOError, PermissionError):
            self._files.close(self._descriptor)
            raise self._in_use("another program has it") from None
        except BaseException:
            self._files.close(self._descriptor)
            raise
        if is_same:
            self._held.add(self._identity)
        else:
            self._files.close(self._descriptor)
        return is_same

    def _identity_of_path(self) -> Identity | None:
        try:
            status = self._files.status(self._path)
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _in_use(self, reason: str) -> Unavailable:
        return Unavailable("lock", self._path, f"the store is in use: {reason}")
