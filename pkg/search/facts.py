"""What a query learns about blobs: each fact is read from the index once."""

import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from ..blob import Ref
from ..errors import Unavailable, Unsupported
from ..index.attributes import Place, attributes_of, place_of, place_of_file
from ..index.corpus import Corpus
from ..index.rows import FileInfo, Meta
from ..index.snapshot import Attributes, Snapshot
from ..schema.claims import Claim, search_attributes
from ..schema.times import parse_time

MAX_REMEMBERED: Final = 5000
"""Facts of each kind that are kept; older ones are read again."""

_STEPS_PER_LOOK_AT_THE_CLOCK: Final = 64

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
        value = self._read(key)
        self.learn(key, value)
        return value

    def __contains__(self, key: _K) -> bool:
        return key in self._known

    def learn(self, key: _K, value: _V) -> None:
        """Keep what is known from elsewhere."""
        if len(self._known) >= MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[key] = value


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
        self.snapshot: Final[_Memory[Ref, Snapshot]] = _Memory(corpus.snapshot)
        self.place: Final = _Memory(self._place)
        self.texts: Final = _Memory(self._texts)
        self._past: Final = _Memory(self._past_claims)

    def step(self) -> None:
        """Count a piece of work. Raises Unavailable when the query has taken too long."""
        self.steps += 1
        if self.steps % _STEPS_PER_LOOK_AT_THE_CLOCK == 0 and time.monotonic() > self._end_s:
            raise Unavailable("search", "index", f"gave up after {self._patience_s:g} s")

    # -- permanodes -----------------------------------------------------------------------------

    def expect_permanode(self, ref: Ref) -> None:
        """Learn from one row what `meta` and `snapshot` would read from two."""
        if ref in self.snapshot:
            return
        found = self.corpus.kept_snapshot(ref)
        if found is not None and not found.is_cut:
            self.snapshot.learn(ref, found)
            if found.size is not None:
                self.meta.learn(ref, Meta(found.size, "", "permanode"))

    def attributes(self, permanode: Ref, at_ns: int | None) -> Attributes:
        """By the owner's claims, of a moment (None: now); empty and repeated values count."""
        if at_ns is None:
            return self.snapshot(permanode).attributes
        owners = self.corpus.view.owner_key_ids
        return search_attributes(self._past(permanode), at_ns, owners)

    def anyones_attributes(self, permanode: Ref, at_ns: int | None) -> Attributes:
        """By everybody's claims."""
        if at_ns is None:
            return self.snapshot(permanode).anyones
        return search_attributes(self._past(permanode), at_ns)

    def _past_claims(self, permanode: Ref) -> list[Claim]:
        """Claims of everybody that are not deleted, by date."""
        view = self.corpus.view
        return [claim for claim in view.claims(permanode) if not view.is_deleted(claim.ref)]

    def _place(self, key: tuple[Ref, int | None]) -> Place | None:
        """Where a permanode or a file is. key: the blob, and the moment (None: the latest)."""
        blob, at_ns = key
        view = self.corpus.view
        meta = self.meta(blob)
        if meta is None:
            return None
        if meta.camli_type == "permanode":
            if at_ns is None:
                return self.snapshot(blob).place
            return place_of(view, attributes_of(view, blob, at_ns), at_ns)
        return place_of_file(view, blob)

    # -- texts ----------------------------------------------------------------------------------

    def _texts(self, words: str) -> frozenset[Ref]:
        """Files and permanodes with these words, also permanodes with such a file as content."""
        texts = self.corpus.view.texts
        if texts is None:
            raise Unsupported("search", "texts", "this server keeps no full text")
        found: set[Ref] = set()
        for ref in texts.find(words):
            self.step()
            found.add(ref)
            for permanode in self.corpus.with_value("camliContent", ref):
                if ref in self.snapshot(permanode).attributes.get("camliContent", ()):
                    found.add(permanode)
        return frozenset(found)

    # -- files ----------------------------------------------------------------------------------

    def file_times_ns(self, file: Ref) -> list[int]:
        """None, one, or two: the oldest and the newest."""
        return [parse_time(text) for text in self.corpus.view.file_times(file)]
