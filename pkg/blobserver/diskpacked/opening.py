"""Opening a folder of packs: locks, the rows that a crash left unwritten, the torn end.

What happens here, and why, is in README.md, "Opening".
"""

from collections.abc import Iterator
from typing import Final

from ...blob import Ref
from ...errors import StoreError
from ...sorted.kv import Batch, KeyValue
from ..filesystem import translate
from .files import PackFileSystem
from .lock import PackLock
from .overwriting import overwrite
from .packs import Packs
from .records import SMALLEST_FILLER, Place, fillers
from .walk import Kind, Stretch, Walker
from .writer import OpenPack

_PAGE: Final = 10_000
"""Rows committed at a time."""

_VERIFIED_REBUILD_SIZE: Final = 4 << 30
"""Bytes of packs up to which an index is made anew from verified records, in a few seconds. In
larger stores only headers are read: every later read verifies, and reindexing looks at all."""

_MOST_MISSING: Final = 1000
"""Packs beyond the last file that rows may name and be believed."""


class Rows:
    """Rows to be set: visible here at once, committed in pages."""

    def __init__(self, rows: KeyValue) -> None:
        self._rows = rows
        self._changed: dict[bytes, bytes] = {}
        self.count = 0

    def get(self, ref: Ref) -> bytes | None:
        key = ref.encode()
        return self._changed.get(key) or self._rows.get(key)

    def set(self, ref: Ref, place: Place) -> None:
        self._changed[ref.encode()] = place.row()
        self.count += 1
        if len(self._changed) >= _PAGE:
            self.commit()

    def commit(self) -> None:
        if self._changed:
            batch = Batch()
            for key, value in self._changed.items():
                batch.set(key, value)
            self._rows.commit(batch)
            self._changed.clear()


class Survey:
    """What a look at all rows tells.

    reach: for each pack, the highest end of a row that its file contains. overreaching: packs
    that rows say are longer than they are, or are missing.
    """

    def __init__(self, packs: Packs, rows: KeyValue) -> None:
        self.is_empty = True
        self.reach: dict[int, int] = {}
        self.overreaching: set[int] = set()
        reach: dict[bytes, int] = {}
        ends = packs.ends
        for _, value in rows.find():
            self.is_empty = False
            try:
                pack, offset, size = value.split(b" ")
                number, end = int(pack), int(offset) + int(size)
            except ValueError:
                continue  # `check` names it
            if end > ends.get(pack, -1):
                self.overreaching.add(number)
            elif end > reach.get(pack, 0):
                reach[pack] = end
        self.reach = {int(pack): end for pack, end in reach.items()}


class Opening:
    """Brings packs and rows in line, and leaves a pack to which records can be appended."""

    def __init__(
        self, packs: Packs, rows: KeyValue, files: PackFileSystem, is_index_new: bool
    ) -> None:
        self._is_index_new = is_index_new
        self._packs = packs
        self._kept_rows = rows
        self._rows = Rows(rows)
        self._files = files
        self._replaced: list[tuple[Ref, Place]] = []  # damaged records, of which better came
        self.remarks: list[str] = []

    def open(self, is_unchanged: bool) -> OpenPack:
        """Lock the store and make it sound.

        is_unchanged: nothing happened since it was closed cleanly; spares looking at every row.
        Raises Unavailable (in use, or the disk takes nothing), ReadOnly, Corrupt (the index).
        """
        locks = self._lock()
        try:
            pack = self._settle(locks, is_unchanged)
        except BaseException:
            for lock in locks.values():
                lock.release()
            raise
        for number, lock in locks.items():
            if number != pack.number:
                lock.release()
        return pack

    def _lock(self) -> dict[int, PackLock]:
        """Lock the last pack, and the one that Perkeep takes for the last where some is missing."""
        numbers = self._packs.numbers
        wanted = {numbers[-1] if numbers else 0}
        for number in range(len(numbers)):
            if number not in numbers:
                wanted.add(max(number - 1, 0))
                break
        locks: dict[int, PackLock] = {}
        try:
            for number in sorted(wanted):
                locks[number] = PackLock(self._packs.root, number, self._files)
        except BaseException:
            for lock in locks.values():
                lock.release()
            raise
        return locks

    def _settle(self, locks: dict[int, PackLock], is_unchanged: bool) -> OpenPack:
        survey = None if is_unchanged else Survey(self._packs, self._kept_rows)
        self._replace_missing(survey.overreaching if survey else set())
        last = self._packs.numbers[-1]
        if last not in locks:
            locks[last] = PackLock(self._packs.root, last, self._files)
        path = self._packs.path(last)
        try:
            descriptor = self._files.open_write(path)
        except OSError as error:
            raise translate(error, "open", path) from error
        try:
            if survey is not None:
                self._catch_up(survey, last, descriptor)
                self._files.sync_data(descriptor)
                self._rows.commit()
                overwrite(self._packs, self._files, self._replaced)
                if last in survey.overreaching:
                    # Never append there: a row that points behind the end would come to
                    # point at the bytes of another blob.
                    pack = OpenPack.create(self._packs, last + 1, self._files)
                    self._files.close(descriptor)
                    return pack
        except OSError as error:
            self._files.close(descriptor)
            raise translate(error, "open", path) from error
        except BaseException:
            self._files.close(descriptor)
            raise
        return OpenPack(last, descriptor, locks[last])

    def _replace_missing(self, named: set[int]) -> None:
        """Make an empty pack for each that is missing.

        Without them Perkeep would not see the packs behind the first gap, and would sooner or
        later write other blobs to where rows point.
        """
        numbers = self._packs.numbers
        last = numbers[-1] if numbers else 0
        last = max([last, *(number for number in named if number <= last + _MOST_MISSING)])
        for number in sorted(set(range(last + 1)) - set(numbers)):
            self._files.close(self._packs.create(number))
            if numbers:
                self.remarks.append(f"{self._packs.path(number)} was missing")

    # -- records without rows -------------------------------------------------------------------

    def _catch_up(self, survey: Survey, last: int, descriptor: int) -> None:
        rebuilds = survey.is_empty
        is_small = sum(self._packs.ends.values()) <= _VERIFIED_REBUILD_SIZE
        for number in self._packs.numbers:
            begin = survey.reach.get(number, 0)
            # The last pack may hold what was never synced: look at every byte of it.
            verifies = not rebuilds or is_small or number == last
            try:
                for found in self._beyond(number, begin, verifies):
                    self._take(survey, number, found)
                    if number == last and _is_to_fill(found, rebuilds):
                        self._fill(descriptor, number, found)
            except StoreError as error:
                if number == last:
                    raise
                self.remarks.append(str(error))  # the other packs are served all the same
        if rebuilds and self._rows.count:
            self.remarks.append(f"the index was made anew: {self._rows.count} rows")
        elif self._rows.count:
            self.remarks.append(f"{self._rows.count} rows were missing")

    def _take(self, survey: Survey, number: int, found: Stretch) -> None:
        if found.kind is Kind.LIVE:
            self._adopt(number, found.ref, found)
        elif found.is_misnamed:
            self._adopt(number, found.actual, found)
        elif found.kind is Kind.TORN and self._is_index_new and found.ref is not None:
            self._note_torn(survey, number, found)

    def _beyond(self, number: int, begin: int, verifies: bool) -> Iterator[Stretch]:
        if begin < self._packs.end(number):
            yield from Walker(self._packs.reader(number), verifies).walk(begin)

    def _adopt(self, number: int, ref: Ref | None, found: Stretch) -> None:
        """Set the row of a record, unless the blob has one that leads to its bytes."""
        assert ref is not None
        place = Place(number, found.offset, found.size)
        there = self._rows.get(ref)
        if there is not None:
            damaged = self._packs.usable(there)
            if there == place.row() or self._is_intact(ref, damaged):
                return
            if found.data is None and not self._is_intact(ref, place):
                return
            if damaged is not None:
                self._replaced.append((ref, damaged))
        self._rows.set(ref, place)

    def _is_intact(self, ref: Ref, place: Place | None) -> bool:
        try:
            return place is not None and ref.matches(self._packs.read(place))
        except StoreError:
            return False

    def _note_torn(self, survey: Survey, number: int, found: Stretch) -> None:
        """Without an index nobody can say whether this blob was acknowledged: name it.

        Its row points behind the end of the pack, so it is not served or listed, but checked.
        """
        assert found.ref is not None
        if self._rows.get(found.ref) is None and found.offset + found.size > found.end:
            self._rows.set(found.ref, Place(number, found.offset, found.size))
            survey.overreaching.add(number)

    def _fill(self, descriptor: int, number: int, found: Stretch) -> None:
        """Turn what is unreadable into removed records, so that every reader gets past it.

        The header is written over the first bytes; the others stay as they are.
        """
        end = found.end
        if found.kind is Kind.TORN:
            end = max(end, found.begin + SMALLEST_FILLER)
        if end - found.begin < SMALLEST_FILLER:
            return  # reindexing reports it
        for offset, head in fillers(found.begin, end):
            self._files.write_all_at(descriptor, head, offset)
        self._packs.set_end(number, max(end, self._packs.end(number)))
        self.remarks.append(
            f"{self._packs.path(number)}: {end - found.begin} unreadable bytes at {found.begin}"
        )


def _is_to_fill(found: Stretch, rebuilds: bool) -> bool:
    """Whether this part of the last pack, which no row leads to, is what a crash left.

    A record of which a middle part is missing was never synced, so never acknowledged. In an
    index that is made anew, no rows say so: only what is cut off is filled then.
    """
    if found.kind is Kind.DAMAGED:
        return not rebuilds and found.actual is not None and not found.is_misnamed
    return found.kind is Kind.TORN or (found.kind is Kind.GAP and not rebuilds)
