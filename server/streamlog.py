"""What has arrived lately, numbered, for subscribers of the stream.

The log begins with the first subscriber and is in memory: a cursor names this log and a position
in it. After a restart, or when it lies too far back, the subscriber is told so (410), compares
everything and begins anew, so nothing is ever lost unnoticed.
"""

import secrets
import struct
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from ..blob import Ref
from ..blobserver.hub import Hub
from ..index.index import Index

KEPT: Final = 100_000
"""Arrivals that a log keeps at least."""

PAGE: Final = 400

_CURSOR: Final = struct.Struct(">8sQQ")

Positions = tuple[int, int]
"""How far a subscriber has got: in the log of blobs, and in that of changes."""


class Entries(NamedTuple):
    refs: list[Ref]
    next: int


class Log:
    """Refs in the order of their arrival. Safe to use from many threads.

    A ref that comes again, by the next store on its way, moves to the end: it is told once, and
    when it can be seen everywhere.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._refs: list[Ref] = []
        self._first = 0  # the position of the first that is kept
        self._latest: dict[Ref, int] = {}

    @property
    def end(self) -> int:
        return self._first + len(self._refs)

    def add(self, refs: Iterable[Ref]) -> None:
        with self._lock:
            for ref in refs:
                self._latest[ref] = self._first + len(self._refs)
                self._refs.append(ref)
            if len(self._refs) >= 2 * self._kept:
                self._forget(len(self._refs) - self._kept)

    def _forget(self, count: int) -> None:
        for position, ref in enumerate(self._refs[:count], self._first):
            if self._latest[ref] == position:
                del self._latest[ref]
        del self._refs[:count]
        self._first += count

    def after(self, position: int, limit: int = PAGE) -> Entries | None:
        """The next that have arrived; None where they are forgotten, or there is no such place."""
        with self._lock:
            if not self._first <= position <= self.end:
                return None
            begin = position - self._first
            page = self._refs[begin : begin + limit]
            fresh = [ref for at, ref in enumerate(page, position) if self._latest[ref] == at]
            return Entries(fresh, position + len(page))


class Logs:
    """The logs of one storage prefix: of its blobs, and of the index over them, if there is one.

    `listen` is told, in any thread, that something was added.
    """

    def __init__(self, hubs: Sequence[Hub], index: Index | None) -> None:
        self._hubs = hubs
        self._index = index
        self._name = secrets.token_bytes(8)
        self._lock = threading.Lock()
        self._is_kept = False
        self._listeners: set[Callable[[], None]] = set()
        self.blobs: Final = Log()
        self.changes: Final = Log()

    @property
    def has_changes(self) -> bool:
        return self._index is not None

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Returns what ends it. From the first call on, what arrives is kept."""
        with self._lock:
            self._listeners = {*self._listeners, listener}
            if not self._is_kept:
                self._is_kept = True
                for hub in self._hubs:
                    hub.listen(self._arrived)
                if self._index is not None:
                    self._index.watch(self._changed)

        def forget() -> None:
            with self._lock:
                self._listeners = self._listeners - {listener}

        return forget

    def _arrived(self, ref: Ref) -> None:
        self.blobs.add((ref,))
        self._tell()

    def _changed(self, refs: set[Ref]) -> None:
        self.changes.add(sorted(refs))
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    # -- cursors --------------------------------------------------------------------------------

    def now(self) -> Positions:
        return self.blobs.end, self.changes.end

    def cursor(self, positions: Positions) -> bytes:
        return _CURSOR.pack(self._name, *positions)

    def positions(self, cursor: bytes) -> Positions | None:
        """Where a cursor points; None for one of another log, or of none."""
        if len(cursor) != _CURSOR.size:
            return None
        name, blobs, changes = _CURSOR.unpack(cursor)
        return (blobs, changes) if name == self._name else None
