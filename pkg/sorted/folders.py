"""Folders that are durable when made, and the room in them."""

import os
from pathlib import Path


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, mode 0700, and the entries of the new ones durable."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def free_bytes(folder: Path) -> int:
    """What whoever is not root may still write to the file system."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def size_bytes(folder: Path) -> int:
    """The size of the file system."""
    status = os.statvfs(folder)
    return status.f_blocks * status.f_frsize


def sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
