"""Whole files in zips, the rest loose, as Perkeep's `storage-blobpacked` keeps them (README.md)."""

from .store import BlobPacked as BlobPacked
from .survey import Damaged as Damaged
