"""Appending to packs in groups, and removing from them."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Self

from ...blob import Ref, SizedRef
from ...errors import ReadOnly, StoreError, Unavailable
from ...sorted.kv import Batch, KeyValue
from ..filesystem import translate
from ..groupcommit import GroupCommit
from .files import PackFileSystem
from .lock import PackLock
from .overwriting import overwrite
from .packs import Packs, sync_failed
from .records import Place, header

Blob = tuple[Ref, bytes]

_CHUNK_BLOBS: Final = 1000
_CHUNK_BYTES: Final = 8 << 20
"""What of a batch is held in memory and appended at a time."""


class OpenPack(NamedTuple):
    """The pack that is being written."""

    number: int
    descriptor: int
    lock: PackLock

    @classmethod
    def create(cls, packs: Packs, number: int, files: PackFileSystem) -> Self:
        """Lock and make a new pack, durably. Raises Unavailable, ReadOnly (a sync failed)."""
        lock = PackLock(packs.root, number, files)
        try:
            return cls(number, packs.create(number), lock)
        except BaseException:
            lock.release()
            raise


class Writer:
    """Appends records, makes them durable, then sets their rows: so a row is a blob's visibility.

    One lock guards the end of the packs; a commit holds it only to see what waits. After a
    failed sync nothing is written any more: nobody can know what the disk holds.
    """

    def __init__(
        self, packs: Packs, rows: KeyValue, files: PackFileSystem, pack: OpenPack, max_size: int
    ) -> None:
        """max_size: the bytes over which no further record is appended to a pack."""
        self._packs = packs
        self._rows = rows
        self._files = files
        self._pack = pack
        self._max_size = max_size
        self._lock = threading.Lock()
        self._waiting: dict[Ref, Place] = {}  # appended, without a row yet
        self._replaced: list[tuple[Ref, Place]] = []  # damaged records of waiting blobs
        self._is_dirty = False
        self._full: list[int] = []  # descriptors of full packs, which a commit may still sync
        self.changes = 0  # counts commits, and begun removals
        self.written_bytes = 0  # appended since the start
        self._failure = ""
        self._group = GroupCommit(self._commit)

    @property
    def number(self) -> int:
        """The pack that is being written."""
        return self._pack.number

    # -- storing --------------------------------------------------------------------------------

    def write_many(self, blobs: Iterable[Blob]) -> list[SizedRef]:
        """Append what is not there undamaged.

        Raises Unavailable when the disk takes no more: what was appended before that waits for
        the next sync, of what failed nothing is left.
        """
        self._refuse_after_failure("write")
        taken: list[SizedRef] = []
        for chunk in _chunks(blobs):
            taken += [SizedRef(ref, len(data)) for ref, data in chunk]
            self._write(chunk)
            self._group.wrote()
        return taken

    def sync(self) -> None:
        """Raises ReadOnly after a failed sync, Unavailable when the index took no rows."""
        self._refuse_after_failure("sync")
        self._group.sync()
        self._refuse_after_failure("sync")

    def _write(self, chunk: list[Blob]) -> None:
        seen = self.changes
        keys = [ref.encode() for ref, _ in chunk]
        rows = self._rows.get_many(keys)
        fresh: dict[Ref, bytes] = {}
        for key, (ref, data) in zip(keys, chunk, strict=True):
            value = rows.get(key)
            if value is None or not self._holds(value, data):
                fresh[ref] = data
        with self._lock:
            self._refuse_after_failure("write")
            if fresh and self.changes != seen:
                now = self._rows.get_many(ref.encode() for ref in fresh)
                for key, value in now.items():
                    if value != rows.get(key):
                        del fresh[Ref.trusted(key.decode())]  # stored since we looked
            new = [blob for blob in fresh.items() if blob[0] not in self._waiting]
            self._append(new)
            for ref, _ in new:
                damaged = self._packs.usable(rows.get(ref.encode()))
                if damaged is not None:
                    self._replaced.append((ref, damaged))

    def _holds(self, value: bytes, data: bytes) -> bool:
        """Whether exactly these bytes lie where a row says."""
        place = self._packs.usable(value)
        if place is None or place.size != len(data):
            return False
        try:
            return self._packs.read(place) == data
        except StoreError:
            return False  # then the blob is written anew

    def _append(self, blobs: list[Blob]) -> None:
        """Append under the lock; the places wait for the next commit."""
        places: dict[Ref, Place] = {}
        parts: list[bytes] = []
        end = self._packs.end(self._pack.number)
        for ref, data in blobs:
            if end > self._max_size:
                self._flush(parts, places)
                self._roll_over()
                parts, places, end = [], {}, 0
            head = header(ref, len(data))
            places[ref] = Place(self._pack.number, end + len(head), len(data))
            parts += (head, data)
            end += len(head) + len(data)
        self._flush(parts, places)

    def _flush(self, parts: list[bytes], places: dict[Ref, Place]) -> None:
        if not parts:
            return
        number, descriptor, _ = self._pack
        begin = self._packs.end(number)
        data = b"".join(parts)
        self._is_dirty = True
        try:
            self._files.write_all_at(descriptor, data, begin)
        except OSError as error:
            self._cut(descriptor, begin)
            raise translate(error, "store", self._packs.path(number)) from error
        self._packs.set_end(number, begin + len(data))
        self._waiting.update(places)
        self.written_bytes += len(data)

    def _cut(self, descriptor: int, end: int) -> None:
        """Take back what was written in part: nothing must be appended behind a torn record.

        Nobody was told of these bytes, and nothing lies behind them.
        """
        try:
            self._files.truncate(descriptor, end)
        except OSError as error:
            self._fail(error)

    def roll_over(self) -> None:
        """Begin a new pack, unless the present one is empty. Raises Unavailable."""
        with self._lock:
            if self._packs.end(self._pack.number):
                self._roll_over()

    def _roll_over(self) -> None:
        # Synced first: so only in the last pack can a power cut leave torn records.
        try:
            self._files.sync_data(self._pack.descriptor)
        except OSError as error:
            raise self._fail(error) from error
        self._is_dirty = False
        # Both locks are held for a moment: nobody may find the store unlocked.
        try:
            pack = OpenPack.create(self._packs, self._pack.number + 1, self._files)
        except ReadOnly as error:
            self._failure = error.reason
            raise
        self._pack.lock.release()
        self._full.append(self._pack.descriptor)
        self._pack = pack

    # -- committing -----------------------------------------------------------------------------

    def _commit(self) -> None:
        """Data durable, then the rows."""
        with self._lock:
            self._refuse_after_failure("sync")
            group = list(self._waiting.items())
            full, self._full = self._full, []
            descriptor, is_dirty = self._pack.descriptor, self._is_dirty
            self._is_dirty = False
        for unused in full:
            self._files.close(unused)
        try:
            if is_dirty:
                self._files.sync_data(descriptor)
        except OSError as error:
            raise self._fail(error) from error
        if group:
            batch = Batch()
            for ref, place in group:
                batch.set(ref.encode(), place.row())
            self._rows.commit(batch)  # if this fails, the records wait for the next sync
        with self._lock:
            for ref, place in group:
                if self._waiting.get(ref) is place:
                    del self._waiting[ref]
            self.changes += 1
            self._remove_replaced()

    def _remove_replaced(self) -> None:
        """Remove the damaged records of blobs that have a durable row to another by now.

        Otherwise they would be all that is left of a blob which is removed later.
        """
        if not self._replaced:
            return
        now = self._rows.get_many(ref.encode() for ref, _ in self._replaced)
        gone, waiting = [], []
        for ref, place in self._replaced:
            if ref in self._waiting:
                waiting.append((ref, place))
            elif now.get(ref.encode()) not in (None, place.row()):
                gone.append((ref, place))
        self._replaced = waiting
        try:
            overwrite(self._packs, self._files, gone)
        except Unavailable:
            self._replaced += gone  # the next commit tries again; this one has its rows
        except OSError as error:
            raise self._fail(error) from error

    def move(self, blobs: list[tuple[Ref, bytes, bytes | None]]) -> int:
        """Append copies of blobs and move their rows, durably; returns how many were moved.

        blobs: ref, data, and the row that the blob had; one whose row is another by now stays.
        Everything else waits meanwhile.
        """
        with self._group.alone():
            self._commit()
            with self._lock:
                now = self._rows.get_many(ref.encode() for ref, _, _ in blobs)
                moving = [(ref, data) for ref, data, row in blobs if now.get(ref.encode()) == row]
                # A blob on its way is there anew once it is synced: it needs no copy.
                moving = [blob for blob in moving if blob[0] not in self._waiting]
                self._append(moving)
            self._commit()
        return len(moving)

    # -- removing -------------------------------------------------------------------------------

    def remove(self, refs: Iterable[Ref]) -> None:
        """Delete the rows durably, then overwrite the records durably.

        In this order: a row must not point at a record that is gone. Raises Unavailable.
        """
        with self._group.alone():
            for chunk in _pages(refs):
                with self._lock:
                    self._refuse_after_failure("remove")
                    self._remove(chunk)

    def _remove(self, refs: list[Ref]) -> None:
        found = self._rows.get_many(ref.encode() for ref in refs)
        batch = Batch(frees_room=True)
        gone: list[tuple[Ref, Place]] = []
        for ref in refs:
            value = found.get(ref.encode())
            if value is not None:
                batch.delete(ref.encode())
                place = self._packs.usable(value)
                if place is not None:
                    gone.append((ref, place))
            if ref in self._waiting:
                gone.append((ref, self._waiting.pop(ref)))
        if len(batch):
            try:
                self._rows.commit(batch)
            except Unavailable:
                # The disk may be full: the records make room for that. Where it is still refused
                # nobody was told of a removal, and reads of the rows that stay are NotFound.
                self._overwrite(gone)
                self._rows.commit(batch)
        self._overwrite(gone)

    def _overwrite(self, gone: list[tuple[Ref, Place]]) -> None:
        self.changes += 1  # after the rows: who sees it sees them too, and before any byte goes
        try:
            overwrite(self._packs, self._files, gone)
        except OSError as error:
            raise self._fail(error) from error

    def erase(self, records: list[tuple[Ref, Place]]) -> None:
        """Overwrite records whose blobs lie elsewhere by now; the others are left."""
        with self.alone():
            self._refuse_after_failure("erase")
            found = self._rows.get_many(ref.encode() for ref, _ in records)
            gone = []
            for ref, place in records:
                if found.get(ref.encode()) not in (None, place.row()):
                    gone.append((ref, place))
            self._overwrite(gone)

    def without_rows(self, records: list[tuple[Ref, Place]]) -> list[tuple[Ref, Place]]:
        """Which of these records, still there, have no row and wait for none."""
        if not records:
            return []
        with self.alone():
            found = self._rows.get_many(ref.encode() for ref, _ in records)
            return [
                (ref, place)
                for ref, place in records
                if found.get(ref.encode()) is None
                and ref not in self._waiting
                and self._packs.has_header(ref, place)
            ]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While nobody appends, commits or removes."""
        with self._group.alone(), self._lock:
            yield

    # -- failure and end ------------------------------------------------------------------------

    def close(self) -> bool:
        """Give back descriptors and the lock; whether nothing was left unsynced."""
        with self._group.alone(), self._lock:
            is_clean = not (self._waiting or self._is_dirty or self._failure)
            for descriptor in self._full:
                self._files.close(descriptor)
            self._files.close(self._pack.descriptor)
            return is_clean

    def release(self) -> None:
        """Give back the lock; last, when the index is closed too."""
        self._pack.lock.release()

    def _fail(self, error: OSError) -> ReadOnly:
        self._failure = sync_failed(error)
        return ReadOnly("sync", self._packs.root, self._failure)

    def _refuse_after_failure(self, operation: str) -> None:
        if self._failure:
            raise ReadOnly(operation, self._packs.root, self._failure)


def _chunks(blobs: Iterable[Blob]) -> Iterator[list[Blob]]:
    chunk: list[Blob] = []
    size = 0
    for blob in blobs:
        chunk.append(blob)
        size += len(blob[1])
        if len(chunk) >= _CHUNK_BLOBS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _pages(refs: Iterable[Ref]) -> Iterator[list[Ref]]:
    page: dict[Ref, None] = {}
    for ref in refs:
        page[ref] = None
        if len(page) >= _CHUNK_BLOBS:
            yield list(page)
            page = {}
    if page:
        yield list(page)
