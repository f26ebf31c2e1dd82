"""Compression of single blobs; the codec is the caller's, so it can run in a thread of its own."""

from typing import NamedTuple, Protocol

from ...errors import Corrupt


class Codec(Protocol):
    """zstd at some level; `zstd.Zstd` is one. Not for two threads at once."""

    def compress(self, data: bytes) -> bytes:
        """One zstd frame."""
        ...

    def decompress(self, data: bytes | memoryview, size: int) -> bytes:
        """What the frame holds, never much more than `size` bytes. Raises Corrupt."""
        ...


class Packed(NamedTuple):
    """What travels: the bytes as they are, or (`packed`) compressed to fewer."""

    data: bytes
    packed: bool


def pack(codec: Codec | None, data: bytes) -> Packed:
    """Compress, unless that does not make it smaller."""
    if codec is not None and data:
        smaller = codec.compress(data)
        if len(smaller) < len(data):
            return Packed(smaller, True)
    return Packed(data, False)


def unpack(codec: Codec, data: bytes | memoryview, size: int) -> bytes:
    """Undo `pack`. Raises Corrupt unless `size` bytes come out."""
    plain = codec.decompress(data, size)
    if len(plain) != size:
        raise Corrupt("unpack", "blob", f"{len(plain)} bytes came out instead of {size}")
    return plain
