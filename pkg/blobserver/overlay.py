"""A store that takes the changes to another, which stays as it is."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, Self

from ..blob import Ref, SizedRef
from ..errors import NotFound, Unsupported
from ..sorted.kv import Batch, KeyValue
from ..sorted.options import Options
from ..sorted.registry import open_kv
from .fanout import Found, streamed_by_ref
from .merge import merged
from .readers import Readers
from .storage import Generation, Storage, StreamedBlob
from .unsynced import Unsynced

_DELETED: Final = b"1"
_PAGE: Final = 500


class Overlay(Storage):
    """Writes to `upper`, reads from `upper`, then `lower`; a row hides what was removed.

    The stores belong to whoever passed them in; `deleted` is closed with this one.
    """

    def __init__(self, lower: Storage, upper: Storage, deleted: KeyValue | None = None) -> None:
        """deleted: rows `<ref>` -> `1`, as Perkeep has them; without it nothing can be removed."""
        self._lower = lower
        self._upper = upper
        self._deleted = deleted
        self._readers = Readers([upper, lower], heal=[upper])
        self._unsynced: Unsynced[None] = Unsynced()

    @classmethod
    def from_config(cls, args: Mapping[str, object], resolve: Callable[[str], Storage]) -> Self:
        """Arguments: lower, upper, deleted (optional; a sorted store)."""
        with Options("storage-overlay", args) as options:
            lower = options.string("lower")
            upper = options.string("upper")
            rows = options.table("deleted") if "deleted" in args else None
        below, above = resolve(lower), resolve(upper)
        return cls(below, above, open_kv(rows) if rows is not None else None)

    # -- reading --------------------------------------------------------------------------------

    def fetch(self, ref: Ref) -> bytes:
        self._refuse_deleted(ref)
        return self._readers.fetch(ref)

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        self._refuse_deleted(ref)
        return self._readers.fetch_range(ref, offset, length)

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        self._refuse_deleted(ref)
        return self._readers.read_range(ref, offset, length)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[Found]:
        wanted = list(refs)
        hidden = self._hidden(wanted)
        found = self._readers.fetch_many([ref for ref in wanted if ref not in hidden])
        for ref in wanted:
            yield (ref, NotFound("fetch", ref)) if ref in hidden else next(found)

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        wanted = list(refs)
        hidden = self._hidden(wanted)
        return self._readers.stat(ref for ref in wanted if ref not in hidden)

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        listing = merged([self._upper, self._lower], after)
        while page := list(islice(listing, _PAGE)):
            hidden = self._hidden(found.ref for found in page)
            yield from (found for found in page if found.ref not in hidden)

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        return streamed_by_ref(self, token)

    # -- writing --------------------------------------------------------------------------------

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        written = self._upper.write_many(blobs)
        if self._deleted is not None:
            self._unsynced.add((ref, None) for ref, _ in written)
        return written

    def sync(self) -> None:
        begun = self._unsynced.begin()
        self._upper.sync()
        with self._unsynced.finish(begun) as done:
            self._show(done)

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        with self._unsynced.watch() as removed:
            received = self._upper.receive_many(blobs)
            with self._unsynced.lock:
                self._show(ref for ref, _ in received if ref not in removed)
        return received

    def remove(self, refs: Iterable[Ref]) -> None:
        if self._deleted is None:
            raise Unsupported("remove", "blobs", "this overlay is configured without `deleted`")
        wanted = list(dict.fromkeys(refs))
        # The rows first: with the upper copies gone and no row, the lower ones would show again.
        with self._unsynced.lock:
            self._unsynced.drop(wanted)
            batch = Batch()
            for ref in wanted:
                batch.set(ref.encode(), _DELETED)
            if wanted:
                self._deleted.commit(batch)
        self._upper.remove(wanted)

    def _show(self, refs: Iterable[Ref]) -> None:
        """Take away the rows of blobs that are durable in the upper store."""
        hidden = self._hidden(refs)
        if hidden and self._deleted is not None:
            batch = Batch()
            for ref in hidden:
                batch.delete(ref.encode())
            self._deleted.commit(batch)

    # -- the rows -------------------------------------------------------------------------------

    def _hidden(self, refs: Iterable[Ref]) -> set[Ref]:
        """Those of the refs that were removed."""
        if self._deleted is None:
            return set()
        rows = self._deleted.get_many({ref.encode() for ref in refs})
        return {Ref.trusted(key.decode()) for key in rows}

    def _refuse_deleted(self, ref: Ref) -> None:
        if self._hidden([ref]):
            raise NotFound("fetch", ref, "removed from this overlay")

    # -- generation -----------------------------------------------------------------------------

    def generation(self) -> Generation | None:
        return self._upper.generation()

    def reset_generation(self) -> None:
        self._upper.reset_generation()

    def close(self) -> None:
        if self._deleted is not None:
            self._deleted.close()
