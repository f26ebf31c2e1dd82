"""The rows that say what lies in which zip (README.md, "Rows")."""

import re
from collections.abc import Iterable, Iterator, Set
from typing import Final, NamedTuple

from ...blob import Ref, SizedRef, parse_ref
from ...sorted.kv import Batch, KeyValue
from .listing import PLACE, sized
from .pack import Pack, Whole

# Most names are of one form: then no further look at them is needed.
_USUAL_KEY: Final = re.compile(rb"b:sha224-[0-9a-f]{56}")
_USUAL_PLACE: Final = re.compile(rb"([0-9]{1,10}) (sha224-[0-9a-f]{56}) ([0-9]{1,10})")


class Place(NamedTuple):
    """Where the bytes of a blob lie."""

    size: int
    zip_ref: Ref
    offset: int


class ZipRow(NamedTuple):
    """What a `z:` row says of a zip."""

    ref: Ref
    size: int
    whole: Whole
    whole_offset: int
    length: int


class WholePart(NamedTuple):
    """A part of a file, `length` bytes: where it begins in its zip and in the file."""

    number: int
    zip_ref: Ref
    data_offset: int
    whole_offset: int
    length: int


class Rows:
    """Typed access to the rows. A row that breaks its form counts as absent."""

    def __init__(self, rows: KeyValue) -> None:
        self._rows = rows

    # -- blobs ----------------------------------------------------------------------------------

    def place(self, ref: Ref) -> Place | None:
        value = self._rows.get(b"b:" + ref.encode())
        return None if value is None else _place(value)

    def places(self, refs: Iterable[Ref]) -> dict[Ref, Place]:
        """Where those lie that are packed, in the order given."""
        keys = {b"b:" + ref.encode(): ref for ref in refs}
        found = self._rows.get_many(keys)
        return {
            ref: place
            for key, ref in keys.items()
            if key in found and (place := _place(found[key])) is not None
        }

    def all_places(self) -> Iterator[tuple[Ref, Place]]:
        """Yield the packed blobs in ref order."""
        for key, value in self._rows.find(b"b:", b"b;"):
            text = key[2:].decode("utf-8", "replace")
            ref = Ref.trusted(text) if _USUAL_KEY.fullmatch(key) else parse_ref(text)
            place = _place(value)
            if ref is not None and place is not None:
                yield ref, place

    def sizes_after(self, after: str, upto: str, without: Set[Ref]) -> Iterator[SizedRef]:
        """Yield the packed blobs with after < ref <= upto, in ref order; upto "" is open.

        without: zips whose blobs are left out.
        """
        start = b"b:" + after.encode("utf-8", "surrogatepass") + (b"\x01" if after else b"")
        end = b"b:" + upto.encode("utf-8", "surrogatepass") + b"\x01" if upto else b"b;"
        return sized(self._rows.find(start, end), without)

    # -- zips and files -------------------------------------------------------------------------

    def is_empty(self) -> bool:
        rows = self._rows.find()
        try:
            return next(rows, None) is None
        finally:
            rows.close()  # type: ignore[attr-defined]  # a generator

    def zip(self, ref: Ref) -> ZipRow | None:
        value = self._rows.get(b"z:" + ref.encode())
        return None if value is None else _zip_row(ref, value)

    def zips(self, after: str = "") -> Iterator[ZipRow]:
        """Yield the rows of the zips greater than `after`, in ref order."""
        for key, value in self._rows.find(b"z:" + after.encode("utf-8", "surrogatepass"), b"z;"):
            ref = parse_ref(key[2:].decode("utf-8", "replace"))
            if ref is not None and ref > after and (row := _zip_row(ref, value)) is not None:
                yield row

    def has_removed(self, zip_ref: Ref) -> bool:
        """Whether some blob of this zip was removed."""
        return self._rows.get(b"d:" + zip_ref.encode()) is not None

    def zips_with_removed(self) -> list[Ref]:
        refs = (
            parse_ref(key[2:].decode("utf-8", "replace")) for key, _ in self._rows.prefixed(b"d:")
        )
        return [ref for ref in refs if ref is not None]

    def parts(self, whole: Ref) -> list[WholePart]:
        """The parts of a file that are packed, by number."""
        prefix = b"w:" + whole.encode() + b":"
        found = [_part(key[len(prefix) :], value) for key, value in self._rows.prefixed(prefix)]
        return sorted(part for part in found if part is not None)

    def whole(self, whole: Ref) -> tuple[int, int] | None:
        """Size in bytes and number of zips of a file that is packed completely."""
        value = self._rows.get(b"w:" + whole.encode())
        numbers = _numbers(value.split(b" ")) if value is not None else None
        return (numbers[0], numbers[1]) if numbers is not None and len(numbers) == 2 else None

    def unfinished(self) -> list[Ref]:
        """The files of which parts are packed but not the whole."""
        found, last = [], ""
        for key, _ in self._rows.prefixed(b"w:"):
            text, colon, _ = key[2:].decode("utf-8", "replace").partition(":")
            if not colon:
                last = text
            elif text != last and (ref := parse_ref(text)) is not None:
                found.append(ref)
                last = text
        return found

    # -- changes --------------------------------------------------------------------------------

    def commit(self, batch: Batch) -> None:
        """Durably, all or nothing."""
        if len(batch):
            self._rows.commit(batch)

    def close(self) -> None:
        self._rows.close()


def set_place(batch: Batch, ref: Ref, place: Place) -> None:
    batch.set(b"b:" + ref.encode(), f"{place.size} {place.zip_ref} {place.offset}".encode())


def delete_place(batch: Batch, ref: Ref) -> None:
    batch.delete(b"b:" + ref.encode())


def set_part(batch: Batch, pack: Pack, whole_offset: int) -> None:
    """Say that this pack is a part of its file, and what the zip is."""
    whole = pack.whole
    batch.set(
        f"w:{whole.ref}:{pack.part_index}".encode(),
        f"{pack.ref} {pack.data_offset} {whole_offset} {pack.data_size}".encode(),
    )
    batch.set(
        f"z:{pack.ref}".encode(),
        f"{pack.size} {whole.ref} {whole.size} {whole_offset} {pack.data_size}".encode(),
    )


def set_whole(batch: Batch, whole: Whole, zips_count: int) -> None:
    """Say that a file is packed completely; after all its parts."""
    batch.set(f"w:{whole.ref}".encode(), f"{whole.size} {zips_count}".encode())


def set_removed(batch: Batch, zip_ref: Ref, at_s: int) -> None:
    """Say that some blob of this zip was removed."""
    batch.set(f"d:{zip_ref}".encode(), str(at_s).encode())


def delete_zip(batch: Batch, row: ZipRow, parts: Iterable[WholePart]) -> None:
    """Forget a zip that is gone. parts: of its file."""
    batch.delete(f"w:{row.whole.ref}".encode())
    for part in parts:
        if part.zip_ref == row.ref:
            batch.delete(f"w:{row.whole.ref}:{part.number}".encode())
    batch.delete(f"z:{row.ref}".encode())
    batch.delete(f"d:{row.ref}".encode())


def _place(value: bytes) -> Place | None:
    row = _USUAL_PLACE.fullmatch(value)
    if row is not None:
        return Place(int(row[1]), Ref.trusted(row[2].decode()), int(row[3]))
    row = PLACE.fullmatch(value)
    zip_ref = None if row is None else parse_ref(row[2].decode())
    if row is None or zip_ref is None:
        return None
    return Place(int(row[1]), zip_ref, int(row[3]))


def _zip_row(ref: Ref, value: bytes) -> ZipRow | None:
    fields = value.split(b" ")
    if len(fields) != 5:
        return None
    whole = parse_ref(fields.pop(1).decode("ascii", "replace"))
    numbers = _numbers(fields)
    if whole is None or numbers is None:
        return None
    size, whole_size, whole_offset, length = numbers
    return ZipRow(ref, size, Whole(whole, whole_size), whole_offset, length)


def _part(number: bytes, value: bytes) -> WholePart | None:
    zip_ref, _, rest = value.partition(b" ")
    ref = parse_ref(zip_ref.decode("ascii", "replace"))
    numbers = _numbers([number, *rest.split(b" ")])
    if ref is None or numbers is None or len(numbers) != 4:
        return None
    return WholePart(numbers[0], ref, *numbers[1:])


def _numbers(fields: Iterable[bytes]) -> list[int] | None:
    """Decimal numbers without sign or space, or None."""
    found = list(fields)
    return [int(field) for field in found] if all(field.isdigit() for field in found) else None
