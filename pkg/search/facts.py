"""What a query learns about blobs: each fact is read from the index once."""

import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from ..blob import Ref, parse_ref
from ..errors import Invalid, Unavailable
from ..index.attributes import Place, attributes_of, place_of, place_of_file
from ..index.corpus import Corpus
from ..index.rows import FileInfo, Meta
from ..schema.claims import DEL_ATTRIBUTE, SET_ATTRIBUTE, Claim, search_attributes
from ..schema.times import parse_time

MAX_REMEMBERED: Final = 5000
"""Facts of each kind that are kept; older ones are read again."""

_CONTENT: Final = "camliContent"
_STARTS: Final = ("paymentDueDate", "startDate", "dateCreated")
_PUBLICATIONS: Final = ("datePublished", "dateModified")
_YEAR_1_NS: Final = -62_135_596_800 * 1_000_000_000
_STEPS_PER_LOOK_AT_THE_CLOCK: Final = 64

Attributes = dict[str, list[str]]

_K = TypeVar("_K")
_V = TypeVar("_V")


class _Memory(Generic[_K, _V]):
    """A function whose last answers are kept."""

    def __init__(self, read: Callable[[_K], _V]) -> None:
        self._read = read
        self._known: dict[_K, _V] = {}

    def __call__(self, key: _K) -> _V:
        try:
            return self._known[key]
        except KeyError:
            pass
        if len(self._known) >= MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        value = self._known[key] = self._read(key)
        return value


class Facts:
    """The index as one query sees it.

    now_ns: the moment of the query. patience_s: seconds until it is given up.
    """

    def __init__(self, corpus: Corpus, now_ns: int, patience_s: float) -> None:
        self.corpus: Final = corpus
        self.now_ns: Final = now_ns
        self.steps = 0
        self._patience_s = patience_s
        self._end_s = time.monotonic() + patience_s
        view = corpus.view
        self.meta: Final[_Memory[Ref, Meta | None]] = _Memory(view.meta)
        self.file_info: Final[_Memory[Ref, FileInfo | None]] = _Memory(view.file_info)
        self.claims: Final = _Memory(self._standing_claims)
        self.is_deleted: Final[_Memory[Ref, bool]] = _Memory(view.is_deleted)
        self.created_ns: Final = _Memory(self._created_ns)
        self.place: Final = _Memory(self._place)
        self._owned: Final = _Memory(self._owned_attributes)
        self._anyone: Final = _Memory(self._anyones_attributes)

    def step(self) -> None:
        """Count a piece of work. Raises Unavailable when the query has taken too long."""
        self.steps += 1
        if self.steps % _STEPS_PER_LOOK_AT_THE_CLOCK == 0 and time.monotonic() > self._end_s:
            raise Unavailable("search", "index", f"gave up after {self._patience_s:g} s")

    # -- permanodes -----------------------------------------------------------------------------

    def _standing_claims(self, permanode: Ref) -> list[Claim]:
        """Claims of everybody that are not deleted, by date."""
        view = self.corpus.view
        claims = view.claims(permanode)
        return [claim for claim in claims if not view.is_deleted(claim.ref)]

    def attributes(self, permanode: Ref, at_ns: int | None) -> Attributes:
        """By the owner's claims; empty and repeated values count."""
        return self._owned((permanode, at_ns))

    def anyones_attributes(self, permanode: Ref, at_ns: int | None) -> Attributes:
        """By everybody's claims."""
        return self._anyone((permanode, at_ns))

    def _owned_attributes(self, key: tuple[Ref, int | None]) -> Attributes:
        permanode, at_ns = key
        return search_attributes(self.claims(permanode), at_ns, self.corpus.view.owner_key_ids)

    def _anyones_attributes(self, key: tuple[Ref, int | None]) -> Attributes:
        permanode, at_ns = key
        return search_attributes(self.claims(permanode), at_ns)

    def modified_ns(self, permanode: Ref) -> int | None:
        """The date of the last claim about it, by anybody; None if there is none."""
        claims = self.claims(permanode)
        return claims[-1].date_ns if claims else None

    def _created_ns(self, permanode: Ref) -> int | None:
        """The time at which it is listed: what its attributes say, its content, its last claim."""
        attributes = self.anyones_attributes(permanode, None)
        found = _first_time(attributes, _STARTS)
        if found is None:
            content = _last_content(self.claims(permanode))
            times = [] if content is None else self.file_times_ns(content)
            found = times[0] if times else _first_time(attributes, _PUBLICATIONS)
        return self.modified_ns(permanode) if found is None else found

    def _place(self, key: tuple[Ref, int | None]) -> Place | None:
        """Where a permanode or a file is. key: the blob, and the moment (None: the latest)."""
        blob, at_ns = key
        view = self.corpus.view
        meta = self.meta(blob)
        if meta is None:
            return None
        if meta.camli_type == "permanode":
            return place_of(view, attributes_of(view, blob, at_ns), at_ns)
        return place_of_file(view, blob)

    # -- files ----------------------------------------------------------------------------------

    def file_times_ns(self, file: Ref) -> list[int]:
        """None, one, or two: the oldest and the newest."""
        return [parse_time(text) for text in self.corpus.view.file_times(file)]


def _first_time(attributes: Attributes, names: tuple[str, ...]) -> int | None:
    for name in names:
        values = attributes.get(name)
        try:
            time_ns = parse_time(values[0]) if values else _YEAR_1_NS
        except Invalid:
            continue
        if time_ns != _YEAR_1_NS:
            return time_ns
    return None


def _last_content(claims: list[Claim]) -> Ref | None:
    """The content by which a permanode is dated: what was set last, added ones do not count."""
    content = None
    for claim in claims:
        if claim.attribute == _CONTENT:
            if claim.type == SET_ATTRIBUTE:
                content = parse_ref(claim.value)
            elif claim.type == DEL_ATTRIBUTE:
                content = None
    return content
