"""A file in memory, served through FUSE, that logs each write and flush: the disk of a power cut.

    blockfile.py IMAGE LOG MOUNTPOINT     serve a copy of IMAGE as MOUNTPOINT/disk until unmounted

A loop device over it is a disk of which every prefix, and every legal reordering, can be made
again from the log (`replay.py`).
"""

import errno
import os
import stat
import struct
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HEAD = struct.Struct("<QI")
FLUSH_OFFSET = (1 << 64) - 1
NAME = b"disk"


class Event(NamedTuple):
    """A write, or with `data` None a flush. end: the length of the log behind it."""

    offset: int
    data: bytes | None
    end: int


def read_log(log: Path) -> Iterator[Event]:
    whole = log.read_bytes()
    at = 0
    while at < len(whole):
        offset, size = HEAD.unpack_from(whole, at)
        at += HEAD.size + size
        if offset == FLUSH_OFFSET:
            yield Event(0, None, at)
        else:
            yield Event(offset, whole[at - size : at], at)


def serve(image: Path, log: Path, mountpoint: Path) -> None:
    import pyfuse3
    import trio

    disk = bytearray(image.read_bytes())
    journal = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    file_inode = pyfuse3.InodeT(pyfuse3.ROOT_INODE + 1)

    class Disk(pyfuse3.Operations):
        async def getattr(
            self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext | None = None
        ) -> pyfuse3.EntryAttributes:
            attributes = pyfuse3.EntryAttributes()
            attributes.st_ino = inode
            is_file = inode == file_inode
            attributes.st_mode = (stat.S_IFREG if is_file else stat.S_IFDIR) | 0o700
            attributes.st_size = len(disk) if is_file else 0
            return attributes

        async def lookup(
            self,
            parent_inode: pyfuse3.InodeT,
            name: pyfuse3.FileNameT,
            ctx: pyfuse3.RequestContext,
        ) -> pyfuse3.EntryAttributes:
            if name != NAME:
                raise pyfuse3.FUSEError(errno.ENOENT)
            return await self.getattr(file_inode)

        async def open(
            self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
        ) -> pyfuse3.FileInfo:
            return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode))

        async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
            return bytes(disk[off : off + size])

        async def write(self, fh: pyfuse3.FileHandleT, off: int, buf: bytes) -> int:
            os.writev(journal, [HEAD.pack(off, len(buf)), buf])
            disk[off : off + len(buf)] = buf
            return len(buf)

        async def fsync(self, fh: pyfuse3.FileHandleT, datasync: bool) -> None:
            os.write(journal, HEAD.pack(FLUSH_OFFSET, 0))

    pyfuse3.init(Disk(), str(mountpoint), {"fsname=blockfile"})
    print("serving", flush=True)
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    serve(*map(Path, sys.argv[1:4]))
