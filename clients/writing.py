"""Make nodes in a directory that others may write to: nothing is followed, nothing is half there.

Everything is named relative to an open directory, so a link that somebody put in the way is met
as a link and never leads out of the tree that is restored.
"""

import os
import secrets
import stat as modes
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from errno import EEXIST, ELOOP, ENOTDIR, ENOTSUP, EPERM
from functools import lru_cache
from itertools import count, islice
from typing import Final

from ..errors import Invalid, Unsupported
from ..schema.node import Device, Extent, RestoredStat

TEMPORARY_PREFIX: Final = b".pk-get-"
"""Begins the names of unfinished files; the process number, a random word and a number follow."""

PRIVATE_MODE: Final = 0o600

RUN_BYTES: Final = 512 * 1024
RUN_PIECES: Final = 256
"""Pieces that are written together: when so much has gathered."""

_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def opened_folder(top: int, parts: Sequence[bytes]) -> Iterator[int]:
    """Open the directory at these names below an open one. No part may be a link."""
    folder = os.open(b".", _FOLDER_FLAGS, dir_fd=top) if not parts else top
    try:
        for part in parts:
            try:
                inner = os.open(part, _FOLDER_FLAGS, dir_fd=folder)
            except OSError as error:
                if error.errno in (ELOOP, ENOTDIR):
                    path = os.fsdecode(b"/".join(parts))
                    raise Invalid(
                        "enter", path, "something that is no directory is there"
                    ) from None
                raise
            if folder != top:
                os.close(folder)
            folder = inner
        yield folder
    finally:
        if folder != top:
            os.close(folder)


def make_folder(folder: int, name: bytes) -> bool:
    """Make a directory that its owner alone may use for now; one that is there will do.

    Returns whether it is new, so empty.
    """
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        pass
    else:
        return True
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not modes.S_ISDIR(found.st_mode):
        raise Invalid("restore", os.fsdecode(name), "something that is no directory is there")
    if found.st_mode & 0o700 != 0o700:
        os.chmod(name, found.st_mode | 0o700, dir_fd=folder)
    return False


def is_there(folder: int, name: bytes, size: int, mtime_ns: int | None) -> bool:
    """Whether a regular file of this size and mtime is there: the same, for all we know."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return (
        modes.S_ISREG(found.st_mode)
        and found.st_size == size
        and mtime_ns is not None
        and found.st_mtime_ns == mtime_ns
    )


@contextmanager
def new_file(folder: int, name: bytes) -> Iterator[int]:
    """Give a descriptor to write a file; at the end it takes its name, in one step.

    If the block raises, nothing of it remains.
    """
    temporary = temporary_name()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, PRIVATE_MODE, dir_fd=folder)
    try:
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def put_in_place(folder: int, name: bytes, make: Callable[[bytes], None]) -> None:
    """Let `make` create a node under a temporary name, then give it its name."""
    temporary = temporary_name()
    try:
        make(temporary)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


_RANDOM_WORD: Final = secrets.token_hex(6).encode()
_numbers = count()


def temporary_name() -> bytes:
    return b"%s%d-%s-%d" % (TEMPORARY_PREFIX, os.getpid(), _RANDOM_WORD, next(_numbers))


def remove_leftovers(folder: int) -> None:
    """Remove unfinished files of runs that were killed."""
    for text in os.listdir(folder):
        name = os.fsencode(text)
        if name.startswith(TEMPORARY_PREFIX):
            number = name[len(TEMPORARY_PREFIX) :].partition(b"-")[0]
            if number.isdigit() and not _is_running(int(number)):
                with suppress(OSError):
                    os.unlink(name, dir_fd=folder)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def write_whole(descriptor: int, data: bytes) -> None:
    """Write the whole content of a new file."""
    written = os.write(descriptor, data)
    if written < len(data):
        _write_all(descriptor, memoryview(data)[written:], written)


def write_sparse(
    descriptor: int, pieces: Iterator[bytes], offset: int, holes: Sequence[Extent]
) -> Iterator[int]:
    """Write pieces from `offset` on, leaving out what is zero inside of the holes.

    Yields the length of each piece when it is written, or will be together with the next ones.
    """
    run: list[memoryview] = []  # what was not written yet: bytes that end at `run_end`
    run_end = run_bytes = 0
    for piece in pieces:
        view = memoryview(piece)
        end = offset + len(piece)
        spans = _split(offset, end, holes) if holes else [(offset, end, False)]
        for start, stop, is_hole in spans:
            inner = view[start - offset : stop - offset]
            if is_hole and not _has_content(inner):
                continue
            if run and (start != run_end or run_bytes >= RUN_BYTES or len(run) >= RUN_PIECES):
                _write_run(descriptor, run, run_end - run_bytes)
                run, run_bytes = [], 0
            run.append(inner)
            run_end, run_bytes = stop, run_bytes + len(inner)
        offset = end
        yield len(piece)
    if run:
        _write_run(descriptor, run, run_end - run_bytes)


def _split(start: int, end: int, holes: Sequence[Extent]) -> Iterator[tuple[int, int, bool]]:
    """Divide start..end at the borders of the holes: (start, end, whether it is in one)."""
    number = bisect_right(holes, start, key=lambda hole: sum(hole))
    for hole_start, length in islice(holes, number, None):
        if hole_start >= end:
            break
        if start < hole_start:
            yield start, hole_start, False
            start = hole_start
        stop = min(hole_start + length, end)
        yield start, stop, True
        start = stop
    if start < end:
        yield start, end, False


_ZEROS: Final = bytes(1024 * 1024)


def _has_content(data: memoryview) -> bool:
    """Whether any byte is not zero."""
    return any(
        bytes(data[start : start + len(_ZEROS)]) != _ZEROS[: len(data) - start]
        for start in range(0, len(data), len(_ZEROS))
    )


def _write_run(descriptor: int, run: Sequence[memoryview], offset: int) -> None:
    """Write these in one call: each one waits for other threads when it returns."""
    size = sum(map(len, run))
    written = os.pwritev(descriptor, run, offset)
    if written < size:
        _write_all(descriptor, memoryview(b"".join(run))[written:], offset + written)


def _write_all(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


# -- metadata -----------------------------------------------------------------------------------


Owner = tuple[int, int]
"""Numbers of user and group."""


def owner_of(descriptor: int) -> Owner:
    found = os.fstat(descriptor)
    return found.st_uid, found.st_gid


def set_metadata(
    descriptor: int, stat: RestoredStat, *, mode: int | None, owner: Owner | None = None
) -> list[OSError]:
    """Give an open file or directory its owner, attributes, mode and, last, its mtime.

    owner: whom it belongs to now, where that is known. Returns what could not be set of the
    attributes, and would have been with the rights at hand.
    """
    is_root = os.geteuid() == 0
    if is_root:
        wanted = owner_number(stat), group_number(stat)
        if wanted != owner:
            os.fchown(descriptor, *wanted)
    problems = _set_xattrs(descriptor, stat, is_root) if stat.xattrs else []
    if mode is not None:
        os.fchmod(descriptor, mode)
    if stat.mtime_ns is not None:
        os.utime(descriptor, ns=(stat.mtime_ns, stat.mtime_ns))
    return problems


def _set_xattrs(descriptor: int, stat: RestoredStat, is_root: bool) -> list[OSError]:
    problems = []
    for name, value in stat.xattrs.items():
        try:
            os.setxattr(descriptor, name, value)
        except OSError as error:
            own = name.startswith((b"user.", b"system."))
            if is_root or own or error.errno not in (EPERM, ENOTSUP):
                problems.append(error)
    return problems


def set_link_metadata(folder: int, name: bytes, stat: RestoredStat) -> None:
    """Give a node that can't be opened, or is a link, its owner, mode and mtime."""
    if os.geteuid() == 0:
        numbers = owner_number(stat), group_number(stat)
        os.chown(name, *numbers, dir_fd=folder, follow_symlinks=False)
        for attribute, value in stat.xattrs.items():
            os.setxattr(
                b"/proc/self/fd/%d/%s" % (folder, name), attribute, value, follow_symlinks=False
            )
    if stat.mode is not None:  # not a link: those have no mode
        os.chmod(name, stat.mode, dir_fd=folder)
    if stat.mtime_ns is not None:
        times = (stat.mtime_ns, stat.mtime_ns)
        os.utime(name, ns=times, dir_fd=folder, follow_symlinks=False)


def owner_number(stat: RestoredStat) -> int:
    """The user's number here: by name where this machine knows it; -1 to leave it."""
    number = _user_number(stat.user) if stat.user else None
    number = stat.uid if number is None else number
    return -1 if number is None else number


def group_number(stat: RestoredStat) -> int:
    number = _group_number(stat.group) if stat.group else None
    number = stat.gid if number is None else number
    return -1 if number is None else number


@lru_cache(maxsize=1024)
def _user_number(name: str) -> int | None:
    import pwd

    with suppress(KeyError, ValueError):
        return pwd.getpwnam(name).pw_uid
    return None


@lru_cache(maxsize=1024)
def _group_number(name: str) -> int | None:
    import grp

    with suppress(KeyError, ValueError):
        return grp.getgrnam(name).gr_gid
    return None


# -- other nodes --------------------------------------------------------------------------------


def make_link(folder: int, name: bytes, target: bytes) -> None:
    """Make a symbolic link. One that is there already with this target stays."""
    with suppress(OSError):
        if os.readlink(name, dir_fd=folder) == target:
            return
    put_in_place(folder, name, lambda temporary: os.symlink(target, temporary, dir_fd=folder))


def make_special(folder: int, name: bytes, kind: str, device: Device | None) -> None:
    """Make a fifo, a socket or, given its numbers, a device. One of the same kind stays.

    Raises Unsupported for a device without the rights for it.
    """
    wanted, number = _special(kind, device)
    with suppress(OSError):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if modes.S_IFMT(found.st_mode) == wanted and found.st_rdev == number:
            return
    try:
        put_in_place(
            folder,
            name,
            lambda temporary: os.mknod(temporary, wanted | PRIVATE_MODE, number, dir_fd=folder),
        )
    except PermissionError:
        if device is None:
            raise
        raise Unsupported("restore", os.fsdecode(name), "a device: only root can make it") from None


def _special(kind: str, device: Device | None) -> tuple[int, int]:
    if device is not None:
        letter, major, minor = device
        return (modes.S_IFCHR if letter == "c" else modes.S_IFBLK), os.makedev(major, minor)
    return (modes.S_IFIFO if kind == "fifo" else modes.S_IFSOCK), 0


def make_hard_link(top: int, source: Sequence[bytes], folder: int, name: bytes) -> None:
    """Give a file below `top` another name. A name that is there is replaced."""
    with opened_folder(top, source[:-1]) as source_folder:
        found = os.stat(source[-1], dir_fd=source_folder, follow_symlinks=False)
        with suppress(FileNotFoundError):
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if (there.st_ino, there.st_dev) == (found.st_ino, found.st_dev):
                return
        try:
            os.link(
                source[-1],
                name,
                src_dir_fd=source_folder,
                dst_dir_fd=folder,
                follow_symlinks=False,
            )
        except OSError as error:
            if error.errno != EEXIST:
                raise
            put_in_place(
                folder,
                name,
                lambda temporary: os.link(
                    source[-1],
                    temporary,
                    src_dir_fd=source_folder,
                    dst_dir_fd=folder,
                    follow_symlinks=False,
                ),
            )
