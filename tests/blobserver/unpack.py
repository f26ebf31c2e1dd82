"""Golden storage directories, unpacked into a temporary folder."""

import json
from pathlib import Path
from typing import Any

from tests.archives import extract_all

SETS = Path(__file__).parent.parent / "vectors" / "storage"


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SETS / f"{name}.json").read_text())
    return found


def unpack(name: str, folder: Path) -> Path:
    """Unpack a set; returns its folder."""
    extract_all(SETS / f"{name}.tar.xz", folder)
    return folder / name
