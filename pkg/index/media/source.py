"""Random access to content, and numbers out of it, within bounds."""

from typing import Protocol

from ...errors import Corrupt


class Source(Protocol):
    """Content of a known length."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer at the end, none behind it."""
        ...


class BytesSource:
    """Content in memory."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class Section:
    """A stretch of another source, cut at that one's end."""

    __slots__ = ("_offset", "_source", "size")

    def __init__(self, source: Source, offset: int, size: int) -> None:
        self._source = source
        self._offset = offset
        self.size = max(0, min(size, source.size - offset))

    def read(self, offset: int, length: int) -> bytes:
        return self._source.read(self._offset + offset, max(0, min(length, self.size - offset)))


def take(source: Source, offset: int, length: int) -> bytes:
    """Exactly `length` bytes. Raises Corrupt where the content ends before."""
    data = source.read(offset, length) if offset >= 0 else b""
    if len(data) != length:
        raise Corrupt("read", "media", f"ends before {offset + length}")
    return data


def number(source: Source, offset: int, length: int, big_endian: bool = True) -> int:
    """An unsigned integer of `length` bytes. Raises Corrupt where the content ends before."""
    return int.from_bytes(take(source, offset, length), "big" if big_endian else "little")
