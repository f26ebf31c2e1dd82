"""Blobs fetched before, kept on disk for a while: small ones, up to a limit."""

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from ..blob import Ref
from ..blobserver.framing import Found
from ..errors import Corrupt, NotFound

LARGEST_BYTES: Final = 1024 * 1024
"""A larger blob is not kept."""

WRITTEN_BYTES: Final = 64 * 1024 * 1024
"""What one run adds at most: it is no place for a whole backup."""

KEPT_BYTES: Final = 512 * 1024 * 1024
"""What is kept over time; the blobs not used for longest go first."""


class BlobCache:
    """A folder of blobs. What is damaged counts as absent; what fails is left out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._room_bytes = WRITTEN_BYTES

    def get(self, ref: Ref) -> bytes | None:
        path = self._path(ref)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if not ref.matches(data):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return data

    def put(self, ref: Ref, data: bytes) -> None:
        if len(data) > LARGEST_BYTES or len(data) > self._room_bytes:
            return
        if self._room_bytes == WRITTEN_BYTES:
            self._prune()
        self._room_bytes -= len(data)
        path = self._path(ref)
        temporary = path.with_name(f"{secrets.token_hex(8)}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary.write_bytes(data)
            temporary.chmod(0o600)
            temporary.rename(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink()

    def _path(self, ref: Ref) -> Path:
        return self._folder / ref.hex_digest[:2] / ref

    def _prune(self) -> None:
        """Make room for what this run may add."""
        found = []
        with suppress(OSError):
            for path in self._folder.glob("*/*"):
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= KEPT_BYTES - WRITTEN_BYTES:
                return
            with suppress(OSError):
                path.unlink()
            total -= size


class Source(Protocol):
    def fetch(self, ref: Ref) -> bytes: ...

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, Found]]: ...


class CachedSource:
    """A source that asks only for what the cache lacks.

    source: gives the source; called when it is needed.
    """

    def __init__(self, cache: BlobCache, source: Callable[[], Source]) -> None:
        self._cache = cache
        self._source = source

    def fetch(self, ref: Ref) -> bytes:
        data = self._cache.get(ref)
        if data is None:
            data = self._source().fetch(ref)
            self._cache.put(ref, data)
        return data

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, Found]]:
        asked = list(refs)
        known = {ref: self._cache.get(ref) for ref in asked}
        unknown = [ref for ref in asked if known[ref] is None]
        fetched = self._source().fetch_many(unknown) if unknown else iter(())
        for ref in asked:
            data = known[ref]
            if data is not None:
                yield ref, data
                continue
            _, found = next(fetched)
            if not isinstance(found, NotFound | Corrupt):
                self._cache.put(ref, found)
            yield ref, found
