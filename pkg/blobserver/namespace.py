"""A part of a store: the blobs that an inventory names."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, Self

from ..blob import Ref, SizedRef, parse_ref
from ..errors import NotFound
from ..sorted.kv import Batch, KeyValue
from ..sorted.options import Options
from ..sorted.registry import open_kv
from .fanout import Found
from .storage import Storage, StreamedBlob
from .unsynced import Unsynced

_PAGE: Final = 500


class Namespace(Storage):
    """Shows of a store only what came in by this namespace.

    A blob is there if it has a row and the store has it in the size of the row: a row alone would
    say "have it" of a blob that is lost. Removing takes the row, and leaves the blob to others.
    It has no generation: a lost inventory would not show in that of the store.

    The store belongs to whoever passed it in; the inventory is closed with this one.
    """

    def __init__(self, storage: Storage, inventory: KeyValue) -> None:
        """inventory: rows `<ref>` -> decimal size in bytes, as Perkeep has them."""
        self._storage = storage
        self._inventory = inventory
        self._unsynced: Unsynced[int] = Unsynced()

    @classmethod
    def from_config(cls, args: Mapping[str, object], resolve: Callable[[str], Storage]) -> Self:
        """Arguments: storage, inventory (a sorted store)."""
        with Options("storage-namespace", args) as options:
            name = options.string("storage")
            rows = options.table("inventory")
        return cls(resolve(name), open_kv(rows))

    # -- reading --------------------------------------------------------------------------------

    def fetch(self, ref: Ref) -> bytes:
        size = self._sizes([ref]).get(ref)
        if size is None:
            raise NotFound("fetch", ref)
        data = self._storage.fetch(ref)
        if len(data) != size:
            raise NotFound("fetch", ref, f"the inventory says {size} bytes, not {len(data)}")
        return data

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        self._refuse_absent(ref)
        return self._storage.fetch_range(ref, offset, length)

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        self._refuse_absent(ref)
        return self._storage.read_range(ref, offset, length)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[Found]:
        wanted = list(refs)
        sizes = self._sizes(wanted)
        found = self._storage.fetch_many([ref for ref in wanted if ref in sizes])
        for ref in wanted:
            data: bytes | Exception = next(found)[1] if ref in sizes else NotFound("fetch", ref)
            if isinstance(data, bytes) and len(data) != sizes[ref]:
                data = NotFound("fetch", ref, "the inventory has another size")
            yield ref, data  # type: ignore[misc]

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        sizes = self._sizes(refs)
        for found in self._storage.stat(sizes):
            if sizes.get(found.ref) == found.size:
                yield found

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        while True:
            page = self._page(after)
            if not page:
                return
            there = dict(self.stat(page))
            for ref in page:
                if ref in there:
                    yield SizedRef(ref, there[ref])
            after = page[-1]

    def _page(self, after: str) -> list[Ref]:
        """The next refs of the inventory. Keys that are no refs are not ours: left out."""
        start = after.encode("utf-8", "surrogatepass")
        rows = self._inventory.find(start)
        try:
            refs = (parse_ref(key.decode()) for key, _ in rows if key != start)
            return list(islice((ref for ref in refs if ref is not None), _PAGE))
        finally:
            getattr(rows, "close", lambda: None)()

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        """That of the store, without what is not ours."""
        for blob in self._storage.stream(token):
            if self._sizes([blob.ref]).get(blob.ref) == len(blob.data):
                yield blob

    # -- writing --------------------------------------------------------------------------------

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        # Also what is there already: the store knows best how to spare itself the work, and
        # replaces a copy that is damaged.
        written = self._storage.write_many(blobs)
        self._unsynced.add(written)
        return written

    def sync(self) -> None:
        begun = self._unsynced.begin()
        self._storage.sync()
        with self._unsynced.finish(begun) as done:
            self._show(done)

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        with self._unsynced.watch() as removed:
            received = self._storage.receive_many(blobs)
            with self._unsynced.lock:
                self._show({ref: size for ref, size in received if ref not in removed})
        return received

    def remove(self, refs: Iterable[Ref]) -> None:
        wanted = list(refs)
        batch = Batch()
        for ref in wanted:
            batch.delete(ref.encode())
        with self._unsynced.lock:
            self._unsynced.drop(wanted)
            if wanted:
                self._inventory.commit(batch)

    def _show(self, sizes: Mapping[Ref, int]) -> None:
        """Write the rows of blobs that are durable in the store."""
        known = self._sizes(sizes)
        batch = Batch()
        for ref, size in sizes.items():
            if known.get(ref) != size:
                batch.set(ref.encode(), str(size).encode())
        if len(batch):
            self._inventory.commit(batch)

    # -- the rows -------------------------------------------------------------------------------

    def _sizes(self, refs: Iterable[Ref]) -> dict[Ref, int]:
        """The sizes, in bytes, of those that have a row; a row that is no size counts as none."""
        rows = self._inventory.get_many({ref.encode() for ref in refs})
        return {
            Ref.trusted(key.decode()): int(value)
            for key, value in rows.items()
            if value.isdigit() and len(value) <= 10
        }

    def _refuse_absent(self, ref: Ref) -> None:
        if not any(self.stat([ref])):
            raise NotFound("fetch", ref)

    def close(self) -> None:
        self._inventory.close()
