"""Where extraction gets blobs from: the batch in hand, what came just before, then the store."""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from ..blob import Fetcher, Ref
from ..errors import Corrupt, Invalid
from ..schema.filereader import Leaf
from .begun import Begun

if TYPE_CHECKING:
    from hashlib import _Hash

RECENT_BYTES: Final = 16 * 1024 * 1024
"""Chunks that arrived last: most files of a backup are described by then by a blob behind them."""

RECENT_REFS: Final = 16_384
"""Chunks that are known to have been verified when they arrived: of the last 4 GiB, in 14 MB."""


class RangeReader(Protocol):
    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`, unverified. Raises NotFound, Corrupt, Invalid."""
        ...


class Source(Fetcher, RangeReader, Protocol):
    """What extraction reads from: a range of it holds what verified blobs hold."""


class FileSource(Source, Protocol):
    """What files are read from."""

    def begun(self, leaves: Iterator[Leaf]) -> tuple["_Hash", list[Leaf]]:
        """The digest of the first leaves of a file, as far as it is known by now; and those of
        the leaves taken from the iterator that are not in it."""
        ...


class Recent:
    """A bounded memory of the verified blobs that arrived last. Safe to use from many threads."""

    def __init__(self, limit_bytes: int = RECENT_BYTES) -> None:
        """limit_bytes: of the blobs that are kept; with 0 none is even known."""
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._blobs: OrderedDict[Ref, bytes] = OrderedDict()
        self._size_bytes = 0
        self._refs: OrderedDict[Ref, None] = OrderedDict()
        self.begun: Final = Begun()
        """Of the files whose beginning is not kept here any more."""

    def add(self, blobs: Iterable[tuple[Ref, bytes]]) -> None:
        with self._lock:
            for ref, data in blobs:
                self._refs[ref] = None
                if ref not in self._blobs:
                    self._blobs[ref] = data
                    self._size_bytes += len(data)
            while self._size_bytes > self._limit_bytes:
                ref, data = self._blobs.popitem(last=False)
                self._size_bytes -= len(data)
                self.begun.add(ref, data)
            while len(self._refs) > (RECENT_REFS if self._limit_bytes else 0):
                self._refs.popitem(last=False)

    def get(self, ref: Ref) -> bytes | None:
        return self._blobs.get(ref)

    def knows(self, ref: Ref) -> bool:
        """Whether the blob arrived here, of late: it was verified, whether or not it is kept."""
        return ref in self._refs


class LocalFirst:
    """A Fetcher that looks into a batch and a memory first: none of them is read from the store."""

    __slots__ = ("_batch", "_blobs", "_recent")

    def __init__(self, batch: Mapping[Ref, bytes], recent: Recent, blobs: Source) -> None:
        self._batch = batch
        self._recent = recent
        self._blobs = blobs

    def fetch(self, ref: Ref) -> bytes:
        data = self._kept(ref)
        return data if data is not None else self._blobs.fetch(ref)

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        """A chunk that was verified when it arrived, a moment ago, is not hashed once more."""
        data = self._kept(ref)
        if data is None and self._recent.knows(ref):
            try:
                part = self._blobs.read_range(ref, offset, length)
            except (Corrupt, Invalid):
                part = b""
            if len(part) == length:
                return part
        if data is None:
            data = self._blobs.fetch(ref)
        return data if len(data) == length else data[offset : offset + length]

    def begun(self, leaves: Iterator[Leaf]) -> tuple["_Hash", list[Leaf]]:
        return self._recent.begun.digest(leaves)

    def _kept(self, ref: Ref) -> bytes | None:
        data = self._batch.get(ref)
        return data if data is not None else self._recent.get(ref)
