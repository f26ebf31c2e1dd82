"""What a search reads of the rows beyond single blobs: sets of blobs, in order, and edges."""

from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import chain, groupby, islice
from typing import Final, NamedTuple

from ..blob import Ref
from ..schema.times import parse_time
from ..sorted.kv import after_prefix
from .derived import (
    CREATED,
    LARGE,
    LONGEST_VALUE,
    MIME,
    NAME,
    cell,
    end_prefix,
    has_beginning_key,
    has_prefix_key,
    is_listed_type,
    mime_prefix,
    name_prefix,
    now_beginning,
    now_prefix,
    place_prefix,
    read_tail,
    tail,
    type_prefix,
    word_prefix,
)
from .rows import Meta, esc, parse_meta, time_of_reverse, unesc
from .snapshot import Snapshot, kept, take
from .view import View
from .words import (
    NUMBER_BEGINNINGS,
    REF_BEGINNINGS,
    folded,
    is_ref,
    may_be_in_number,
    may_be_in_ref,
    may_begin_ref,
    piece_of,
)

_META: Final = b"meta:"


class Span(NamedTuple):
    """What a walk in order of creation, newest first, is bounded to: ends of keys.

    first: inclusive. end: exclusive; b"" is open.
    """

    first: bytes = b""
    end: bytes = b""

    def of(self, prefix: bytes) -> tuple[bytes, bytes]:
        """The bounds of keys that begin so."""
        return prefix + self.first, prefix + self.end if self.end else after_prefix(prefix)

    def holds(self, end: bytes) -> bool:
        return self.first <= end and (not self.end or end < self.end)


EVERYTHING: Final = Span()


def span(
    from_ns: int | None = None, until_ns: int | None = None, after: tuple[int, Ref] | None = None
) -> Span:
    """from_ns, until_ns: bounds, inclusive. after: a position that the walk begins behind."""
    first = b"" if until_ns is None else tail(until_ns)
    if after is not None:
        first = max(first, tail(*after) + b"\0")
    return Span(first, b"" if from_ns is None else tail(from_ns - 1))


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
        found = self.kept_snapshot(permanode)
        # Absent while it is not settled; without attributes, if those are too many for a row.
        return take(self.view, permanode) if found is None or found.is_cut else found

    def kept_snapshot(self, permanode: Ref) -> Snapshot | None:
        """What the row says, which may be cut; None: there is none."""
        return kept(self.view, permanode)

    def of_type(self, camli_type: str) -> Iterator[Ref]:
        """Yield the schema blobs of a type, in ref order."""
        if is_listed_type(camli_type):
            return self._refs(type_prefix(camli_type).encode())
        return (ref for ref, meta in self.blobs() if meta.camli_type == camli_type)

    # Walks in order of creation yield the ends of keys, which `derived.read_tail` reads: to
    # tell the time and the permanode of each row costs more than to pass it over.

    def newest(self, bounds: Span = EVERYTHING) -> Iterator[bytes]:
        """Yield those that are not deleted, newest first; equal times by ref, descending."""
        return self._tails(CREATED, bounds)

    def newest_with(self, attribute: str, value: str, bounds: Span) -> Iterator[bytes] | None:
        """The same of those that have the value now, by the owner's claims; none twice.

        Others may be among them. None: no rows tell, for values that are refs.
        """
        if is_ref(value):
            return None
        return self._merged([now_prefix(attribute, value)], bounds)

    def newest_containing(
        self, attribute: str, part: str, bounds: Span, most_words: int
    ) -> Iterator[bytes] | None:
        """The same of those with this text in a value, in any case.

        None: no rows tell; or too many do, for words that differ.
        """
        piece = piece_of(part)
        if not piece or may_be_in_number(part):
            return None
        ends = self.view.scan(end_prefix(attribute, piece))
        words = {key.rpartition(b"|")[2].decode() for key, _ in islice(ends, most_words)}
        if next(ends, None) is not None:
            return None
        of_refs = list(islice(self._in_refs(attribute, part), most_words))
        if len(of_refs) == most_words:
            return None
        found = sorted(end for end in of_refs if end is not None and bounds.holds(end))
        prefixes = [word_prefix(attribute, word) for word in ("#", *words)]
        return self._merged(prefixes, bounds, found)

    def containing(self, attribute: str, part: str) -> Iterator[bytes | None] | None:
        """Walk over the ends of keys of the same, in no order, None for rows passed over.

        None: no rows tell.
        """
        return self._containing(attribute, part) if piece_of(part) else None

    def _containing(self, attribute: str, part: str) -> Iterator[bytes | None]:
        for key, _ in self.view.scan(end_prefix(attribute, piece_of(part))):
            yield None
            yield from self._tails(word_prefix(attribute, key.decode().rpartition("|")[2]))
        yield from self._tails(word_prefix(attribute, "#"))
        yield from self._tails(LARGE)
        for beginning in NUMBER_BEGINNINGS if may_be_in_number(part) else ():
            for key, _ in self.view.scan(now_beginning(attribute, beginning)):
                head, time, name = key.rsplit(b"|", 2)
                value = unesc(head.rpartition(b"|")[2].decode())
                yield time + b"|" + name if folded(part) in folded(value) else None
        yield from self._in_refs(attribute, part)

    def _in_refs(self, attribute: str, part: str) -> Iterator[bytes | None]:
        for beginning in REF_BEGINNINGS if may_be_in_ref(part) else ():
            for value, permanode in self.values(attribute, beginning, part):
                created_ns = None
                if permanode is not None and folded(part) in folded(value or ""):
                    created_ns = self.snapshot(permanode).created_ns
                yield None if created_ns is None else tail(created_ns, permanode or "")

    def _merged(
        self, prefixes: Iterable[bytes], bounds: Span, others: Iterable[bytes] = ()
    ) -> Iterator[bytes]:
        walks = [iter(others), *(self._tails(prefix, bounds) for prefix in (*prefixes, LARGE))]
        # A walk that is at its end would be compared with at every step.
        begun = [chain((first,), walk) for walk in walks if (first := next(walk, None))]
        for end, _ in groupby(merge(*begun)):
            yield end

    def _tails(self, prefix: bytes, bounds: Span = EVERYTHING) -> Iterator[bytes]:
        size = len(prefix)
        return (key[size:] for key, _ in self.view.find(*bounds.of(prefix)))

    def beginning_now(self, attribute: str, beginning: str) -> Iterator[bytes] | None:
        """Yield ends of keys of those with a value that begins so, by value.

        Those with a value that is too long for a key are among them, whatever it is. None: no
        rows tell, as values could be refs.
        """
        if may_begin_ref(beginning):
            return None
        hidden = (now_beginning(attribute, "") + b"#", LARGE)
        prefixes = (now_beginning(attribute, beginning), *hidden)
        return chain.from_iterable(map(self._last_two, prefixes))

    def _last_two(self, prefix: bytes) -> Iterator[bytes]:
        # What a key holds before its last two parts has at least two bars.
        return (b"|".join(key.rsplit(b"|", 2)[1:]) for key, _ in self.view.scan(prefix))

    def by_creation(
        self, from_ns: int | None = None, until_ns: int | None = None
    ) -> Iterator[tuple[int, Ref]]:
        """Yield (time, permanode) of those that are not deleted, newest first.

        Equal times by ref, descending. from_ns, until_ns: bounds, inclusive.
        """
        return map(read_tail, self.newest(span(from_ns, until_ns)))

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

    def within(self, south: float, west: float, north: float, east: float) -> Iterator[bytes]:
        """Yield ends of keys of permanodes in a rectangle and some around it, not deleted.

        In degrees; it crosses the date line when west >= east.
        """
        columns = [(cell(west, 180), cell(east, 180))]
        if west >= east:
            columns = [(cell(west, 180), 2 * 180 - 1), (0, cell(east, 180))]
        for row in range(cell(south, 90), cell(north, 90) + 1):
            for first, last in columns:
                start, end = place_prefix(row, first), place_prefix(row, last + 1)
                for key, _ in self.view.find(start, end):
                    yield key[len(start) :]

    def files_named(self, name: str) -> Iterator[Ref]:
        return self._refs(name_prefix(name))

    def files_of_kind(self, mime: str) -> Iterator[Ref]:
        return self._refs(mime_prefix(mime))

    def files_beginning(self, name: str) -> Iterator[Ref]:
        """Yield the files whose name begins so, or is too long for a key."""
        return self._beginning(NAME, name)

    def files_of_kinds(self, mime: str) -> Iterator[Ref]:
        """Yield the files of kinds that begin so."""
        return self._beginning(MIME, mime)

    def _beginning(self, prefix: bytes, beginning: str) -> Iterator[Ref]:
        escaped = esc(beginning)[:LONGEST_VALUE].encode()
        return chain(self._refs(prefix + escaped), self._refs(prefix + b"#"))

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
