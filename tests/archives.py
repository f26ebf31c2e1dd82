"""Unpacking golden archives, on every Python that we support."""

import tarfile
from pathlib import Path


def extract_all(file: Path, folder: Path) -> None:
    """Unpack an archive of ours: modes and all, as they were stored."""
    with tarfile.open(file) as archive:
        # The first releases of Python 3.11 know no `filter` argument; later ones want a filter.
        archive.extraction_filter = lambda member, _: member
        archive.extractall(folder)
