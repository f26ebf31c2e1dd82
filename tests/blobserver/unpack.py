"""Golden storage directories, unpacked into a temporary folder."""

import json
import tarfile
from pathlib import Path
from typing import Any

SETS = Path(__file__).parent.parent / "vectors" / "storage"


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SETS / f"{name}.json").read_text())
    return found


def unpack(name: str, folder: Path) -> Path:
    """Unpack a set; returns its folder."""
    with tarfile.open(SETS / f"{name}.tar.xz") as archive:
        archive.extractall(folder, filter="tar")
    return folder / name
