"""The index seen as a store: what it knows can be listed, what is written is indexed."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from ..blob import Ref, SizedRef
from ..blobserver.storage import Storage
from ..errors import Unsupported
from ..sorted.kv import KeyValue, after_prefix
from .rows import have_key, parse_have

_PREFIX = b"have:"


class IndexStorage(Storage):
    """stat and enumerate by `have` rows; writing indexes at once. It holds no data to fetch."""

    def __init__(
        self, rows: KeyValue, receive: Callable[[Sequence[tuple[Ref, bytes]]], None]
    ) -> None:
        self._rows = rows
        self._receive = receive

    def fetch(self, ref: Ref) -> bytes:
        raise Unsupported("fetch", ref, "an index keeps rows, not blobs")

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        """Index blobs that the index's own store holds. Raises as Index.receive."""
        batch = [(ref, bytes(data)) for ref, data in blobs]
        self._receive(batch)
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def sync(self) -> None:
        """Nothing waits: rows are durable when write_many returns."""

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        keys = {have_key(ref): ref for ref in refs}
        for key, value in self._rows.get_many(keys).items():
            yield SizedRef(keys[key], parse_have(value)[0])

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        start = have_key(after) + b"\0" if after else _PREFIX
        for key, value in self._rows.find(start, after_prefix(_PREFIX)):
            yield SizedRef(Ref.trusted(key[len(_PREFIX) :].decode()), parse_have(value)[0])

    def remove(self, refs: Iterable[Ref]) -> None:
        raise Unsupported("remove", ", ".join(refs)[:100], "rows go with a reindex")
