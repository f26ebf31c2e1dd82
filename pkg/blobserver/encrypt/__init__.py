"""Blobs sealed with age before they reach another store, as Perkeep's `storage-encrypt` keeps them
(README.md).

Nothing is imported here: the processes that seal need little of it.
"""
