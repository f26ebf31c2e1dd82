"""Reads a folder of loose blobs as Perkeep does, without any of our code."""

import hashlib
import re
from pathlib import Path

FILE = re.compile(r"([a-z0-9]+)-([0-9a-f]{4,})\.dat")
FOREIGN = ("packed", "cache", "partition")
"""Folders in the root that belong to other stores."""

GENERATION = "GENERATION.dat"


def read_all(root: Path) -> dict[str, bytes]:
    """Every blob; every digest is checked, and every place."""
    blobs = {}
    for path in root.rglob("*.dat"):
        place = path.relative_to(root).parts
        if place[0] in FOREIGN or place == (GENERATION,):
            continue
        match = FILE.fullmatch(path.name)
        if match is None or place[:-1] != (match[1], match[2][:2], match[2][2:4]):
            raise ValueError(f"{path} is in the wrong place")
        data = path.read_bytes()
        if hashlib.new(match[1], data).hexdigest() != match[2]:
            raise ValueError(f"{path} has another digest")
        blobs[path.stem] = data
    return blobs
