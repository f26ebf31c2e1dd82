"""The file system calls that stores make, in one place so that tests can make them fail."""

# The calls themselves, on text: a Path costs more than the call.
# ruff: noqa: PTH102, PTH105, PTH106, PTH108, PTH116, PTH208

import ctypes
import errno
import os
import platform
import re
import sys
import time
from typing import Final

from ..errors import NotFound, ReadOnly, StoreError, Unavailable


class FileSystem:
    """The real calls. All raise OSError; paths are text, modes are those of Perkeep's files."""

    def open_new(self, path: str, mode: int = 0o600) -> int:
        """Create a file that is not there yet, for writing."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)

    def open_read(self, path: str) -> int:
        # Non-blocking: opening a stray named pipe must not wait for its other end.
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        """Write some of the bytes; returns how many."""
        return os.write(descriptor, data)

    def read(self, descriptor: int, size: int) -> bytes:
        """Read at most `size` bytes; fewer do not mean the end, none does."""
        return os.read(descriptor, size)

    def seek(self, descriptor: int, offset: int) -> None:
        os.lseek(descriptor, offset, os.SEEK_SET)

    def fsync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    @property
    def can_sync_all(self) -> bool:
        """Whether `sync_all` reports failed writes, so that an answer may rest on it."""
        return _SYNCFS_REPORTS

    def sync_all(self, descriptor: int) -> None:
        """Make everything in the file system of this descriptor durable."""
        if _LIBC is None:
            os.sync()
        elif _LIBC.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def rename(self, source: str, target: str) -> None:
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def make_folder(self, path: str) -> None:
        os.mkdir(path, 0o700)

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        os.rmdir(path)

    def list_folder(self, path: str) -> list[str]:
        return os.listdir(path)

    def status(self, path: str) -> os.stat_result:
        return os.stat(path)

    def status_of(self, descriptor: int) -> os.stat_result:
        return os.fstat(descriptor)

    def now_ns(self) -> int:
        """Nanoseconds since the epoch, by the clock that file times come from."""
        return time.time_ns()

    # -- what is made of them -------------------------------------------------------------------

    def write_all(self, descriptor: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            written = self.write(descriptor, left)
            if written <= 0:
                raise OSError(errno.EIO, "nothing was written")
            left = left[written:]

    def read_all(self, descriptor: int, size: int) -> bytes:
        """Read up to `size` bytes, fewer only at the end of the file."""
        data = self.read(descriptor, size)
        if len(data) == size or not data:
            return data
        pieces = [data]
        left = size - len(data)
        while left > 0 and (data := self.read(descriptor, left)):
            pieces.append(data)
            left -= len(data)
        return b"".join(pieces)

    def sync_folder(self, path: str) -> None:
        """Make the entries of a folder durable.

        Raises FileNotFoundError, Unavailable where it can't be opened now (no descriptors),
        OSError where the sync failed.
        """
        try:
            descriptor = self.open_read(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise translate(error, "sync", path) from error
        try:
            self.fsync(descriptor)
        finally:
            self.close(descriptor)


_LIBC: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _syncfs_reports() -> bool:
    """syncfs returns the errors of the writes that it waited for since Linux 5.8."""
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    return (
        _LIBC is not None and version is not None and ((int(version[1]), int(version[2])) >= (5, 8))
    )


_SYNCFS_REPORTS: Final = _syncfs_reports()


def translate(error: OSError, operation: str, path: str) -> StoreError:
    """The error of our tree for one of the file system; its message names the file."""
    kind: type[StoreError] = Unavailable
    if error.errno == errno.ENOENT:
        kind = NotFound
    elif error.errno == errno.EROFS:
        kind = ReadOnly
    return kind(operation, path, error.strerror or type(error).__name__)
