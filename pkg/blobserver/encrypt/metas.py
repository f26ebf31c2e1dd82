"""Meta blobs: reading, writing and merging them."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Final

from ...blob import Ref
from ...errors import Corrupt, NotFound, StoreError, Unavailable
from ..storage import Storage
from .known import Known
from .lines import FULL, Line, bundles, parse, text_of
from .sealing import Sealer

_FETCH_COUNT: Final = 32
_FETCH_THREADS: Final = 8
"""Meta blobs asked for in one go, and how many such questions wait at the same time."""

_FAN_IN: Final = 16
"""Meta blobs of about one size that become one."""

Read = tuple[Ref, list[Line] | StoreError]


class Metas:
    """The meta blobs of a store, and what is known of them. Safe to use from many threads."""

    def __init__(self, store: Storage, sealer: Sealer, known: Known) -> None:
        self.store = store
        self._sealer = sealer
        self._known = known
        self._counts: dict[Ref, int] = {}
        self._counts_lock = threading.Lock()
        self._merging = threading.RLock()
        self._left_over: set[Ref] = set()

    # -- reading --------------------------------------------------------------------------------

    def read(self, refs: Iterable[Ref]) -> Iterator[Read]:
        """Yield the lines of each, in the order given, or why there are none.

        Many at once, since the store may be far away. Raises what ends the asking: Unavailable.
        """
        rest = iter(refs)
        with ThreadPoolExecutor(_FETCH_THREADS, thread_name_prefix="metas") as threads:
            waiting: deque[Future[list[Read]]] = deque()
            while True:
                while len(waiting) < _FETCH_THREADS and (page := list(islice(rest, _FETCH_COUNT))):
                    waiting.append(threads.submit(self._read_page, page))
                if not waiting:
                    return
                yield from waiting.popleft().result()

    def _read_page(self, refs: Sequence[Ref]) -> list[Read]:
        return [(ref, self._lines(ref, sealed)) for ref, sealed in self.store.fetch_many(refs)]

    def _lines(self, ref: Ref, sealed: bytes | NotFound | Corrupt) -> list[Line] | StoreError:
        if not isinstance(sealed, bytes):
            return sealed
        try:
            return parse(ref, self._sealer.unseal(ref, sealed))
        except StoreError as error:
            return error

    # -- writing --------------------------------------------------------------------------------

    def write(self, lines: Iterable[Line]) -> dict[Ref, list[Line]]:
        """Store lines durably. Returns the meta blobs made; `note` them when the rows are set."""
        made: dict[Ref, list[Line]] = {}
        batch = []
        for bundle in bundles(lines):
            text = text_of(bundle)
            sealed = self._sealer.seal(Ref.of(text), text)
            made[Ref.of(sealed)] = bundle
            batch.append((Ref.of(sealed), sealed))
        if batch:
            self.store.receive_many(batch)
        return made

    def note(self, made: dict[Ref, list[Line]]) -> None:
        """Remember what meta blobs say."""
        for meta, lines in made.items():
            self._known.add(meta, lines)
        with self._counts_lock:
            self._counts.update((meta, len(lines)) for meta, lines in made.items())

    def count(self) -> None:
        """Take over how many lines the known ones have."""
        with self._counts_lock:
            self._counts = self._known.metas()

    # -- merging --------------------------------------------------------------------------------

    def due(self) -> list[Ref]:
        """Meta blobs of about one size, if there are so many that they should be merged."""
        classes: dict[int, list[tuple[int, Ref]]] = {}
        with self._counts_lock:
            for meta, count in self._counts.items():
                if count < FULL:
                    # 1 to 7 lines, up to 63, up to 511, and so on.
                    classes.setdefault(count.bit_length() // 3, []).append((count, meta))
        for members in classes.values():
            is_full = len(members) > 1 and sum(count for count, _ in members) >= FULL
            if len(members) >= _FAN_IN or is_full:
                return _portions(members)[0]
        return []

    def merge_due(self) -> None:
        """Merge until no more is due. Each line is so written about once per class of sizes."""
        with self._merging:
            while due := self.due():
                self._merge(due)

    def merge_all(self) -> None:
        """Merge all that are not full: what is left is full, but for one."""
        with self._merging:
            with self._counts_lock:
                small = [(count, meta) for meta, count in self._counts.items() if count < FULL]
            for portion in _portions(small):
                if len(portion) > 1:
                    self._merge(portion)
            self._delete([])

    def without(self, lines: Sequence[Line]) -> None:
        """Write the meta blobs anew that name any of these, which are being removed."""
        gone = {place.sealed for _, place in lines}
        with self._merging:
            naming = {
                meta
                for line in lines
                for meta, place in self._known.said_of(line.ref)
                if place.sealed in gone
            }
            self.rewrite(sorted(naming))

    def rewrite(self, metas: Sequence[Ref]) -> None:
        """Write meta blobs anew without what was removed.

        Raises Unavailable also when an old one can't be deleted.
        """
        with self._merging:
            if metas:
                self._merge(metas)
            elif self._left_over:
                self._delete([])
            for meta in self._left_over:
                raise Unavailable("delete", meta, "it names what is being removed")

    def _merge(self, metas: Sequence[Ref]) -> None:
        """Replace meta blobs by as few as there can be; what was removed is left out.

        The old ones go when the new ones are durable and were read back; where deleting fails
        they stay, which does no harm. A damaged one is replaced from what is known of it, and
        stays.
        """
        lines: set[Line] = set()
        good: list[Ref] = []
        bad: list[Ref] = []
        for meta, found in self.read(metas):
            if isinstance(found, StoreError):
                bad.append(meta)
            else:
                good.append(meta)
                lines.update(found)
        named = {line.ref for line in lines}
        if bad:
            lines.update(self._known.lines_of(frozenset(bad)))
        removed = self._known.removed(place.sealed for _, place in lines)
        made = self.write(line for line in lines if line.place.sealed not in removed)
        for meta, written in self.read(made):
            if written != made[meta]:
                raise Unavailable("compact", meta, "is not read back as it was written")
        self.note(made)
        replaced = [meta for meta in good if meta not in made]
        self._known.drop(replaced, named)
        if bad:
            self._known.drop_scanning(frozenset(bad))
        with self._counts_lock:
            for meta in (*replaced, *bad):
                self._counts.pop(meta, None)
        self._delete(replaced)

    def _delete(self, metas: Iterable[Ref]) -> None:
        self._left_over.update(metas)
        try:
            if self._left_over:
                self.store.remove(sorted(self._left_over))
                self._left_over.clear()
        except StoreError:
            pass  # tried again with the next merge; the next opening merges them again


def _portions(metas: Iterable[tuple[int, Ref]]) -> list[list[Ref]]:
    """Cut into parts that make a full meta blob each, the smallest first; the last may make less.

    metas: number of lines, meta blob.
    """
    portions: list[list[Ref]] = [[]]
    lines = 0
    for count, meta in sorted(metas):
        if lines >= FULL:
            portions.append([])
            lines = 0
        portions[-1].append(meta)
        lines += count
    return portions
