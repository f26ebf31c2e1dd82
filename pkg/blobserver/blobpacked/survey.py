"""Zips against rows: the look at every start, and recovery (README.md, "Start and recovery")."""

from collections.abc import Callable, Iterable, Iterator, Set
from typing import NamedTuple

from ...blob import Ref, SizedRef
from ...errors import Corrupt, Invalid, NotFound, Unavailable
from ...sorted.kv import Batch
from ..storage import Storage
from .pack import Pack, read_pack
from .rows import (
    Place,
    Rows,
    ZipRow,
    delete_place,
    delete_zip,
    set_part,
    set_place,
    set_whole,
)


class Damaged(NamedTuple):
    """Something that is not as it should be: a blob, a zip or a file, and in what way."""

    subject: Ref
    reason: str


def read_blob(large: Storage, ref: Ref, place: Place) -> bytes:
    """A packed blob, verified. Raises NotFound without the zip, Corrupt with a damaged one."""
    try:
        data = large.read_range(place.zip_ref, place.offset, place.size)
    except NotFound:
        raise NotFound("fetch", ref, f"its zip {place.zip_ref} is missing") from None
    except Invalid:
        data = b""  # the zip ends before
    if not ref.matches(data):
        raise Corrupt("fetch", ref, f"damaged in zip {place.zip_ref}")
    return data


def is_intact(large: Storage, ref: Ref, place: Place) -> bool:
    """Whether a packed blob can be read where the row says. Raises Unavailable."""
    try:
        read_blob(large, ref, place)
    except (NotFound, Corrupt):
        return False
    return True


class Survey:
    """What is known of the zips of a store beyond their rows.

    missing: zips that rows name and `large` has not. aside: what lies in `large` and can't be
    read as a pack, or is shorter than its row says, with the reason. unplaced: packs whose place
    in their file is not known, since a part before is missing; their blobs are served.
    Files are never touched; rows are added, and those that lead nowhere are led elsewhere.
    """

    def __init__(self, small: Storage, large: Storage, rows: Rows) -> None:
        self._small = small
        self._large = large
        self._rows = rows
        self.missing: set[Ref] = set()
        self.aside: dict[Ref, str] = {}
        self.unplaced: dict[Ref, SizedRef] = {}

    def start(self) -> list[Ref]:
        """Compare zips and rows; take in the zips without rows, note the rows without zip.

        Returns the zips taken in: their blobs may lie loose as well.
        """
        unknown: list[SizedRef] = []
        for found, row in _side_by_side(self._large.enumerate(), self._rows.zips()):
            if row is None and found is not None:
                unknown.append(found)
            elif found is None and row is not None:
                self._note_missing(row.ref)
            elif found is not None and row is not None and found.size != row.size:
                self.aside[found.ref] = f"{found.size} bytes, not the {row.size} of its row"
        adopted = self.adopt(unknown) if unknown else []
        if self.missing or self.aside:
            self.reroute(self.missing | self.aside.keys())
        return adopted

    def recover(self, forget_missing: bool) -> None:
        """Read every zip again and write its rows. Blobs that were removed stay removed.

        forget_missing: delete the rows that lead to zips which are not there any more.
        """
        zips = list(self._large.enumerate())
        removed = self._removed()
        self.missing.clear()
        self.aside.clear()
        self.unplaced.clear()
        self._write_rows(zips, removed, self._is_good)
        self.start()
        if forget_missing:
            self._forget(self.missing)

    def findings(self) -> Iterator[Damaged]:
        """What is known to be wrong, without reading anything."""
        for ref in sorted(self.missing):
            yield Damaged(ref, "rows lead to this zip, which is missing")
        yield from self._lost_with_zips()
        for ref, reason in sorted(self.aside.items()):
            yield Damaged(ref, reason)
        for ref in sorted(self.unplaced):
            yield Damaged(ref, "a part before it of its file is missing")

    def _lost_with_zips(self) -> Iterator[Damaged]:
        """The blobs that were in missing zips: nothing lists them any more, but rows name them."""
        if not self.missing:
            return
        lost = {
            ref: place.zip_ref
            for ref, place in self._rows.all_places()
            if place.zip_ref in self.missing
        }
        loose = {ref for ref, _ in self._small.stat(lost)}
        for ref in sorted(lost.keys() - loose):
            yield Damaged(ref, f"its zip {lost[ref]} is missing")

    # -- zips to rows ---------------------------------------------------------------------------

    def adopt(self, zips: Iterable[SizedRef]) -> list[Ref]:
        """Write the rows of zips that have none; what can't be read is set aside."""
        return self._write_rows(zips, self._removed(), self._is_there)

    def read(self, zip_: SizedRef) -> Pack | None:
        """The pack that a zip is, or None, which sets it aside."""
        try:
            return read_pack(
                zip_, lambda offset, length: self._large.read_range(zip_.ref, offset, length)
            )
        except (NotFound, Corrupt, Invalid, Unavailable) as error:
            self.aside[zip_.ref] = error.reason
            return None

    def _write_rows(
        self, zips: Iterable[SizedRef], removed: set[Ref], keeps: Callable[[Ref, Place], bool]
    ) -> list[Ref]:
        """keeps: whether the row of a blob that leads to another zip stays."""
        by_whole: dict[Ref, list[Pack]] = {}
        for zip_ in zips:
            pack = self.read(zip_)
            if pack is not None:
                self._write_places(pack, removed, keeps)
                part = pack._replace(schemas=[], chunks=[])
                by_whole.setdefault(pack.whole.ref, []).append(part)
        for packs in by_whole.values():
            self._write_parts(packs)
        return [pack.ref for packs in by_whole.values() for pack in packs]

    def _write_places(
        self, pack: Pack, removed: set[Ref], keeps: Callable[[Ref, Place], bool]
    ) -> None:
        blobs = {blob.ref: blob for blob in pack.blobs if blob.ref not in removed}
        there = self._rows.places(blobs)
        batch = Batch()
        for ref, blob in blobs.items():
            old = there.get(ref)
            if old is None or old.zip_ref == pack.ref or not keeps(ref, old):
                set_place(batch, ref, Place(blob.size, pack.ref, blob.offset))
        self._rows.commit(batch)

    def _write_parts(self, packs: list[Pack]) -> None:
        """Say where in their file these packs lie, as far as the parts before are known."""
        whole = packs[0].whole
        lengths = {part.number: part.length for part in self._rows.parts(whole.ref)}
        lengths.update((pack.part_index, pack.data_size) for pack in packs)
        batch = Batch()
        for pack in packs:
            before = [lengths.get(number) for number in range(pack.part_index)]
            if None in before:
                self.unplaced[pack.ref] = SizedRef(pack.ref, pack.size)
            else:
                set_part(batch, pack, sum(filter(None, before)))
        if lengths.keys() == set(range(len(lengths))) and sum(lengths.values()) == whole.size:
            set_whole(batch, whole, len(lengths))
        self._rows.commit(batch)

    def _is_there(self, _: Ref, place: Place) -> bool:
        return place.zip_ref not in self.missing and place.zip_ref not in self.aside

    def _is_good(self, ref: Ref, place: Place) -> bool:
        try:
            return is_intact(self._large, ref, place)
        except Unavailable:
            return False

    def _removed(self) -> set[Ref]:
        """The blobs that were removed from zips: such a zip has a mark, and they have no row."""
        found: set[Ref] = set()
        for zip_ in self._large.stat(self._rows.zips_with_removed()):
            pack = self.read(zip_)
            if pack is not None:
                found.update(blob.ref for blob in pack.blobs)
        found -= self._rows.places(found).keys()
        return found - {ref for ref, _ in self._small.stat(found)}

    # -- what is missing ------------------------------------------------------------------------

    def _note_missing(self, zip_ref: Ref) -> None:
        # A listing may be wrong: what it lacks is asked for by name.
        if not list(self._large.stat([zip_ref])):
            self.missing.add(zip_ref)

    def reroute(self, bad: Set[Ref]) -> int:
        """Let the rows of blobs that these zips can't give lead to another zip that can.

        Returns how many were changed. Reads all rows, and the directory of every zip.
        """
        lost = {
            ref: place
            for ref, place in self._rows.all_places()
            if place.zip_ref in bad and not self._is_good(ref, place)
        }
        changed = 0
        for row in self._rows.zips():
            if not lost:
                break
            if row.ref not in self.missing and row.ref not in self.aside:
                pack = self.read(SizedRef(row.ref, row.size))
                changed += 0 if pack is None else self._take_over(lost, pack)
        return changed

    def _take_over(self, lost: dict[Ref, Place], pack: Pack) -> int:
        batch = Batch()
        for blob in pack.blobs:
            place = Place(blob.size, pack.ref, blob.offset)
            if blob.ref in lost and self._is_good(blob.ref, place):
                del lost[blob.ref]
                set_place(batch, blob.ref, place)
        self._rows.commit(batch)
        return len(batch)

    def _forget(self, zips: Set[Ref]) -> None:
        """Delete the rows that lead to these zips, which are not there."""
        for row in list(self._rows.zips()):
            if row.ref in zips:
                batch = Batch()
                delete_zip(batch, row, self._rows.parts(row.whole.ref))
                self._rows.commit(batch)
        batch = Batch()
        for ref, place in self._rows.all_places():
            if place.zip_ref in zips:
                delete_place(batch, ref)
        self._rows.commit(batch)
        self.missing -= zips


def _side_by_side(
    listed: Iterator[SizedRef], rows: Iterator[ZipRow]
) -> Iterator[tuple[SizedRef | None, ZipRow | None]]:
    """Pair two listings in ref order; None where one lacks what the other has."""
    found, row = next(listed, None), next(rows, None)
    while found is not None or row is not None:
        if row is None or (found is not None and found.ref < row.ref):
            yield found, None
            found = next(listed, None)
        elif found is None or row.ref < found.ref:
            yield None, row
            row = next(rows, None)
        else:
            yield found, row
            found, row = next(listed, None), next(rows, None)
