"""Moving blobs between the loose store and zips, and out of both (README.md, "Moves")."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from ...blob import Ref, SizedRef
from ...errors import Corrupt, NotFound, Unsupported
from ...sorted.kv import Batch
from ..storage import Storage
from .pack import Pack
from .rows import (
    Place,
    Rows,
    delete_place,
    delete_zip,
    set_part,
    set_place,
    set_removed,
    set_whole,
)
from .survey import Survey, is_intact, read_blob


class Moves:
    """Every change of where blobs lie, one at a time. Nothing is deleted before its other copy
    is durable and was read back.

    moved_out: grows before rows of blobs go away that now lie loose. Who reads the loose store
    and then the rows has missed nothing if it is the same before and after.
    """

    def __init__(
        self, small: Storage, large: Storage, rows: Rows, survey: Survey, now_s: Callable[[], int]
    ) -> None:
        self._small = small
        self._large = large
        self._rows = rows
        self._survey = survey
        self._now_s = now_s
        self._alone = threading.Lock()
        self._removed_meanwhile: set[Ref] | None = None
        self.moved_out = 0

    def none(self) -> threading.Lock:
        """The lock to hold for work on rows that must not meet a move."""
        return self._alone

    # -- in -------------------------------------------------------------------------------------

    @contextmanager
    def packing(self) -> Iterator[None]:
        """Inside, removals are remembered: what is removed now must not come back by a pack."""
        with self._alone:
            self._removed_meanwhile = set()
        try:
            yield
        finally:
            with self._alone:
                self._removed_meanwhile = None

    def pack_in(self, pack: Pack, data: bytes, whole_offset: int) -> None:
        """Store a pack, then its rows, then remove the loose copies of what it holds.

        Removals wait meanwhile. What was removed while the pack was made is marked first: a crash
        behind the pack, before its rows, must not bring it back.
        """
        with self._alone:
            removed = self._removed_meanwhile or set()
            if removed.intersection(blob.ref for blob in pack.blobs):
                mark = Batch()
                set_removed(mark, pack.ref, self._now_s())
                self._rows.commit(mark)
            self._large.receive(pack.ref, data)
            self._large.fetch(pack.ref)  # raises unless it is there and right
            blobs = {blob.ref: blob for blob in pack.blobs if blob.ref not in removed}
            batch = Batch()
            set_part(batch, pack, whole_offset)
            for ref, blob in blobs.items():
                set_place(batch, ref, Place(blob.size, pack.ref, blob.offset))
            self._rows.commit(batch)
            self._survey.missing.discard(pack.ref)
            self._survey.aside.pop(pack.ref, None)
            self._small.remove(blobs)

    def finish(self, pack: Pack, zips_count: int) -> None:
        """Say that all parts of the file of this pack are there."""
        batch = Batch()
        set_whole(batch, pack.whole, zips_count)
        self._rows.commit(batch)

    def tidy(self, zip_: SizedRef) -> None:
        """Remove the loose copies of what lies in this zip, if it can be read there."""
        pack = self._survey.read(zip_)
        if pack is None:
            return
        with self._alone:
            loose = {ref for ref, _ in self._small.stat({blob.ref for blob in pack.blobs})}
            places = self._rows.places(loose)
            self._small.remove(
                [ref for ref, place in places.items() if is_intact(self._large, ref, place)]
            )

    # -- out ------------------------------------------------------------------------------------

    def remove(self, refs: Iterable[Ref]) -> bool:
        """Remove blobs durably, wherever copies lie. Returns whether some lay in zips."""
        wanted = list(dict.fromkeys(refs))
        with self._alone:
            if self._removed_meanwhile is not None:
                self._removed_meanwhile.update(wanted)
            places = self._rows.places(wanted)
            batch = Batch()
            for ref in places:
                delete_place(batch, ref)
            for zip_ref in {place.zip_ref for place in places.values()}:
                set_removed(batch, zip_ref, self._now_s())
            self._rows.commit(batch)
            self._small.remove(wanted)
        return bool(places)

    def lead_to_loose(self, healed: Mapping[Ref, Place]) -> None:
        """Delete the rows of blobs whose packed copy is damaged and which are loose again.

        healed: the blobs and where the damaged copies lie.
        """
        with self._alone:
            there = {ref for ref, _ in self._small.stat(healed)}
            now = self._rows.places(there)
            self._delete_places(ref for ref in there if now.get(ref) == healed[ref])

    def unpack(self, zip_refs: Iterable[Ref]) -> int:
        """Make the blobs of these zips loose again that are not removed, then delete the zips.

        A zip of which some blob can't be read stays. Returns how many bytes of zips are gone.
        Raises Unsupported where zips can't be removed.
        """
        freed = 0
        for zip_ in list(self._large.stat(zip_refs)):
            pack = self._survey.read(zip_)
            if pack is not None:
                with self._alone:
                    freed += zip_.size if self._unpack(pack) else 0
        return freed

    def _unpack(self, pack: Pack) -> bool:
        refs = {blob.ref for blob in pack.blobs}
        places = self._rows.places(refs)
        stays: list[tuple[Ref, bytes]] = []
        for ref, place in places.items():
            if place.zip_ref != pack.ref and is_intact(self._large, ref, place):
                continue
            try:
                stays.append((ref, self._any_copy(ref, place)))
            except (NotFound, Corrupt):
                return False
        self._small.receive_many(stays)
        self._delete_places(ref for ref, _ in stays)
        row = self._rows.zip(pack.ref)
        try:
            self._large.remove([pack.ref])
        except Unsupported:
            raise Unsupported("remove", pack.ref, "the large store removes nothing") from None
        if row is not None:
            batch = Batch()
            delete_zip(batch, row, self._rows.parts(row.whole.ref))
            self._rows.commit(batch)
        return True

    def _any_copy(self, ref: Ref, place: Place) -> bytes:
        try:
            return read_blob(self._large, ref, place)
        except (NotFound, Corrupt):
            return self._small.fetch(ref)

    def _delete_places(self, refs: Iterable[Ref]) -> None:
        batch = Batch()
        for ref in refs:
            delete_place(batch, ref)
        self.moved_out += 1
        self._rows.commit(batch)

    def with_removed(self) -> list[Ref]:
        """The zips that hold removed blobs, also copies of some that another zip has a mark for."""
        marked = set(self._rows.zips_with_removed())
        gone: set[Ref] = set()
        for zip_ in self._large.stat(marked):
            pack = self._survey.read(zip_)
            if pack is not None:
                gone.update(blob.ref for blob in pack.blobs)
        gone -= self._rows.places(gone).keys()
        gone -= {ref for ref, _ in self._small.stat(gone)}
        batch = Batch()
        for row in self._rows.zips():
            if gone and row.ref not in marked:
                pack = self._survey.read(SizedRef(row.ref, row.size))
                if pack is not None and any(blob.ref in gone for blob in pack.blobs):
                    set_removed(batch, row.ref, self._now_s())
        with self._alone:
            self._rows.commit(batch)
        return self._rows.zips_with_removed()
