"""Blobs sealed with age before they reach another store, as Perkeep's `storage-encrypt` keeps them
(README.md)."""

from .store import Encrypt as Encrypt
from .upkeep import Damaged as Damaged
