"""The file system calls that packs need beyond those of other stores."""

import ctypes
import errno
import fcntl
import os
import sys
from typing import Final

from ..filesystem import FileSystem

_PUNCH_HOLE: Final = 0x02
_KEEP_SIZE: Final = 0x01
_BLOCK: Final = 4096
_PIECE: Final = 1 << 20


class PackFileSystem(FileSystem):
    """Reading, writing and syncing in the middle of files. All raise OSError."""

    def open_write(self, path: str) -> int:
        """Open an existing file for reading and writing."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def read_at(self, descriptor: int, size: int, offset: int) -> bytes:
        """Read at most `size` bytes; fewer do not mean the end, none does."""
        return os.pread(descriptor, size, offset)

    def write_at(self, descriptor: int, data: bytes | memoryview, offset: int) -> int:
        """Write some of the bytes; returns how many."""
        return os.pwrite(descriptor, data, offset)

    def sync_data(self, descriptor: int) -> None:
        """Make the content of a file durable, and its length."""
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)

    def punch(self, descriptor: int, offset: int, size: int) -> bool:
        """Turn a stretch of at least one byte into a hole; False where that is impossible."""
        if _FALLOCATE is None:
            return False
        if _FALLOCATE(descriptor, _PUNCH_HOLE | _KEEP_SIZE, offset, size) == 0:
            return True
        number = ctypes.get_errno()
        if number in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            return False
        raise OSError(number, os.strerror(number))

    def open_lock(self, path: str) -> int:
        """Open or create a lock file."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def lock(self, descriptor: int) -> None:
        """Lock a whole file for writing by fcntl. Raises BlockingIOError, PermissionError."""
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    # -- what is made of them -------------------------------------------------------------------

    def write_all_at(self, descriptor: int, data: bytes, offset: int) -> None:
        left = memoryview(data)
        while left:
            written = self.write_at(descriptor, left, offset)
            if written <= 0:
                raise OSError(errno.EIO, "nothing was written")
            left = left[written:]
            offset += written

    def read_all_at(self, descriptor: int, size: int, offset: int) -> bytes:
        """Read up to `size` bytes, fewer only at the end of the file."""
        data = self.read_at(descriptor, size, offset)
        if len(data) == size or not data:
            return data
        pieces = [data]
        left = size - len(data)
        while left > 0 and (data := self.read_at(descriptor, left, offset + size - left)):
            pieces.append(data)
            left -= len(data)
        return b"".join(pieces)

    def read_past_damage(self, descriptor: int, size: int, offset: int) -> bytes:
        """As read_all_at, with zeros for the blocks that the medium can't read any more."""
        try:
            return self.read_all_at(descriptor, size, offset)
        except OSError as error:
            if error.errno != errno.EIO or size <= 0:
                raise
        if offset // _BLOCK == (offset + size - 1) // _BLOCK:
            return bytes(size)
        middle = (offset + size // 2) // _BLOCK * _BLOCK
        if middle <= offset:
            middle += _BLOCK
        first = self.read_past_damage(descriptor, middle - offset, offset)
        if len(first) < middle - offset:
            return first
        return first + self.read_past_damage(descriptor, offset + size - middle, middle)

    def zero(self, descriptor: int, offset: int, size: int) -> None:
        """Overwrite with zeros, giving the space back where the file system can."""
        if size > 0 and not self.punch(descriptor, offset, size):
            for begin in range(offset, offset + size, _PIECE):
                piece = bytes(min(_PIECE, offset + size - begin))
                self.write_all_at(descriptor, piece, begin)


def _find_fallocate() -> "ctypes._NamedFuncPointer | None":
    if sys.platform != "linux":
        return None
    found = getattr(ctypes.CDLL(None, use_errno=True), "fallocate64", None)
    if found is not None:
        found.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return found


_FALLOCATE: Final = _find_fallocate()
