"""What lies on this machine: nodes of a file system as a backup reads them."""

import os
import stat as modes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, tzinfo
from errno import ENODATA, ENOTSUP, ENXIO
from functools import lru_cache
from pathlib import Path
from typing import Final

from ..errors import Unavailable
from ..schema.filereader import zeros
from ..schema.node import MAX_HOLES, Extent, NodeStat

PIECE_BYTES: Final = 512 * 1024
"""What is read at once. The allocator gives longer pieces back to the system each time, and to get
them anew costs as much as to read them."""

_BLOCK_BYTES: Final = 512  # the unit of st_blocks


class ChangedError(Unavailable):
    """A file changed while it was read: putting it again may help."""


@lru_cache(maxsize=1024)
def user_name(uid: int) -> str:
    """The name of a user number on this machine, or ""."""
    import pwd

    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return ""


@lru_cache(maxsize=1024)
def group_name(gid: int) -> str:
    """The name of a group number on this machine, or ""."""
    import grp

    with suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return ""


def node_stat(
    path: bytes | int, stat: os.stat_result, *, plain: bool = False, holes: Sequence[Extent] = ()
) -> NodeStat:
    """What a blob says of a node. path: or its open descriptor. plain: without attributes."""
    return NodeStat(
        mode=stat.st_mode,
        uid=stat.st_uid,
        gid=stat.st_gid,
        mtime_ns=stat.st_mtime_ns,
        ctime_ns=stat.st_ctime_ns,
        size=stat.st_size,
        inode=stat.st_ino,
        device=stat.st_dev,
        nlink=stat.st_nlink,
        user=user_name(stat.st_uid),
        group=group_name(stat.st_gid),
        xattrs={} if plain else _xattrs(path),
        holes=holes,
        special_device=(os.major(stat.st_rdev), os.minor(stat.st_rdev)),
    )


def _xattrs(path: bytes | int) -> Mapping[bytes, bytes]:
    """The extended attributes that can be read; links are not followed."""
    follow = isinstance(path, int)
    try:
        names = os.listxattr(path, follow_symlinks=follow)
    except OSError as error:
        if error.errno == ENOTSUP:
            return {}
        raise
    found = {}
    for name in names:
        try:
            value = os.getxattr(path, name, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in (ENODATA, ENOTSUP):
                raise
            continue  # removed since it was listed, or kept by a part of the system alone
        found[os.fsencode(name)] = value
    return found


@contextmanager
def open_regular(path: bytes, stat: os.stat_result) -> Iterator[int]:
    """Open the regular file that lstat described. Raises ChangedError if another is there.

    Never waits for a fifo that took its place, and follows no link.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        opened = os.fstat(descriptor)
        is_other = (opened.st_ino, opened.st_dev) != (stat.st_ino, stat.st_dev)
        if is_other or not modes.S_ISREG(opened.st_mode):  # inode numbers are soon used again
            raise ChangedError("read", os.fsdecode(path), "another file took its place")
        yield descriptor
    finally:
        os.close(descriptor)


def holes_of(descriptor: int, stat: os.stat_result) -> list[Extent]:
    """The sparse areas of an open file up to the size in `stat`, in order."""
    if stat.st_blocks * _BLOCK_BYTES >= stat.st_size:
        return []
    holes: list[Extent] = []
    for start, end in _extents(descriptor, stat.st_size, is_hole=True):
        holes.append((start, end - start))
        if len(holes) > MAX_HOLES:
            return []
    return holes


def _extents(descriptor: int, size: int, *, is_hole: bool) -> Iterator[tuple[int, int]]:
    """The areas of holes, or of data, as (start, end) within the first `size` bytes."""
    first, second = (os.SEEK_HOLE, os.SEEK_DATA) if is_hole else (os.SEEK_DATA, os.SEEK_HOLE)
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, first)
        except OSError as error:
            if error.errno == ENXIO:  # none behind this place
                return
            raise
        if start >= size:
            return
        try:
            end = min(os.lseek(descriptor, start, second), size)
        except OSError as error:
            if error.errno != ENXIO:
                raise
            end = size
        yield start, end


def read_pieces(descriptor: int, path: bytes, stat: os.stat_result) -> Iterator[bytes]:
    """Yield exactly the first `stat.st_size` bytes of an open file; holes unread, as zeros.

    Raises ChangedError when the file has become shorter.
    """
    size = stat.st_size
    is_sparse = stat.st_blocks * _BLOCK_BYTES < size
    areas = _extents(descriptor, size, is_hole=False) if is_sparse else iter([(0, size)])
    place = 0
    for start, end in areas:
        yield from zeros(start - place)
        place = start
        while place < end:
            piece = os.pread(descriptor, min(PIECE_BYTES, end - place), place)
            if not piece:
                raise _shrunk(path, stat)
            yield piece
            place += len(piece)
    if place < size and os.fstat(descriptor).st_size < size:
        raise _shrunk(path, stat)
    yield from zeros(size - place)


def read_whole(descriptor: int, path: bytes, stat: os.stat_result) -> bytes:
    """What `read_pieces` yields, in one piece: for small files."""
    data = os.pread(descriptor, stat.st_size, 0)
    if len(data) == stat.st_size:
        return data
    return b"".join(read_pieces(descriptor, path, stat))


def _shrunk(path: bytes, stat: os.stat_result) -> ChangedError:
    reason = f"it became shorter than {stat.st_size} bytes while it was read"
    return ChangedError("read", os.fsdecode(path), reason)


class FileSource:
    """The bytes of an open file, for those who look at a few of them."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, offset)


def local_zone(name: str) -> tzinfo:
    """The time zone of this machine. name: what the variable TZ says, "" where it is not set."""
    from zoneinfo import ZoneInfo  # slow to import, and hardly ever asked for

    with suppress(OSError, ValueError, LookupError):
        if name:
            return ZoneInfo(name.removeprefix(":"))
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file, key="localtime")
    return UTC


def is_same(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether a file was left alone between two looks at it."""
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
