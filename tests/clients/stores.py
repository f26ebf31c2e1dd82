"""Backup and restore against a store in memory, and what tests need to look inside."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.remote import Uploaded
from peatkeep.clients.backup import Backup, Hooks
from peatkeep.clients.caches import UploadCache
from peatkeep.clients.files import Copies, FileOptions, FileStorer
from peatkeep.clients.progress import Progress
from peatkeep.clients.restore import Restore
from peatkeep.clients.targets import StorageTarget
from peatkeep.clients.uploader import Uploader

LATER_NS = 4_000_000_000_000_000_000
"""A clock that stands in 2096: every file was changed long ago."""


class Target(StorageTarget):
    """A store in memory that records the requests: the refs of each, in order."""

    def __init__(self) -> None:
        self.memory = Memory()
        super().__init__(self.memory)
        self.requests: list[list[Ref]] = []
        self.before: Callable[[Sequence[tuple[Ref, bytes]]], None] = lambda batch: None

    def upload(self, batch: Sequence[tuple[Ref, bytes]], vivify: bool = False) -> Uploaded:
        self.before(batch)
        outcome = super().upload(batch, vivify)
        self.requests.append([ref for ref, _ in batch])
        return outcome

    @property
    def sent(self) -> list[Ref]:
        return [ref for request in self.requests for ref in request]


def put(
    target: Target,
    path: os.PathLike[str] | str,
    *,
    cache: UploadCache | None = None,
    options: FileOptions | None = None,
    progress: Progress | None = None,
    hooks: Hooks | None = None,
    copies: Copies | None = None,
    now_ns: int = LATER_NS,
) -> Ref | None:
    """Put one path as pk-put does."""
    cache = cache or UploadCache(None)
    progress = progress or Progress()
    uploader = Uploader(target, cache, progress.sent)
    files = FileStorer(uploader, options or FileOptions(), copies)
    backup = Backup(uploader, cache, files, progress, hooks or Hooks(), lambda: now_ns)
    try:
        return backup.put(os.fsencode(path))
    finally:
        backup.close()
        uploader.stop()


def restore(target: Target, ref: Ref, out: Path, progress: Progress | None = None) -> Progress:
    progress = progress or Progress()
    Restore(target, os.fsencode(out), progress).restore(ref)
    return progress
