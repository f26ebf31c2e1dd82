"""Folders that a high-level configuration takes for granted are made before the stores open."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from ...errors import ConfigError
from .record import LowConfig, Prefix

_STORES: Final = ("", "-loose", "-packed")
_LOCAL: Final = (
    *(f"/bs{part}/" for part in _STORES),
    *(f"/bs-old{part}/" for part in _STORES),
    *(f"/bs-new{part}/" for part in _STORES),
    "/cache/",
)
_FILLED: Final = ("/bs/", "/bs-loose/", "/bs-old/", "/bs-old-loose/")
"""Where blobs are that an index knows."""

_WITH_FOLDER: Final = ("storage-filesystem", "storage-diskpacked")


def folders_of(prefixes: Mapping[str, Prefix]) -> tuple[Path, ...]:
    """Return the folders of the stores that a high-level configuration makes from `blobPath`."""
    return _folders(prefixes, _LOCAL)


def _folders(prefixes: Mapping[str, Prefix], paths: Iterable[str]) -> tuple[Path, ...]:
    found = (prefixes[path] for path in paths if path in prefixes)
    return tuple(
        Path(str(prefix.args["path"])) for prefix in found if prefix.handler in _WITH_FOLDER
    )


def make_folders(config: LowConfig) -> None:
    """Make the missing ones of `config.folders`, for the owner only.

    Raises ConfigError where an index is there but its blobs are not: then a disk is not mounted,
    rather than that the store is new.
    """
    index, filled = _index_file(config), _folders(config.prefixes, _FILLED)
    for folder in config.folders:
        if folder.is_dir():
            continue
        if folder in filled and index and index.exists():
            reason = f"the blobs' folder is missing, but their index {index} is there: is a disk"
            raise ConfigError("open", folder, f"{reason} not mounted?")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError("make folder", folder, error.strerror or str(error)) from None


def _index_file(config: LowConfig) -> Path | None:
    prefix = config.prefixes.get("/index/")
    storage = prefix.args.get("storage") if prefix else None
    file = storage.get("file") if isinstance(storage, Mapping) else None
    return Path(file) if isinstance(file, str) and file else None
