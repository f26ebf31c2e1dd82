"""A store in front of one other store."""

from collections.abc import Iterable, Iterator

from ..blob import Ref, SizedRef
from ..errors import Corrupt, NotFound
from .storage import Generation, Storage, StreamedBlob


class Forward(Storage):
    """Passes every call on. Subclasses override what they are about, and only that.

    The inner store belongs to whoever passed it in: it is not closed with this one.
    """

    def __init__(self, inner: Storage) -> None:
        self._inner = inner

    def fetch(self, ref: Ref) -> bytes:
        return self._inner.fetch(ref)

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._inner.fetch_range(ref, offset, length)

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._inner.read_range(ref, offset, length)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, bytes | NotFound | Corrupt]]:
        return self._inner.fetch_many(refs)

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        return self._inner.stat(refs)

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        return self._inner.enumerate(after)

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        return self._inner.stream(token)

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        return self._inner.write_many(blobs)

    def sync(self) -> None:
        self._inner.sync()

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        return self._inner.receive_many(blobs)

    def remove(self, refs: Iterable[Ref]) -> None:
        self._inner.remove(refs)

    def generation(self) -> Generation | None:
        return self._inner.generation()

    def reset_generation(self) -> None:
        self._inner.reset_generation()
