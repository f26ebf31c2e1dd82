"""Compare two directory trees, or two files, in everything that a backup should keep.

    compare_trees.py A B [--owners]

Kinds, bytes, modes (12 bits), modification times to the nanosecond, link targets, hard-link
groups, holes and extended attributes. Prints one line for each difference; exits 1 if there is
any. Imports nothing of peatkeep.
"""

import argparse
import os
import stat
import sys
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

PIECE_BYTES = 1 << 20

Extents = list[tuple[int, int]]


class Difference(NamedTuple):
    path: bytes  # below the two roots; b"." is the root
    aspect: str
    first: object
    second: object

    def __str__(self) -> str:
        return f"{os.fsdecode(self.path)!r}: {self.aspect}: {self.first!r} != {self.second!r}"


def differences(
    first: os.PathLike[str] | str, second: os.PathLike[str] | str, *, owners: bool = False
) -> Iterator[Difference]:
    """Yield what differs, in the order of the paths; symbolic links are never followed.

    owners: compare user and group too.
    """
    roots = os.fsencode(first), os.fsencode(second)
    links: list[dict[tuple[int, int], list[bytes]]] = [defaultdict(list), defaultdict(list)]
    for path in walk(*roots):
        full = [os.path.normpath(os.path.join(root, path)) for root in roots]
        stats = [lstat(name) for name in full]
        if stats[0] is None or stats[1] is None:
            yield Difference(path, "there", stats[0] is not None, stats[1] is not None)
            continue
        for place, found in zip(links, stats, strict=True):
            if found is not None and found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
                place[found.st_dev, found.st_ino].append(path)
        facts = [plain_facts(name, owners) for name in full]
        for aspect in facts[0]:
            if facts[0][aspect] != facts[1][aspect]:
                yield Difference(path, aspect, facts[0][aspect], facts[1][aspect])
        if stat.S_ISREG(stats[0].st_mode) and stat.S_ISREG(stats[1].st_mode):
            if stats[0].st_size != stats[1].st_size:
                continue  # told above
            offset = first_different_byte(full[0], full[1])
            if offset is not None:
                yield Difference(path, "bytes", f"from offset {offset}", "")
    groups = [
        sorted(sorted(names) for names in place.values() if len(names) > 1) for place in links
    ]
    if groups[0] != groups[1]:
        missing = [group for group in groups[0] if group not in groups[1]]
        surplus = [group for group in groups[1] if group not in groups[0]]
        yield Difference(b".", "hard links", missing, surplus)


def walk(*roots: bytes) -> Iterator[bytes]:
    """Yield every path below any of the roots once, parents first, sorted within a folder."""
    pending = [b"."]
    while pending:
        path = pending.pop()
        yield path
        names: set[bytes] = set()
        for root in roots:
            folder = os.path.join(root, path)
            if os.path.isdir(folder) and not os.path.islink(folder.removesuffix(b"/.")):
                names.update(os.listdir(folder))
        pending += [os.path.normpath(os.path.join(path, name)) for name in sorted(names)[::-1]]


def lstat(path: bytes) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def plain_facts(path: bytes, owners: bool) -> dict[str, object]:
    """What is compared as it is, by name. A socket or fifo has no size worth comparing."""
    found = os.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    regular, link = kind == stat.S_IFREG, kind == stat.S_IFLNK
    return {
        "kind": f"{kind:#o}",
        "size": found.st_size if regular else None,
        "mode": None if link else f"{stat.S_IMODE(found.st_mode):04o}",
        "mtime": found.st_mtime_ns,
        "target": os.readlink(path) if link else None,
        "owner": (found.st_uid, found.st_gid) if owners else None,
        "holes": data_extents(path) if regular else None,
        "xattrs": extended_attributes(path),
    }


def extended_attributes(path: bytes) -> dict[str, bytes]:
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
        if name.startswith("user.")
    }


def data_extents(path: bytes) -> Extents:
    """The parts of a file that occupy the disk, as (begin, end) in bytes, in order."""
    extents: Extents = []
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        end = 0
        while end < size:
            try:
                begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole up to the end
                break
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            extents.append((begin, end))
    return extents


def first_different_byte(first: bytes, second: bytes) -> int | None:
    """Where two files of equal size differ first; places that are holes in both are skipped."""
    extents = merged(data_extents(first) + data_extents(second))
    with open(first, "rb", buffering=0) as a, open(second, "rb", buffering=0) as b:
        for begin, end in extents:
            for offset in range(begin, end, PIECE_BYTES):
                length = min(PIECE_BYTES, end - offset)
                pieces = [os.pread(file.fileno(), length, offset) for file in (a, b)]
                if pieces[0] != pieces[1]:
                    pairs = enumerate(zip(*pieces, strict=False))
                    return next((offset + i for i, (x, y) in pairs if x != y), offset)
    return None


def merged(extents: Extents) -> Extents:
    """Overlapping extents made one; ascending."""
    joined: Extents = []
    for begin, end in sorted(extents):
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare two trees in all that a backup keeps.")
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--owners", action="store_true", help="compare user and group too")
    options = parser.parse_args()
    count = 0
    for difference in differences(options.first, options.second, owners=options.owners):
        print(difference)
        count += 1
    print(f"compare_trees: {count} differences")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
