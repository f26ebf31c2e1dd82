"""The store that lies in a folder, when only the folder is named (README.md, "Folders")."""

from pathlib import Path
from typing import Final

from ..errors import ConfigError
from .diskpacked import DiskPacked
from .localdisk import LocalDisk

INDEXES: Final = tuple(
    (f"{name}.{kind}", kind)
    for name in ("index", "diskpacked-index")
    for kind in ("leveldb", "sqlite", "lmdb")
)
"""The names that a packed store's index has beside the packs, and its type."""

PACK: Final = "pack-00000.blobs"
HASHES: Final = ("sha1", "sha224", "sha256")


def open_folder(folder: Path, *, packs_if_new: bool = False) -> LocalDisk | DiskPacked:
    """Open what is there: packs or loose blobs. Of a folder with neither: packs, if asked for.

    Raises ConfigError where the folder is missing or keeps a part of its blobs in zips, and
    what opening raises.
    """
    if _has_blobs(folder / "packed"):
        raise ConfigError("open", folder, "its blobs lie in zips too: name its server instead")
    args: dict[str, object] = {"path": str(folder)}
    for name, kind in INDEXES:
        if (folder / name).exists():
            args["metaIndex"] = {"type": kind, "file": str(folder / name)}
            break
    is_packed = len(args) > 1 or (folder / PACK).exists()
    if is_packed or (packs_if_new and not _has_blobs(folder)):
        return DiskPacked.from_config(args, _no_store)
    return LocalDisk(folder)


def _has_blobs(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in HASHES)


def _no_store(prefix: str) -> LocalDisk:
    raise ConfigError("open", prefix, "a folder names no other stores")
