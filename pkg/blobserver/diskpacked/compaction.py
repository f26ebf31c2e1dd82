"""Giving back the space of removed records (README.md, "Compaction")."""

from typing import Final, NamedTuple

from ...blob import Ref
from ...errors import StoreError
from ...sorted.kv import KeyValue
from ..filesystem import translate
from .files import PackFileSystem
from .packs import Packs
from .records import Place, header
from .walk import Kind, Stretch, Walker
from .writer import Writer

_GROUP_BYTES: Final = 8 << 20
_GROUP_BLOBS: Final = 1000
"""What is moved at a time, while writers wait."""


class Compacted(NamedTuple):
    """What compaction did. kept: packs with damaged records, which were not emptied."""

    emptied: list[str]
    kept: list[str]
    blobs_moved: int
    bytes_freed: int


def compact(
    packs: Packs, rows: KeyValue, writer: Writer, files: PackFileSystem, least_dead_share: float
) -> Compacted:
    """Move what is left in packs full of removed records, and empty them.

    A crash at any point leaves doubles at worst, which the next compaction gives back.
    """
    writer.sync()
    live = _live_bytes(packs, rows)
    chosen = []
    for number in packs.numbers:
        size = packs.end(number)
        dead = size - live.get(number, 0)
        if dead > 0 and dead >= least_dead_share * size:
            chosen.append(number)
    if writer.number in chosen:
        writer.roll_over()
        writer.sync()
    emptied, kept = [], []
    moved = freed = 0
    for number in chosen:
        size, before = packs.end(number), writer.written_bytes
        one = _Pack(packs, rows, writer, files, number)
        if one.empty():
            emptied.append(packs.path(number))
            freed += size - (writer.written_bytes - before)
        else:
            kept.append(packs.path(number))
        moved += one.moved
    return Compacted(emptied, kept, moved, freed)


def _live_bytes(packs: Packs, rows: KeyValue) -> dict[int, int]:
    """Bytes of records that rows lead to, by pack."""
    live: dict[int, int] = {}
    for key, value in rows.find():
        place = packs.usable(value)
        if place is not None:
            length = len(header(key.decode("utf-8", "replace"), place.size)) + place.size
            live[place.pack] = live.get(place.pack, 0) + length
    return live


class _Pack:
    def __init__(
        self, packs: Packs, rows: KeyValue, writer: Writer, files: PackFileSystem, number: int
    ) -> None:
        self._packs = packs
        self._rows = rows
        self._writer = writer
        self._files = files
        self._number = number
        self._group: list[tuple[Ref, bytes, bytes | None]] = []
        self._gone: list[tuple[Ref, Place]] = []  # records that are doubles now
        self._group_bytes = 0
        self.moved = 0

    def empty(self) -> bool:
        """Move every intact blob, then cut the file to nothing; False if damaged ones are left."""
        is_whole = True
        for found in Walker(self._packs.reader(self._number)).walk():
            if found.kind is Kind.LIVE:
                self._take(found)
            elif found.kind is not Kind.REMOVED:
                is_whole = is_whole and self._is_superseded(found)
        self._move()
        if is_whole and not self._has_rows():
            self._truncate()
            return True
        self._writer.erase(self._gone)
        return False

    def _take(self, found: Stretch) -> None:
        """Move a record, unless its row leads to an intact one elsewhere."""
        assert found.ref is not None
        assert found.data is not None
        place = Place(self._number, found.offset, found.size)
        row = self._rows.get(found.ref.encode())
        self._gone.append((found.ref, place))
        if row is not None and row != place.row() and self._is_intact(found.ref, row):
            return
        # A record without a row is moved too: whether it was removed or its row lost, who knows.
        self._group.append((found.ref, found.data, row))
        self._group_bytes += found.size
        if self._group_bytes >= _GROUP_BYTES or len(self._group) >= _GROUP_BLOBS:
            self._move()

    def _move(self) -> None:
        # Two records of one blob in a group: one is enough.
        group = list({ref: (ref, data, row) for ref, data, row in self._group}.values())
        self._group, self._group_bytes = [], 0
        if group:
            self.moved += self._writer.move(group)

    def _is_superseded(self, found: Stretch) -> bool:
        """Whether a damaged record is of a blob that lies intact elsewhere."""
        if found.kind is not Kind.DAMAGED or found.ref is None:
            return False
        here = Place(self._number, found.offset, found.size).row()
        if found.actual is not None and self._rows.get(found.actual.encode()) == here:
            return False
        row = self._rows.get(found.ref.encode())
        return row is not None and row != here and self._is_intact(found.ref, row)

    def _is_intact(self, ref: Ref, row: bytes) -> bool:
        place = self._packs.usable(row)
        try:
            return place is not None and ref.matches(self._packs.read(place))
        except StoreError:
            return False

    def _has_rows(self) -> bool:
        """Whether a row leads here still. No new one can: the pack is full and synced."""
        prefix = b"%d " % self._number
        return any(value.startswith(prefix) for _, value in self._rows.find())

    def _truncate(self) -> None:
        path = self._packs.path(self._number)
        try:
            descriptor = self._files.open_write(path)
            try:
                self._packs.set_end(self._number, 0)
                self._files.truncate(descriptor, 0)
                self._files.sync_data(descriptor)
            finally:
                self._files.close(descriptor)
        except OSError as error:
            raise translate(error, "empty", path) from error
