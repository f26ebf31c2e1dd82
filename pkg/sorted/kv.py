"""The sorted key-value contract: rows of bytes in byte order."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Self

from ..errors import Invalid, TooLarge

MAX_KEY_SIZE: Final = 767
MAX_VALUE_SIZE: Final = 63_000
"""Bytes; Perkeep's limits, so that every row fits every engine."""


class Batch:
    """Writes that are committed together, in order: the last word on a key counts.

    frees_room: whether room on the disk is given back by it, so that a reserve may be used.
    """

    __slots__ = ("frees_room", "operations")

    def __init__(self, frees_room: bool = False) -> None:
        self.frees_room = frees_room
        self.operations: list[tuple[bytes, bytes | None]] = []

    def set(self, key: bytes, value: bytes) -> None:
        """Raises TooLarge, or Invalid for what would not fit SQL TEXT, before anything is kept."""
        check_row(key, value)
        self.operations.append((key, value))

    def add_plain(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Set rows that are known to fit: of ASCII without NUL, and far below the limits."""
        self.operations += rows

    def delete(self, key: bytes) -> None:
        self.operations.append((key, None))

    def __len__(self) -> int:
        return len(self.operations)


class KeyValue(ABC):
    """Rows in byte order of their keys. Methods are safe to call from many threads."""

    @abstractmethod
    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""

    @abstractmethod
    def find(self, start: bytes = b"", end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows with start <= key < end, ascending; an empty end is open.

        A snapshot of the moment of the first step: later commits do not show. The caller closes
        the iterator (or exhausts it); writers are never blocked by it.
        """

    @abstractmethod
    def commit(self, batch: Batch, durable: bool = True) -> None:
        """Apply the batch atomically, in order. With `durable` it survives a power cut."""

    @abstractmethod
    def wipe(self) -> None:
        """Delete every row."""

    @abstractmethod
    def close(self) -> None:
        """Give back locks and files."""

    def bulk(self) -> AbstractContextManager[None]:
        """Around very many commits that need not be durable: an engine may take more memory.

        Others may read and write meanwhile, but a find that is under way at the beginning or at
        the end of it may be cut off by Unavailable.
        """
        return nullcontext()

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The rows that are there, by key."""
        found = {}
        for key in keys:
            value = self.get(key)
            if value is not None:
                found[key] = value
        return found

    def set(self, key: bytes, value: bytes) -> None:
        """Commit one row durably."""
        batch = Batch()
        batch.set(key, value)
        self.commit(batch)

    def delete(self, key: bytes) -> None:
        """Delete one row durably; an absent one is no error."""
        batch = Batch()
        batch.delete(key)
        self.commit(batch)

    def prefixed(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the rows whose key begins with the prefix, ascending."""
        return self.find(prefix, after_prefix(prefix))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def after_prefix(prefix: bytes) -> bytes:
    """The smallest key above every key that begins with the prefix; b"" (open) if none is."""
    head = prefix.rstrip(b"\xff")
    return head[:-1] + bytes([head[-1] + 1]) if head else b""


def check_row(key: bytes, value: bytes) -> None:
    """Raise TooLarge or Invalid unless the row fits every engine (valid UTF-8 without NUL)."""
    if len(key) > MAX_KEY_SIZE:
        raise TooLarge("set", key[:60], f"key of {len(key)} bytes is over {MAX_KEY_SIZE}")
    if len(value) > MAX_VALUE_SIZE:
        raise TooLarge("set", key[:60], f"value of {len(value)} bytes is over {MAX_VALUE_SIZE}")
    for part in (key, value):
        if not part.isascii():
            _check_utf8(key, part)
        if b"\0" in part:
            raise Invalid("set", key[:60], "contains NUL")


def _check_utf8(key: bytes, part: bytes) -> None:
    try:
        part.decode()
    except UnicodeDecodeError:
        raise Invalid("set", key[:60], "not valid UTF-8") from None
