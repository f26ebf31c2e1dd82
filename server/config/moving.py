"""High level: blobs that are moving from one store to another (README.md, "Migration")."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .high_keys import LEAVE_DAMAGED, MIGRATION, refuse
from .remotes import add_remotes, s3_args

if TYPE_CHECKING:
    from .high_level import Conversion


def add_migration(conversion: Conversion) -> None:
    """Mount the store of the keys above, that of the table, and as `/bs/` one that is both."""
    high, settings = conversion.high, conversion.high["migration"]
    assert isinstance(settings, Mapping)
    old = conversion.like(_primary(high))
    new = conversion.like({key: settings[key] for key in settings.keys() & MIGRATION})
    _check(conversion, old, new)
    for name, one in (("old", old), ("new", new)):
        one.check_storage()
        one.add_storage()
        add_remotes(one)
        for prefix, entry in one.prefixes.items():
            conversion.prefixes[_renamed(prefix, name)] = entry
            args = entry["handlerArgs"]
            assert isinstance(args, dict)
            for key in args.keys() & {"smallBlobs", "largeBlobs"}:
                args[key] = _renamed(args[key], name)
    leave = {LEAVE_DAMAGED: True} if settings.get(LEAVE_DAMAGED) else {}
    both = {"from": "/bs-old/", "to": "/bs-new/", "removed": _rows(conversion, new)}
    conversion.add("/bs/", "storage-migrate", {**both, **leave})
    # What is the old store is not a copy beside `/bs/`, too.
    if not old.blob_path:
        conversion.high = {key: high[key] for key in high.keys() - {"s3"}}


def _primary(high: Mapping[str, object]) -> dict[str, object]:
    """The keys of the store that holds the blobs: without those of copies."""
    wanted = MIGRATION - {"s3"} if high.get("blobPath") else MIGRATION - {"blobPath"}
    return {key: high[key] for key in high.keys() & wanted}


def _check(conversion: Conversion, old: Conversion, new: Conversion) -> None:
    if not (old.blob_path or old.text("s3")) or bool(new.blob_path) == bool(new.text("s3")):
        refuse("migration needs a blobPath or s3, and moves to another blobPath or s3")
    if old.blob_path and conversion.text("s3") and new.text("s3"):
        refuse("migration.s3 can't be used while s3 names a copy of the blobs")
    if old.blob_path and new.blob_path:
        if posixpath.normpath(new.blob_path) == posixpath.normpath(old.blob_path):
            refuse("migration.blobPath must be another folder than blobPath")
    elif old.text("s3") and new.text("s3"):
        if _bucket(old) == _bucket(new):
            refuse("migration.s3 must be another bucket or folder than s3")
        if old.packs_related and new.packs_related:
            refuse("migration can't move packs from bucket to bucket: both have one index of packs")


def _bucket(conversion: Conversion) -> tuple[str, object]:
    args = s3_args(conversion.text("s3"))
    return str(args["bucket"]).strip("/"), args.get("hostname")


def _rows(conversion: Conversion, new: Conversion) -> dict[str, object]:
    """Where it is remembered what is removed meanwhile: this must outlast a restart."""
    folder = new.blob_path or conversion.queue_dir()
    stem = posixpath.join(folder, "migration-removed") if folder else ""
    if conversion.high.get("memoryIndex") and stem:
        return conversion.file_store(stem)
    rows = conversion.sorted_store("migration", stem)
    if rows is None or (not stem and rows["type"] == "memory"):
        refuse("migration between buckets needs a folder for its rows: that of an index in a file")
    return rows


def _renamed(prefix: str, name: str) -> str:
    """`/bs-loose/` of the old store is `/bs-old-loose/`."""
    return prefix.replace("/bs", f"/bs-{name}", 1)
