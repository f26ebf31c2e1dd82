"""Every blob with its data, in the order of the packs."""

from collections.abc import Iterator

from ...blob import Ref, parse_ref
from ...errors import Invalid, StoreError
from ...sorted.kv import KeyValue
from ..storage import StreamedBlob
from .packs import Packs
from .records import Place, header
from .walk import Kind, Stretch, Walker


def stream(packs: Packs, rows: KeyValue, token: str) -> Iterator[StreamedBlob]:
    """Yield the blobs whose rows lead to intact bytes, each once.

    Records without a row are left out: not yet synced, doubles, removed in part.
    Raises Invalid for a token that is none.
    """
    first, begin = _parse(token)
    number = first
    while number <= max(packs.numbers, default=-1):
        if number in packs.numbers:
            yield from _PackStream(packs, rows, number).blobs(begin if number == first else 0)
        number += 1


def _parse(token: str) -> tuple[int, int]:
    if not token:
        return 0, 0
    pack, _, offset = token.partition(" ")
    if not (pack.isdecimal() and offset.isdecimal() and token.isascii()):
        raise Invalid("stream", repr(token[:100]), "no continuation token of this store")
    return int(pack), int(offset)


class _PackStream:
    def __init__(self, packs: Packs, rows: KeyValue, number: int) -> None:
        self._packs = packs
        self._rows = rows
        self._number = number
        self._rows_here: list[tuple[Place, Ref]] | None = None

    def blobs(self, begin: int) -> Iterator[StreamedBlob]:
        for found in Walker(self._packs.reader(self._number)).walk(begin):
            if found.kind is Kind.LIVE:
                yield from self._record(found, found.ref)
            elif found.kind is Kind.DAMAGED and found.actual is not None:
                yield from self._record(found, found.actual)
            elif found.kind is not Kind.REMOVED:
                yield from self._unreadable(found)

    def _record(self, found: Stretch, ref: Ref | None) -> Iterator[StreamedBlob]:
        if ref is None or found.data is None:
            return
        place = Place(self._number, found.offset, found.size)
        if self._rows.get(ref.encode()) == place.row():
            yield StreamedBlob(f"{self._number} {found.begin}", ref, found.data)

    def _unreadable(self, found: Stretch) -> Iterator[StreamedBlob]:
        """Blobs in a stretch whose headers are damaged: their rows still know them."""
        if self._rows_here is None:
            self._rows_here = rows_of(self._packs, self._rows, self._number)
        for place, ref in self._rows_here:
            begin = place.offset - len(header(ref, place.size))
            if not found.begin <= begin < found.end:
                continue
            try:
                data = self._packs.read(place)
            except StoreError:
                continue
            if ref.matches(data) and self._rows.get(ref.encode()) == place.row():
                yield StreamedBlob(f"{self._number} {begin}", ref, data)


def rows_of(packs: Packs, rows: KeyValue, number: int) -> list[tuple[Place, Ref]]:
    """The rows that lead into one pack, in its order. Looks at every row."""
    prefix = b"%d " % number
    found = []
    for key, value in rows.find():
        if value.startswith(prefix):
            place = packs.usable(value)
            ref = parse_ref(key.decode("ascii", "replace"))
            if place is not None and ref is not None:
                found.append((place, ref))
    found.sort()
    return found
