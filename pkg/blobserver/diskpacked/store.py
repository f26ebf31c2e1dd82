"""The store: reading by rows; writing is in writer.py, mending in upkeep.py."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Final, Self

from ...blob import Ref, SizedRef
from ...errors import ConfigError, Corrupt, NotFound, StoreError
from ...sorted.kv import KeyValue
from ...sorted.options import Options
from ..generation import open_generation, renew_generation
from ..storage import Generation, Storage, StreamedBlob, check_range
from . import cleanclose
from .batchread import read_many
from .compaction import Compacted, compact
from .files import PackFileSystem
from .listing import listed, sized
from .opening import Opening
from .packs import Packs
from .records import Place
from .rowstore import open_rows
from .streaming import stream
from .upkeep import Reindexed, check, reindex
from .walk import Damaged
from .writer import Writer

MAX_FILE_SIZE: Final = 536_870_912
"""Bytes over which Perkeep begins a new pack, unless told otherwise."""

_STAT_PAGE: Final = 1000
_VERIFIED_LIMIT: Final = 32_768


class DiskPacked(Storage):
    """Records appended to `pack-NNNNN.blobs`, and an index of rows ref -> place.

    A row makes a blob visible, and is set when the record is durable. Every read is verified. A
    damaged blob stays where it is until it is stored again, in a new record. After a failed sync
    the store takes no more writes.

    remarks: what opening found and did, for the log: missing packs, torn ends, rows made anew.
    """

    def __init__(
        self,
        root: Path,
        rows: KeyValue,
        max_file_size: int = MAX_FILE_SIZE,
        files: PackFileSystem | None = None,
        is_index_new: bool = False,
    ) -> None:
        """Open the store in an existing folder; it takes over `rows`, also when this fails.

        files: the file system calls, for tests. is_index_new: the index was made just now, so
        that it can't say which torn records had been acknowledged.
        Raises ConfigError, Unavailable (in use, or the disk takes nothing), ReadOnly, Corrupt
        (the index).
        """
        self._files = files or PackFileSystem()
        self._rows = rows
        self._upkeep_lock = threading.Lock()
        self._verified_lock = threading.Lock()
        self._verified: OrderedDict[Ref, tuple[Place, tuple[int, ...]]] = OrderedDict()
        with ExitStack() as undo:
            undo.callback(rows.close)
            self._packs = Packs(str(root), self._files)
            undo.callback(self._packs.close)
            opening = Opening(self._packs, rows, self._files, is_index_new)
            pack = opening.open(cleanclose.is_unchanged(self._packs, rows, self._files))
            self.remarks = opening.remarks
            self._writer = Writer(self._packs, rows, self._files, pack, max_file_size)
            undo.callback(self._writer.release)
            undo.callback(self._writer.close)
            self._generation = open_generation(str(root), self._files)
            undo.pop_all()

    @classmethod
    def from_config(cls, args: Mapping[str, object], _: Callable[[str], Storage]) -> Self:
        """An index that is damaged is set aside and made anew."""
        with Options("storage-diskpacked", args) as options:
            root = Path(options.string("path"))
            max_file_size = options.integer("maxFileSize", MAX_FILE_SIZE)
            index = options.table("metaIndex") if "metaIndex" in args else {}
        if not root.is_dir():  # before an index is made in it
            raise ConfigError("open", root, "there is no such folder; is its disk mounted?")
        store, remarks = open_rows(
            root, index, lambda rows, is_new: cls(root, rows, max_file_size, is_index_new=is_new)
        )
        store.remarks = [*store.remarks, *remarks]
        return store

    # -- reading --------------------------------------------------------------------------------

    def fetch(self, ref: Ref) -> bytes:
        key = ref.encode()
        value = self._rows.get(key)
        while True:
            place = self._packs.usable(value)
            if place is not None:
                status = self._status(place)
                data = self._packs.read(place)
                if ref.matches(data):
                    self._remember(ref, place, status)
                    return data
            again = self._rows.get(key) if value is not None else None
            if again == value:
                raise self._missing(ref, value) if place is None else self._damage(ref, place)
            value = again  # it was removed or moved while we looked

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        """A blob that was verified, in a pack that nobody else changed, is read only in part."""
        changes = self._writer.changes
        place = self._packs.usable(self._rows.get(ref.encode()))
        if place is not None and self._verified.get(ref) == (place, self._status(place)):
            check_range(ref, offset, length, place.size)
            length = min(length, place.size - offset)
            data = self._packs.read(place, offset, length)
            # If it was removed or moved meanwhile, these may be zeros.
            if len(data) == length and changes == self._writer.changes:
                return data
        return super().fetch_range(ref, offset, length)

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        """What the pack holds there, also of a damaged blob."""
        while True:
            changes = self._writer.changes
            value = self._rows.get(ref.encode())
            place = self._packs.usable(value)
            data = b""
            if place is not None:
                check_range(ref, offset, length, place.size)
                data = self._packs.read(place, offset, length)
            if changes != self._writer.changes and self._rows.get(ref.encode()) != value:
                continue  # it was removed or moved while we looked
            if place is None:
                raise self._missing(ref, value)
            if not any(data) and self._packs.was_removed(ref, place):
                raise self._damage(ref, place)
            return data

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, bytes | NotFound | Corrupt]]:
        """In pack order inside; neighbours are read in one piece."""
        for ref, data in read_many(self._packs, self._rows, refs):
            if data is not None:
                yield ref, data
                continue
            try:
                yield ref, self.fetch(ref)
            except (NotFound, Corrupt) as error:
                yield ref, error

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        wanted = iter(dict.fromkeys(refs))
        while page := list(islice(wanted, _STAT_PAGE)):
            found = self._rows.get_many([ref.encode() for ref in page])
            yield from sized(self._packs, self._rows, found.items())

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        """Rows of packs that are missing, or too short for them, are left out.

        Raises Corrupt where the index is out of order.
        """
        start = after.encode("utf-8", "surrogatepass")
        # The smallest key above `after`: no row is met that would have to be left out again.
        found = self._rows.find(start + b"\x01" if start else b"")
        return listed(self._packs, self._rows, found, start)

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        """In the order of the packs; a token is `<pack> <offset of the header>`, as Perkeep's."""
        return stream(self._packs, self._rows, token)

    # -- writing --------------------------------------------------------------------------------

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        return self._writer.write_many(blobs)

    def sync(self) -> None:
        self._writer.sync()

    def remove(self, refs: Iterable[Ref]) -> None:
        """The bytes are overwritten with holes, durably, as far as whole blocks are free."""
        self._writer.remove(refs)

    # -- upkeep ---------------------------------------------------------------------------------

    def check(self) -> Iterator[Damaged]:
        """Read everything, and name each blob that is damaged or lost, and what else is unreadable.

        Others may write meanwhile.
        """
        return check(self._packs, self._rows, self._writer)

    def reindex(self) -> Reindexed:
        """Read everything, set the rows that are missing or wrong, mend headers, fill gaps.

        Deletes no blob: a damaged one keeps row and bytes. Others may write meanwhile.
        """
        with self._upkeep_lock:
            self.sync()
            return reindex(self._packs, self._rows, self._writer, self._files)

    def compact(self, least_dead_share: float = 0.25) -> Compacted:
        """Give back the space of removed records, by moving what is left in packs full of them.

        least_dead_share: packs of which less is dead stay as they are.
        """
        with self._upkeep_lock:
            return compact(self._packs, self._rows, self._writer, self._files, least_dead_share)

    # -- the rest -------------------------------------------------------------------------------

    def generation(self) -> Generation | None:
        return self._generation

    def reset_generation(self) -> None:
        self._generation = renew_generation(self._packs.root, self._files)

    def close(self) -> None:
        """Blobs written but not synced stay hidden until the next opening looks at them."""
        is_clean = self._writer.close()
        try:
            if is_clean:
                cleanclose.leave(self._packs, self._rows, self._files)
        except StoreError:
            pass  # the index can't be read: the next opening will see to it
        finally:
            self._rows.close()
            self._packs.close()
            self._writer.release()

    # -- inside ---------------------------------------------------------------------------------

    def _status(self, place: Place) -> tuple[int, ...]:
        """What must stay the same for a blob there to be trusted: of the pack that we write,
        only which file it is."""
        status = self._packs.status(place.pack)
        return status[:2] if place.pack == self._writer.number else status

    def _remember(self, ref: Ref, place: Place, status: tuple[int, ...]) -> None:
        with self._verified_lock:
            self._verified[ref] = place, status
            if len(self._verified) > _VERIFIED_LIMIT:
                self._verified.popitem(last=False)

    def _missing(self, ref: Ref, value: bytes | None) -> NotFound:
        place = None if value is None else Place.from_row(value)
        if place is None:
            return NotFound("fetch", ref)
        return NotFound("fetch", ref, f"{self._packs.path(place.pack)} ends before it")

    def _damage(self, ref: Ref, place: Place) -> StoreError:
        path = self._packs.path(place.pack)
        if self._packs.was_removed(ref, place):
            return NotFound("fetch", ref, f"its record in {path} was removed")
        known = "the bytes have another digest" if ref.is_supported else "unknown hash"
        return Corrupt("fetch", ref, f"{path} at {place.offset}: {known}")
