"""Rows in memory, gone with the process."""

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Final, NamedTuple, Self

from .kv import Batch, KeyValue
from .options import Options

_USUAL_CHUNK: Final = 512
"""Rows; small enough that copying a chunk costs microseconds, large enough that there are few."""


class _Chunk(NamedTuple):
    """Neighbouring rows. Never changed once made, so a reader may hold it for as long as it likes.

    keys: ascending, not empty except in the only chunk of an empty store; values: beside them.
    """

    keys: list[bytes]
    values: list[bytes]


class MemoryKeyValue(KeyValue):
    """A list of immutable chunks of rows; a commit replaces the chunks that it touches.

    A snapshot is therefore a copy of the list of chunks, not of the rows.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._firsts: list[bytes] = [b""]  # chunk i holds keys from firsts[i] up to firsts[i + 1]
        self._chunks: list[_Chunk] = [_Chunk([], [])]

    @classmethod
    def from_config(cls, args: Mapping[str, object]) -> Self:
        with Options("memory", args):
            return cls()

    def get(self, key: bytes) -> bytes | None:
        with self._lock:
            chunk = self._chunks[self._at(key)]
        place = bisect_left(chunk.keys, key)
        if place < len(chunk.keys) and chunk.keys[place] == key:
            return chunk.values[place]
        return None

    def find(self, start: bytes = b"", end: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        with self._lock:
            last = self._at(end) if end else len(self._chunks) - 1
            snapshot = self._chunks[self._at(start) : last + 1]
        for chunk in snapshot:
            begin = bisect_left(chunk.keys, start)
            stop = bisect_left(chunk.keys, end) if end else len(chunk.keys)
            for place in range(begin, stop):
                yield chunk.keys[place], chunk.values[place]

    def commit(self, batch: Batch, durable: bool = True) -> None:  # noqa: ARG002
        last_words = sorted(dict(batch.operations).items())
        with self._lock:
            # From the last chunk to the first: replacing one moves only those behind it.
            by_chunk = [
                (at, list(rows)) for at, rows in groupby(last_words, lambda row: self._at(row[0]))
            ]
            for at, rows in reversed(by_chunk):
                self._replace(at, _merged(self._chunks[at], rows))

    def wipe(self) -> None:
        with self._lock:
            self._firsts = [b""]
            self._chunks = [_Chunk([], [])]

    def close(self) -> None:
        """Nothing is held open."""

    def _at(self, key: bytes) -> int:
        """The number of the chunk in whose span the key lies."""
        return bisect_right(self._firsts, key) - 1

    def _replace(self, at: int, chunk: _Chunk) -> None:
        pieces = [chunk]
        if len(chunk.keys) > 2 * _USUAL_CHUNK:
            pieces = [
                _Chunk(chunk.keys[i : i + _USUAL_CHUNK], chunk.values[i : i + _USUAL_CHUNK])
                for i in range(0, len(chunk.keys), _USUAL_CHUNK)
            ]
        elif not chunk.keys and at > 0:
            pieces = []
        # The first piece keeps the border that the chunk had: keys below its first row may come.
        firsts = [self._firsts[at], *(piece.keys[0] for piece in pieces[1:])]
        self._chunks[at : at + 1] = pieces
        self._firsts[at : at + 1] = firsts[: len(pieces)]


def _merged(chunk: _Chunk, changes: list[tuple[bytes, bytes | None]]) -> _Chunk:
    """The chunk with the changes made; they are in key order, each key once, None deletes."""
    if len(changes) > 16:
        rows: dict[bytes, bytes | None] = dict(zip(chunk.keys, chunk.values, strict=True))
        rows.update(changes)
        kept = sorted((key, value) for key, value in rows.items() if value is not None)
        return _Chunk([key for key, _ in kept], [value for _, value in kept])
    keys, values = chunk.keys.copy(), chunk.values.copy()
    for key, value in changes:
        place = bisect_left(keys, key)
        there = place < len(keys) and keys[place] == key
        if value is None:
            if there:
                del keys[place], values[place]
        elif there:
            values[place] = value
        else:
            keys.insert(place, key)
            values.insert(place, value)
    return _Chunk(keys, values)
