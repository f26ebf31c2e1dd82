"""What a search reads of the rows beyond single blobs: sets of blobs, in order, and edges."""

from collections.abc import Iterator
from heapq import merge
from itertools import groupby
from typing import Final

from ..blob import Ref
from ..schema.times import parse_time
from ..sorted.kv import after_prefix
from .derived import (
    CREATED,
    cell,
    created_key,
    end_prefix,
    has_beginning_key,
    has_prefix_key,
    is_listed_type,
    mime_prefix,
    name_prefix,
    place_prefix,
    read_created_key,
    snapshot_key,
    type_prefix,
    word_prefix,
)
from .rows import Meta, esc, parse_meta, time_of_reverse, unesc
from .snapshot import Snapshot, decode, take
from .view import View
from .words import piece_of, wordless_beginnings

_META: Final = b"meta:"


class Corpus:
    """Walks over rows. Every walk is a generator: it reads as far as it is pulled."""

    def __init__(self, view: View) -> None:
        self.view: Final = view

    # -- blobs ----------------------------------------------------------------------------------

    def blobs(self, prefix: str = "") -> Iterator[tuple[Ref, Meta]]:
        """Yield the indexed blobs whose ref begins so, in ref order."""
        for key, value in self.view.scan(_META + prefix.encode()):
            yield Ref.trusted(key[len(_META) :].decode()), parse_meta(value)

    def files_of(self, whole_ref: Ref) -> Iterator[Ref]:
        """Yield the files with this content."""
        return self.view.files_of(whole_ref)

    # -- permanodes -----------------------------------------------------------------------------

    def key_ids(self) -> list[str]:
        """All whose claims are known, ascending."""
        rows = self.view.scan(b"signerkeyid:")
        return sorted({key_id.decode() for _, key_id in rows})

    def latest_claims(self, before_ns: int | None = None) -> Iterator[tuple[int, list[Ref]]]:
        """Yield (date, permanodes with a claim of that date), newest first.

        A permanode comes once for each date at which something was claimed about it, by
        anybody, deleted claims included.
        """
        streams = [self._claims_of(key_id) for key_id in self.key_ids()]
        for time, rows in groupby(merge(*streams), key=lambda row: row[0]):
            date_ns = parse_time(time_of_reverse(time))
            if before_ns is None or date_ns <= before_ns:
                yield date_ns, sorted({permanode for _, permanode in rows}, reverse=True)

    def _claims_of(self, key_id: str) -> Iterator[tuple[str, Ref]]:
        prefix = f"recpn|{key_id}|".encode()
        for key, permanode in self.view.find(prefix, after_prefix(prefix)):
            yield key.decode().split("|")[2], Ref.trusted(permanode.decode())

    def snapshot(self, permanode: Ref) -> Snapshot:
        """What a permanode is now."""
        value = self.view.get(snapshot_key(permanode))
        found = None if value is None else decode(value)
        # Absent while it is not settled; without attributes, if those are too many for a row.
        if found is None or "" in found.attributes:
            return take(self.view, permanode)
        return found

    def of_type(self, camli_type: str) -> Iterator[Ref]:
        """Yield the schema blobs of a type, in ref order."""
        if is_listed_type(camli_type):
            return self._refs(type_prefix(camli_type).encode())
        return (ref for ref, meta in self.blobs() if meta.camli_type == camli_type)

    def by_creation(
        self, from_ns: int | None = None, until_ns: int | None = None
    ) -> Iterator[tuple[int, Ref]]:
        """Yield (time, permanode) of those that are not deleted, newest first.

        Equal times by ref, descending. from_ns, until_ns: bounds, inclusive.
        """
        start = CREATED if until_ns is None else created_key(until_ns)
        end = after_prefix(CREATED) if from_ns is None else created_key(from_ns - 1)
        for key, _ in self.view.find(start, end):
            yield read_created_key(key)

    def with_value(self, attribute: str, value: str) -> Iterator[Ref]:
        """Yield the permanodes that ever had the value, by anybody's claim."""
        return self._refs(has_prefix_key(attribute, value))

    def values(
        self, attribute: str, beginning: str = "", part: str = ""
    ) -> Iterator[tuple[str | None, Ref | None]]:
        """Yield (value, permanode) of all that ever had a value that begins so.

        part: values that can't hold this text, in whatever case, come as ("", None): so whoever
        pulls sees how the walk goes on. A value that is too long for a key comes as None.
        """
        head = has_prefix_key(attribute)
        # What is escaped could be another case of the part: only plain keys are judged by bytes.
        needle = esc(part).lower().encode() if part.isascii() and "%" not in esc(part) else b""
        for key, _ in self.view.scan(has_beginning_key(attribute, beginning)):
            lowered = key.lower()
            if needle not in lowered and lowered.find(b"%", len(head)) < 0:
                yield "", None
            elif not key.startswith(b"#", len(head)):
                value, _, permanode = key[len(head) :].decode().rpartition("|")
                yield unesc(value), Ref.trusted(permanode)
        for permanode in self._refs(head + b"#"):
            yield None, Ref.trusted(permanode)

    def containing(self, attribute: str, part: str) -> Iterator[tuple[str | None, Ref | None]]:
        """Yield as `values` does those that ever had a value with this text in it, any case.

        Values come as None, as they are not known here; others than asked for are among them.
        """
        piece = piece_of(part)
        if not piece:
            yield from self.values(attribute, part=part)
            return
        for key, _ in self.view.scan(end_prefix(attribute, piece)):
            yield "", None
            word = key.decode().rpartition("|")[2]
            for permanode in self._refs(word_prefix(attribute, word)):
                yield None, permanode
        for permanode in self._refs(word_prefix(attribute, "#")):
            yield None, permanode
        for beginning in wordless_beginnings(part):
            yield from self.values(attribute, beginning, part)

    def within(self, south: float, west: float, north: float, east: float) -> Iterator[Ref]:
        """Yield the permanodes in a rectangle and some around it, those not deleted.

        In degrees; it crosses the date line when west >= east.
        """
        columns = [(cell(west, 180), cell(east, 180))]
        if west >= east:
            columns = [(cell(west, 180), 2 * 180 - 1), (0, cell(east, 180))]
        for row in range(cell(south, 90), cell(north, 90) + 1):
            for first, last in columns:
                start = place_prefix(row, first).encode()
                for key, _ in self.view.find(start, place_prefix(row, last + 1).encode()):
                    yield Ref.trusted(key.decode().rpartition("|")[2])

    def files_named(self, name: str) -> Iterator[Ref]:
        return self._refs(name_prefix(name))

    def files_of_kind(self, mime: str) -> Iterator[Ref]:
        return self._refs(mime_prefix(mime))

    def _refs(self, prefix: bytes) -> Iterator[Ref]:
        """Yield the refs at the ends of keys."""
        for key, _ in self.view.scan(prefix):
            yield Ref.trusted(key.decode().rpartition("|")[2])

    # -- edges ----------------------------------------------------------------------------------

    def parents(self, child: Ref, edge_type: str) -> Iterator[Ref]:
        """Yield permanodes that ever named the child by this attribute, some repeatedly.

        edge_type: "": by `camliMember` or any `camliPath:`.
        """
        if edge_type:
            yield from self.with_value(edge_type, child)
            return
        for key, _ in self.view.scan(f"edgeback|{child}|".encode()):
            yield Ref.trusted(key.decode().split("|")[2])
        for key_id in self.key_ids():
            for _, value in self.view.scan(f"signertargetpath|{key_id}|{child}|".encode()):
                yield Ref.trusted(value.decode().split("|")[1])

    def directories_of(self, child: Ref) -> Iterator[Ref]:
        """Yield the directories that have this child."""
        return self._refs(f"pk|parent|{child}|".encode())
