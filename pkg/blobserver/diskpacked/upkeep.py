"""Checking packs and index, and mending them (README.md, "Checking", "Reindexing")."""

from collections.abc import Iterator
from typing import NamedTuple

from ...blob import Ref, parse_ref
from ...errors import StoreError
from ...sorted.kv import Batch, KeyValue
from ..filesystem import translate
from .files import PackFileSystem
from .packs import Packs
from .records import SMALLEST_FILLER, Place, fillers, header
from .streaming import rows_of
from .walk import Damaged, Kind, Stretch, Walker
from .writer import Writer


class Reindexed(NamedTuple):
    """What reindexing changed, and what is damaged for good."""

    rows_set: int
    rows_deleted: int
    headers_mended: int
    bytes_filled: int
    damaged: list[Damaged]


# -- checking -----------------------------------------------------------------------------------


def check(packs: Packs, rows: KeyValue, writer: Writer) -> Iterator[Damaged]:
    """Name what is damaged: first by reading every pack, then by looking at every row."""
    unreadable: list[_Unreadable] = []
    for number in packs.numbers:
        try:
            yield from _check_pack(packs, rows, writer, number, unreadable)
        except StoreError as error:
            yield Damaged(None, packs.path(number), error.reason)
    for key, value in rows.find():
        damaged = _check_row(packs, rows, key, value, unreadable)
        if damaged is not None:
            yield damaged


class _Unreadable(NamedTuple):
    """A stretch of a pack in which headers tell nothing of the bytes behind them."""

    pack: int
    begin: int
    end: int


def _check_pack(
    packs: Packs, rows: KeyValue, writer: Writer, number: int, unreadable: list[_Unreadable]
) -> Iterator[Damaged]:
    """Adds to `unreadable`: the rows that lead there must be read."""
    path = packs.path(number)
    without_row: list[tuple[Ref, Place]] = []
    for found in Walker(packs.reader(number)).walk():
        if found.kind is Kind.LIVE and found.ref is not None:
            if rows.get(found.ref.encode()) is None:
                without_row.append((found.ref, Place(number, found.offset, found.size)))
        elif found.kind is Kind.DAMAGED and _is_only_record(rows, number, found):
            reason = f"the bytes at {found.offset} have another digest"
            yield Damaged(_name(rows, found), path, reason)
        elif found.kind in (Kind.GAP, Kind.TORN):
            unreadable.append(_Unreadable(number, found.begin, found.end))
            reason = f"{found.end - found.begin} unreadable bytes at {found.begin}"
            yield Damaged(_without_row(rows, found.ref), path, reason)
    for ref, place in writer.without_rows(without_row):
        yield Damaged(ref, path, f"the index has no row for the record at {place.offset}")


def _is_only_record(rows: KeyValue, number: int, found: Stretch) -> bool:
    """Whether a damaged record is all that there is of its blob, by its header or its row.

    Where only the header is damaged, the row of the blob knows it, and is looked at later.
    """
    assert found.ref is not None
    here = Place(number, found.offset, found.size).row()
    if found.actual is not None and rows.get(found.actual.encode()) == here:
        return False
    return rows.get(found.ref.encode()) in (None, here)


def _name(rows: KeyValue, found: Stretch) -> Ref | None:
    """The blob of a damaged record. None if, without a row, it may well be one half removed."""
    assert found.ref is not None
    if rows.get(found.ref.encode()) is None and not (found.actual and any(found.data or b"")):
        return None
    return found.ref


def _without_row(rows: KeyValue, ref: Ref | None) -> Ref | None:
    return ref if ref is not None and rows.get(ref.encode()) is None else None


def _check_row(
    packs: Packs, rows: KeyValue, key: bytes, value: bytes, unreadable: list[_Unreadable]
) -> Damaged | None:
    """Whether a row leads to the header of its blob; if not, whether to its bytes."""
    ref = parse_ref(key.decode("utf-8", "replace"))
    there = Place.from_row(value)
    if ref is None or there is None:
        return Damaged(ref, "index", f"row {key!r}: {value!r} breaks the form")
    path = packs.path(there.pack)
    place = packs.place_of(rows, key, value)
    try:
        if place is None:
            if rows.get(key) != value:
                return None  # removed by now
            return Damaged(ref, path, f"it ends before {there.end}")
        has_header = packs.has_header(ref, place)
        head = place.offset - len(header(ref, place.size))
        if has_header and not any(
            place.pack == pack and begin <= head < end for pack, begin, end in unreadable
        ):
            return None
        is_intact = ref.matches(packs.read(place))
        if (has_header and is_intact) or rows.get(key) != value:
            return None  # or it was removed or moved while we looked
        if packs.was_removed(ref, place):
            return Damaged(ref, path, f"the record at {place.offset} was removed")
    except StoreError as error:
        return Damaged(ref, path, error.reason)
    part = "header before" if is_intact else "record at"
    return Damaged(ref, path, f"the {part} {place.offset} is damaged", is_intact)


# -- mending ------------------------------------------------------------------------------------


def reindex(packs: Packs, rows: KeyValue, writer: Writer, files: PackFileSystem) -> Reindexed:
    """Bring rows, headers and records in line as far as verified bytes allow."""
    mender = _Mender(packs, rows, writer, files)
    for number in packs.numbers:
        mender.mend(number)
    mender.drop_removed()
    damaged = list(check(packs, rows, writer))
    return Reindexed(mender.rows_set, mender.rows_deleted, mender.headers, mender.filled, damaged)


class _Mender:
    def __init__(self, packs: Packs, rows: KeyValue, writer: Writer, files: PackFileSystem) -> None:
        self._packs = packs
        self._rows = rows
        self._writer = writer
        self._files = files
        self.rows_set = self.rows_deleted = self.headers = self.filled = 0

    def mend(self, number: int) -> None:
        rows_here: list[tuple[Place, Ref]] | None = None
        for found in Walker(self._packs.reader(number)).walk():
            place = Place(number, found.offset, found.size)
            if found.kind is Kind.LIVE and found.ref is not None:
                self._set_row(found.ref, place)
            elif found.kind is Kind.DAMAGED and found.actual is not None:
                row = self._rows.get(found.actual.encode())
                if row == place.row() or (row is None and found.is_misnamed):
                    self._mend_header(found.actual, place)
                    self._set_row(found.actual, place)
            elif found.kind is not Kind.REMOVED:
                if rows_here is None:
                    rows_here = rows_of(self._packs, self._rows, number)
                self._mend_gap(number, found, rows_here)

    def drop_removed(self) -> None:
        """Delete the rows of records that were removed: a crash came between the two."""
        for key, value in self._rows.find():
            ref, place = parse_ref(key.decode("utf-8", "replace")), self._packs.usable(value)
            if ref is not None and place is not None and self._packs.was_removed(ref, place):
                self.rows_deleted += self._change(key, value, None)

    def _set_row(self, ref: Ref, place: Place) -> None:
        """Let the row of a blob lead to an intact record, unless it leads to one already."""
        key = ref.encode()
        there = self._rows.get(key)
        if there == place.row():
            return
        damaged = self._packs.usable(there)
        if self._is_intact(ref, damaged):
            return
        if self._change(key, there, place.row()):
            self.rows_set += 1
            if damaged is not None:
                self._writer.erase([(ref, damaged)])

    def _change(self, key: bytes, seen: bytes | None, value: bytes | None) -> bool:
        """Change a row that nobody else changed since it was seen."""
        with self._writer.alone():
            if self._rows.get(key) != seen:
                return False
            batch = Batch()
            if value is None:
                batch.delete(key)
            else:
                batch.set(key, value)
            self._rows.commit(batch)
        return True

    def _is_intact(self, ref: Ref, place: Place | None) -> bool:
        try:
            return place is not None and ref.matches(self._packs.read(place))
        except StoreError:
            return False

    def _mend_header(self, ref: Ref, place: Place) -> None:
        head = header(ref, place.size)
        self._write(place.pack, [(place.offset - len(head), head)])
        self.headers += 1

    def _mend_gap(self, number: int, found: Stretch, rows_here: list[tuple[Place, Ref]]) -> None:
        """Give the blobs in a gap their headers back, and fill what is between them.

        A record of a hash that we do not know is no gap, but its hash's name may be what is
        damaged: then a row knows the blob.
        """
        keep: list[Place] = []  # damaged blobs, whose bytes nobody may touch
        begin = found.begin
        for place, ref in rows_here:
            head = place.offset - len(header(ref, place.size))
            if place.end <= found.begin or place.offset >= found.end:
                continue
            if head >= begin and place.end <= found.end and self._is_intact(ref, place):
                self._mend_header(ref, place)
                if found.kind is not Kind.DAMAGED:
                    self._fill(number, begin, head, keep)
                begin = place.end
            else:
                keep.append(place)
        if found.kind is Kind.DAMAGED:
            return
        end = found.end
        if found.kind is Kind.TORN and begin < end:
            end = max(end, begin + SMALLEST_FILLER)
        self._fill(number, begin, end, keep)

    def _fill(self, number: int, begin: int, end: int, keep: list[Place]) -> None:
        if end - begin < SMALLEST_FILLER:
            return
        headers = fillers(begin, end)
        for offset, head in headers:
            if any(place.offset < offset + len(head) and offset < place.end for place in keep):
                return
        self._write(number, headers)
        self._packs.set_end(number, max(end, self._packs.end(number)))
        self.filled += end - begin

    def _write(self, number: int, pieces: list[tuple[int, bytes]]) -> None:
        """Overwrite parts of a pack, durably."""
        path = self._packs.path(number)
        try:
            descriptor = self._files.open_write(path)
            try:
                for offset, data in pieces:
                    self._files.write_all_at(descriptor, data, offset)
                self._files.sync_data(descriptor)
            finally:
                self._files.close(descriptor)
        except OSError as error:
            raise translate(error, "mend", path) from error
