"""Reading all blobs in the order of the disk, and whole files (README.md, "Streams")."""

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from ...blob import Ref, SizedRef, parse_ref
from ...errors import Corrupt, Invalid, NotFound, Unavailable
from ..storage import Storage, StreamedBlob
from .pack import Pack, PackedBlob, read_pack
from .rows import Place, Rows, WholePart
from .survey import Survey, read_blob

Fetch = Callable[[Ref], bytes]

_LOOSE: Final = "0:"
_PACKED: Final = "1:"


class _Start(NamedTuple):
    """Where a token leads: a zip, and the number of a blob in it."""

    zip_ref: str
    number: int


# -- all blobs ----------------------------------------------------------------------------------


class BlobStream:
    """All blobs: the loose ones, then zip by zip. A blob that lies twice comes once.

    fetch: finds a copy of a blob whose place in its zip is damaged.
    """

    def __init__(
        self, small: Storage, large: Storage, rows: Rows, survey: Survey, fetch: Fetch
    ) -> None:
        self._small = small
        self._large = large
        self._rows = rows
        self._survey = survey
        self._fetch = fetch
        self._replaced: set[Ref] = set()

    def blobs(self, token: str) -> Iterator[StreamedBlob]:
        """Raises Invalid for a token that is none of this stream."""
        if token.startswith(_PACKED):
            yield from self._packed(_start(token))
            return
        if token and not token.startswith(_LOOSE):
            raise Invalid("stream", repr(token[:100]), "not a token of this store")
        yield from self._loose(token.removeprefix(_LOOSE))
        yield from self._packed(_Start("", 0))

    def _loose(self, token: str) -> Iterator[StreamedBlob]:
        """Under the tokens of the small store, or where it has none of its own, Perkeep's.

        Perkeep lists such a store from a text shortly before the ref.
        """
        if type(self._small).stream is not Storage.stream:
            for blob in self._small.stream(token):
                yield blob._replace(token=_LOOSE + blob.token)
            return
        for ref, _ in self._small.enumerate(token):
            try:
                data = self._small.fetch(ref)
            except (NotFound, Corrupt):
                continue
            yield StreamedBlob(f"{_LOOSE}{ref[:-1]}{chr(ord(ref[-1]) - 1)}", ref, data)

    def _packed(self, start: _Start) -> Iterator[StreamedBlob]:
        for zip_ in self._zips(start.zip_ref):
            first = start.number if zip_.ref == start.zip_ref else 0
            try:
                data = self._large.read_range(zip_.ref, 0, zip_.size)
            except (NotFound, Corrupt, Invalid, Unavailable):
                data = b""
            yield from self._inside(zip_, data, first)

    def _zips(self, first: str) -> Iterator[SizedRef]:
        """The zips from `first` on, in ref order."""
        known = (SizedRef(row.ref, row.size) for row in self._rows.zips())
        unplaced = sorted(self._survey.unplaced.values())
        last = ""
        for zip_ in heapq.merge(known, unplaced):
            if zip_.ref >= first and zip_.ref != last:
                last = zip_.ref
                yield zip_

    def _inside(self, zip_: SizedRef, data: bytes, first: int) -> Iterator[StreamedBlob]:
        """The blobs of a zip whose rows lead here, from number `first`."""
        blobs = self._contents(zip_, data)
        places = self._rows.places({blob.ref for blob in blobs})
        loose = {ref for ref, _ in self._small.stat(places)}
        for number, blob in enumerate(blobs):
            place = Place(blob.size, zip_.ref, blob.offset)
            if number < first or places.get(blob.ref) != place or blob.ref in self._replaced:
                continue
            if blob.ref in loose and self._is_intact_loose(blob.ref):
                continue  # it came with the loose ones
            found: bytes | None = data[blob.offset : blob.offset + blob.size]
            if not blob.ref.matches(found or b""):
                found = self._another_copy(blob.ref)
            if found is not None:
                yield StreamedBlob(f"{_PACKED}{zip_.ref}:{number}", blob.ref, found)

    def _contents(self, zip_: SizedRef, data: bytes) -> Iterable[PackedBlob]:
        """What a zip holds, by itself; where it can't say it, what the rows say."""
        try:
            return read_pack(SizedRef(zip_.ref, len(data)), _slicer(data)).blobs
        except Corrupt:
            return sorted(
                (
                    PackedBlob(ref, place.offset, place.size)
                    for ref, place in self._rows.all_places()
                    if place.zip_ref == zip_.ref
                ),
                key=lambda blob: blob.offset,
            )

    def _is_intact_loose(self, ref: Ref) -> bool:
        try:
            self._small.fetch(ref)
        except (NotFound, Corrupt):
            return False
        return True

    def _another_copy(self, ref: Ref) -> bytes | None:
        try:
            data = self._fetch(ref)
        except (NotFound, Corrupt, Unavailable):
            return None
        self._replaced.add(ref)  # its row may lead to a later zip now
        return data


def _start(token: str) -> _Start:
    zip_ref, _, number = token.removeprefix(_PACKED).partition(":")
    if parse_ref(zip_ref) is None or not (number.isascii() and number.isdigit()):
        raise Invalid("stream", repr(token[:100]), "not a token of this store")
    return _Start(zip_ref, int(number[:18]))


def _slicer(data: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: data[offset : offset + length]


# -- a whole file -------------------------------------------------------------------------------


def open_whole(
    store: Storage, large: Storage, rows: Rows, whole: Ref, offset: int
) -> Iterator[bytes]:
    """The content of a packed file from `offset`; see BlobPacked.open_whole."""
    parts = _parts(rows, whole)
    size = parts[-1].whole_offset + parts[-1].length
    if not 0 <= offset <= size:
        raise Invalid("open whole", whole, f"offset {offset} lies outside its {size} bytes")
    for part in parts:
        if rows.has_removed(part.zip_ref):
            refs = {chunk.ref for chunk in _read(large, part).chunks}
            if {ref for ref, _ in store.stat(refs)} != refs:
                raise NotFound("open whole", whole, "some of it was removed")
    return _pieces(store, large, parts, offset)


def _parts(rows: Rows, whole: Ref) -> list[WholePart]:
    told, parts = rows.whole(whole), rows.parts(whole)
    end = 0
    for number, part in enumerate(parts):
        if part.number != number or part.whole_offset != end:
            raise NotFound("open whole", whole, f"its part {number} is missing")
        end += part.length
    if told is None or not parts or told != (end, len(parts)):
        raise NotFound("open whole", whole, "not packed, or not completely")
    return parts


def _pieces(store: Storage, large: Storage, parts: list[WholePart], offset: int) -> Iterator[bytes]:
    for part in parts:
        if part.whole_offset + part.length <= offset:
            continue
        pack = _read(large, part)
        for chunk in pack.chunks:
            begin = part.whole_offset + chunk.offset - part.data_offset
            if begin + chunk.size > offset:
                data = _chunk(store, large, pack, chunk)
                yield data[max(0, offset - begin) :]


def _chunk(store: Storage, large: Storage, pack: Pack, chunk: PackedBlob) -> bytes:
    try:
        return read_blob(large, chunk.ref, Place(chunk.size, pack.ref, chunk.offset))
    except (NotFound, Corrupt):
        return store.fetch(chunk.ref)


def _read(large: Storage, part: WholePart) -> Pack:
    """The pack of a part, whose chunks must be its data without a gap."""
    for zip_ in large.stat([part.zip_ref]):
        pack = read_pack(zip_, lambda at, length: large.read_range(part.zip_ref, at, length))
        end = part.data_offset
        for chunk in pack.chunks:
            if chunk.offset != end:
                raise Corrupt("read zip", part.zip_ref, f"its manifest has a gap at {end}")
            end += chunk.size
        if end != part.data_offset + part.length:
            raise Corrupt("read zip", part.zip_ref, "its manifest does not cover the file")
        return pack
    raise NotFound("open whole", part.zip_ref, "the zip is missing")
