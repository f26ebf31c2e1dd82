"""Blobs in large pack files, as Perkeep's `storage-diskpacked` keeps them (README.md)."""

from .store import DiskPacked as DiskPacked
from .walk import Damaged as Damaged
