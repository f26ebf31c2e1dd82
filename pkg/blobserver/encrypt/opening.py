"""What happens before the first call: new meta blobs are read, and losses found and mended."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

import numpy as np

from ...blob import MAX_BLOB_SIZE, Ref
from ...errors import ConfigError, Corrupt, NotFound, StoreError, Unsupported
from ...sorted.kv import Batch, KeyValue
from ..storage import Storage
from .known import Known
from .lines import Line, Place
from .metas import Metas
from .sealing import OLD_VERSION, Sealer

_PAGE: Final = 500
_ROWS: Final = 20_000
_PROBES: Final = 3
"""Sealed blobs that are tried with the key where no meta blob tells whether it is the right one."""


class Parts(NamedTuple):
    """What a store is made of. rows: the index, ref -> place, as Perkeep has it."""

    blobs: Storage
    metas: Metas
    sealer: Sealer
    rows: KeyValue
    known: Known


class Opening:
    """Brings the index up to what the meta blobs say, and the meta blobs up to the index.

    Reads everything new before it writes anything: a store that is refused stays untouched.
    """

    def __init__(self, parts: Parts) -> None:
        self._blobs, self._metas, self._sealer, self._rows, self._known = parts
        self.remarks: list[str] = []
        self._lines: dict[Ref, list[Line]] = {}
        self._damaged: set[Ref] = set()
        self._stale: list[Ref] = []

    def open(self, seek_unnamed: bool = False) -> list[str]:
        """seek_unnamed: look for sealed blobs that no meta blob names also where rows were there
        before, and no damage tells of any.

        Raises ConfigError (another key), Unsupported (another version), Unavailable.
        """
        self._refuse_another_key()
        known = self._known.metas()
        listed = {ref for ref, _ in self._metas.store.enumerate()}
        self._read_new(sorted(listed - known.keys()), has_known=bool(known))
        if seek_unnamed or self._is_index_empty() or self._damaged - self._known.damaged():
            self._known.set_seeking(True)
        self._note_new()
        gone = frozenset(known.keys() - listed)
        unnamed = self._compare(gone)
        if gone:
            self._known.drop_scanning(gone)
        if self._known.is_seeking():
            unnamed += self._seek_unnamed()
        self._mend(unnamed, len(gone))
        self._known.set_seeking(False)
        self._known.set_damaged(self._damaged)
        if not self._known.recipient():
            self._known.set_recipient(self._sealer.recipient.text)
        self._metas.count()
        self._rewrite_stale()
        return self.remarks

    # -- before anything is written -------------------------------------------------------------

    def _refuse_another_key(self) -> None:
        before = self._known.recipient()
        if before not in {"", self._sealer.recipient.text}:
            raise ConfigError(
                "open", "storage-encrypt, keyFile", f"this store was written with the key {before}"
            )

    def _read_new(self, metas: list[Ref], has_known: bool) -> None:
        is_foreign = False
        for meta, lines in self._metas.read(metas):
            if isinstance(lines, list):
                self._lines[meta] = lines
            elif isinstance(lines, Unsupported):
                raise lines
            elif not isinstance(lines, NotFound):  # else another process has merged it just now
                self._refuse_old_version(meta)
                is_foreign = is_foreign or lines.operation == "decrypt"
                self._damaged.add(meta)
                self.remarks.append(f"{lines}; what this meta blob named is looked for")
        if not self._lines and not has_known:
            self._probe_key(is_foreign)

    def _refuse_old_version(self, meta: Ref) -> None:
        """Bytes of the old version are refused even where they are damaged: what they name would
        otherwise seem to be lost."""
        try:
            first = self._metas.store.read_range(meta, 0, 1)
        except StoreError:
            return
        if first == OLD_VERSION:
            raise Unsupported("decrypt", meta, "version 01, not 02")

    def _probe_key(self, is_foreign: bool) -> None:
        """Refuse a key that opens nothing of what is there.

        is_foreign: whether some whole meta blob was not opened by it.
        """
        for ref, _ in islice(self._blobs.enumerate(), _PROBES):
            try:
                self._sealer.unseal(ref, self._blobs.fetch(ref))
                return
            except (Corrupt, NotFound) as error:
                is_foreign = is_foreign or error.operation == "decrypt"
        if is_foreign:
            raise ConfigError(
                "open", "storage-encrypt, keyFile", "the key opens nothing of what is there"
            )

    # -- the rows -------------------------------------------------------------------------------

    def _is_index_empty(self) -> bool:
        return next(rows_of(self._rows), None) is None

    def _note_new(self) -> None:
        for meta, lines in self._lines.items():
            removed = self._known.removed(place.sealed for _, place in lines)
            if removed:
                self._stale.append(meta)
            self._known.add(meta, [line for line in lines if line.place.sealed not in removed])
        self._lines.clear()

    def _compare(self, gone: frozenset[Ref]) -> list[Line]:
        """Set the rows that are missing. Returns the lines of rows that no meta blob names."""
        unnamed: list[Line] = []
        batch = Batch()
        for ref, row, said in self._joined():
            places = [place for meta, place in said if meta not in gone]
            if row is None:
                row = self._choice(places or [place for _, place in said])
                batch.set(ref.encode(), row.row())
                if len(batch) >= _ROWS:
                    self._rows.commit(batch)
                    batch = Batch()
            if row not in places:
                unnamed.append(Line(ref, row))
        self._rows.commit(batch)
        return unnamed

    def _joined(self) -> Iterator[tuple[Ref, Place | None, list[tuple[Ref, Place]]]]:
        """Yield each ref that has a row, or is named: its row, and what meta blobs say."""
        said = self._known.said()
        named = next(said, None)
        for ref, row in rows_of(self._rows):
            while named is not None and named[0] < ref:
                yield named[0], None, named[1]
                named = next(said, None)
            if named is not None and named[0] == ref:
                yield ref, row, named[1]
                named = next(said, None)
            else:
                yield ref, row, []
        while named is not None:
            yield named[0], None, named[1]
            named = next(said, None)

    def _choice(self, places: list[Place]) -> Place:
        if len(set(places)) > 1:
            there = {ref for ref, _ in self._blobs.stat([place.sealed for place in places])}
            places = [place for place in places if place.sealed in there] or places
        return places[0]

    # -- what is lost ---------------------------------------------------------------------------

    def _seek_unnamed(self) -> list[Line]:
        """Set rows for sealed blobs that nothing names: their meta blob was lost.

        They get the name that new blobs have; another hash name can't be told from them.
        """
        found = []
        for name in unnamed_blobs(self._blobs, self._rows, self._known):
            try:
                data = self._sealer.unseal(name, self._blobs.fetch(name))
            except (Corrupt, NotFound, Unsupported):
                continue
            line = Line(Ref.of(data), Place(len(data), name))
            if self._rows.get(line.ref.encode()) is None:
                self._rows.set(line.ref.encode(), line.place.row())
                found.append(line)
        if found:
            self.remarks.append(f"{len(found)} blobs were found that no meta blob named")
        return found

    def _mend(self, unnamed: list[Line], gone: int) -> None:
        """Name again what no meta blob names, where the sealed blob is there."""
        there: set[Ref] = set()
        for begin in range(0, len(unnamed), _PAGE):
            page = [line.place.sealed for line in unnamed[begin : begin + _PAGE]]
            there.update(ref for ref, _ in self._blobs.stat(page))
        lines = [line for line in unnamed if line.place.sealed in there]
        if gone and unnamed:
            self.remarks.append(f"{gone} meta blobs are gone that were there before")
        if len(lines) < len(unnamed):
            self.remarks.append(
                f"{len(unnamed) - len(lines)} blobs are gone, with the meta blobs that named them:"
                " withheld or deleted by others, or an old state was brought back"
            )
        if lines:
            try:
                self._metas.note(self._metas.write(lines))
                outcome = "named again"
            except StoreError as error:
                outcome = f"not named again: {error}"
            self.remarks.append(f"{len(lines)} blobs that no meta blob names: {outcome}")

    def _rewrite_stale(self) -> None:
        if not self._stale:
            return
        self.remarks.append(
            f"{len(self._stale)} meta blobs name blobs that were removed: a deletion was cut"
            " short, or an old state was brought back; the blobs stay removed"
        )
        try:
            self._metas.rewrite(self._stale)
        except StoreError as error:
            self.remarks.append(f"these meta blobs are not written anew: {error}")


def rows_of(rows: KeyValue) -> Iterator[tuple[Ref, Place]]:
    """Yield the rows of an index; what breaks the form is left out."""
    for key, value in rows.find():
        found = Place.of_row(value)
        try:
            ref = Ref(key.decode())
        except (UnicodeDecodeError, StoreError):
            continue
        if found is not None:
            yield ref, found


def unnamed_blobs(blobs: Storage, rows: KeyValue, known: Known) -> Iterator[Ref]:
    """Yield the sealed blobs that no row and no meta blob names, and that were not removed."""
    # Eight bytes of each name: two names alike in those would only make us overlook one.
    named = np.fromiter(_short_names(rows, known), dtype=np.uint64)
    named.sort()
    listing = iter(blobs.enumerate())
    while page := [ref for ref, size in islice(listing, _PAGE) if size <= MAX_BLOB_SIZE]:
        short = np.array([_short(ref) for ref in page], dtype=np.uint64)
        at = np.searchsorted(named, short)
        is_named = at < len(named)
        is_named[is_named] = named[at[is_named]] == short[is_named]
        unnamed = [ref for ref, is_one in zip(page, is_named, strict=True) if not is_one]
        removed = known.removed(unnamed)
        yield from (ref for ref in unnamed if ref not in removed)


def _short_names(rows: KeyValue, known: Known) -> Iterable[int]:
    for _, place in rows_of(rows):
        yield _short(place.sealed)
    for _, said in known.said():
        for _, place in said:
            yield _short(place.sealed)


def _short(ref: Ref) -> int:
    return int(ref.hex_digest[:16], 16)
