"""The folder tree of loose blobs: one file for each (pkg/blobserver/README.md, "localdisk")."""

import stat
from collections.abc import Iterator
from typing import Final

from ..blob import Ref, SizedRef, parse_ref
from .filesystem import FileSystem, translate

RESERVED: Final = frozenset({"partition", "cache", "packed"})
"""Names in the root that belong to other stores, never to a hash."""

SUFFIX: Final = ".dat"

DEEPEST: Final = 6
"""Levels of folders in which strays are looked for."""


def folder_of(ref: Ref) -> str:
    """The folder of a blob, relative to the root: `sha224/ea/09`; short digests are padded."""
    hash_name, _, digits = ref.partition("-")
    if len(digits) < 4:
        digits += "____"
    return f"{hash_name}/{digits[:2]}/{digits[2:4]}"


def path_of(root: str, ref: Ref) -> str:
    return f"{root}/{folder_of(ref)}/{ref}{SUFFIX}"


def walk(root: str, after: str, files: FileSystem) -> Iterator[SizedRef]:
    """Yield the blobs that lie where `folder_of` puts them, in ref order, lazily.

    Strays are passed over, so is what vanishes on the way. Raises Unavailable where a folder
    can't be listed: an incomplete listing must never look like a complete one.
    """
    for hash_name in sorted(_names(root, files)):
        if hash_name in RESERVED or not hash_name.isalnum():
            continue
        for outer in _shards(f"{root}/{hash_name}", f"{hash_name}-", after, files):
            prefix = f"{hash_name}-{outer.rstrip('_')}"
            for inner in _shards(f"{root}/{hash_name}/{outer}", prefix, after, files):
                yield from _blobs(root, f"{hash_name}/{outer}/{inner}", after, files)


def _shards(path: str, prefix: str, after: str, files: FileSystem) -> list[str]:
    """The two-character folders below, in ref order, that may hold refs greater than `after`.

    prefix: what the refs in this folder begin with.
    """
    found = []
    for name in _names(path, files):
        if len(name) != 2:
            continue
        begin = prefix + name.rstrip("_")
        # Every ref below begins so: none is greater if `after` is greater at these characters.
        if after[: len(begin)] <= begin:
            found.append(name)
    return sorted(found, key=lambda name: name.rstrip("_"))


def _blobs(root: str, folder: str, after: str, files: FileSystem) -> Iterator[SizedRef]:
    refs = []
    for name in _names(f"{root}/{folder}", files):
        if name.endswith(SUFFIX):
            ref = parse_ref(name[: -len(SUFFIX)])
            if ref is not None and ref > after and folder_of(ref) == folder:
                refs.append(ref)
    for ref in sorted(refs):
        path = f"{root}/{folder}/{ref}{SUFFIX}"
        try:
            status = files.status(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise translate(error, "stat", path) from error
        if stat.S_ISREG(status.st_mode):
            yield SizedRef(ref, status.st_size)


def strays(root: str, files: FileSystem) -> Iterator[tuple[Ref, str]]:
    """Yield the files that are named like blobs but lie where `folder_of` does not put them.

    In the order of their paths, below the root. Raises Unavailable, as `walk` does.
    """
    folders = [""]
    while folders:
        folder = folders.pop()
        inner = []
        for name in sorted(_names(f"{root}/{folder}", files)):
            ref = parse_ref(name.removesuffix(SUFFIX)) if name.endswith(SUFFIX) else None
            if ref is not None and folder_of(ref) != folder:
                yield ref, f"{folder}/{name}".lstrip("/")
            elif ref is None and "." not in name and (folder or name not in RESERVED):
                inner.append(f"{folder}/{name}".lstrip("/"))
        if folder.count("/") < DEEPEST:  # not without end where a link leads back up
            folders += reversed(inner)


def _names(path: str, files: FileSystem) -> list[str]:
    try:
        return files.list_folder(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise translate(error, "list", path) from error
