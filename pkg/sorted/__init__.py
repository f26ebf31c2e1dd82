"""Sorted key-value stores: the rows of indexes, queues and caches.

Never write `from peatkeep import sorted`: it hides the builtin.
"""
