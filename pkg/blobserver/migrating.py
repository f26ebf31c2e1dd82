"""Moving from one store to another while both serve (COMBINATORS.md, "migrate")."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Final, NamedTuple, Self

from ..blob import Ref, SizedRef
from ..errors import Corrupt, NotFound
from ..sorted.kv import KeyValue
from ..sorted.options import Options
from ..sorted.registry import open_kv
from .forward import Forward
from .overlay import Overlay
from .storage import Storage
from .sync import Copied, copy_missing

_PAGE: Final = 500
_NAMED: Final = 1000
"""Damaged blobs that are named; the others are counted."""


class Progress(NamedTuple):
    """How far a migration has come. Each phase begins anew after a restart.

    phase: "copying", "verifying", "done", or "damaged": all is done but for blobs that can be read
    in neither store. Where these are to be left behind, that is "done" too.
    """

    phase: str
    blobs: int = 0  # copied, or verified
    size_bytes: int = 0
    damaged: tuple[Ref, ...] = ()
    damaged_count: int = 0

    def document(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "phase": self.phase,
            "blobs": self.blobs,
            "bytes": self.size_bytes,
            "damaged": list(self.damaged),
            "damagedCount": self.damaged_count,
        }


class Stopped(Exception):
    """A migration was told to stop; the next run goes on."""


class Migrating(Overlay):
    """Reads from both stores, writes to the new one only, and copies what that lacks.

    The old store is never written to. What is removed is remembered in rows until the end, as the
    old store keeps it. After `migrate` says "done" the new store alone is what this one was.
    """

    def __init__(
        self, old: Storage, new: Storage, removed: KeyValue, *, leave_damaged: bool = False
    ) -> None:
        """removed: rows for this migration alone; closed with it.

        leave_damaged: blobs that can be read in neither store are named, and end nothing.
        """
        super().__init__(old, new, removed)
        self._rows = removed
        self._copies = threading.Lock()
        self._is_done = False
        self._leave_damaged = leave_damaged
        # A removal that a crash cut short: the row is there, and perhaps the new copy as well.
        new.remove(Ref.trusted(key.decode()) for key, _ in removed.find())

    @classmethod
    def from_config(cls, args: Mapping[str, object], resolve: Callable[[str], Storage]) -> Self:
        """Arguments: from, to, removed (a sorted store), leaveDamaged."""
        with Options("storage-migrate", args) as options:
            old, new = options.string("from"), options.string("to")
            rows = options.table("removed")
            leave_damaged = options.boolean("leaveDamaged", False)
        return cls(resolve(old), resolve(new), open_kv(rows), leave_damaged=leave_damaged)

    def remove(self, refs: Iterable[Ref]) -> None:
        """Waits for the batch that is being copied: it could bring a removed blob back."""
        with self._copies:
            super().remove(refs)

    def migrate(self, tell: Callable[[Progress], None]) -> Progress:
        """Copy, then read everything back from the new store. One caller at a time.

        tell: hears of each step; to stop, it raises Stopped, which goes to the caller. Raises
        what the stores raise. Done again after an interruption, it copies only what is lacking.
        """

        def told(copied: Copied) -> None:
            count = len(copied.damaged)
            tell(Progress("copying", copied.blobs, copied.size_bytes, damaged_count=count))

        source, target = _Shown(self._lower, self._hidden), _Door(self)
        copy_missing(source, target, progress=told)
        progress = Progress("verifying")
        for progress in self._verified():
            tell(progress)
        self._is_done = self._leave_damaged or not progress.damaged_count
        progress = progress._replace(phase="done" if self._is_done else "damaged")
        tell(progress)
        return progress

    def close(self) -> None:
        """After the end the rows have no meaning any more: another migration begins without."""
        if self._is_done:
            self._rows.wipe()
        super().close()

    def copy_in(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        """Store copies in the new store, but not of what was removed meanwhile."""
        batch = list(blobs)
        with self._copies:
            hidden = self._hidden(ref for ref, _ in batch)
            self._upper.receive_many([blob for blob in batch if blob[0] not in hidden])
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def _verified(self) -> Iterator[Progress]:
        progress = Progress("verifying")
        listing = self.enumerate()
        while page := [found.ref for found in islice(listing, _PAGE)]:
            for ref, data in self._upper.fetch_many(page):
                found = data if isinstance(data, bytes) else self._mended(ref)
                if found is None:
                    named = (
                        progress.damaged
                        if len(progress.damaged) >= _NAMED
                        else (*progress.damaged, ref)
                    )
                    progress = progress._replace(
                        damaged=named, damaged_count=progress.damaged_count + 1
                    )
                else:
                    progress = progress._replace(
                        blobs=progress.blobs + 1, size_bytes=progress.size_bytes + len(found)
                    )
            yield progress

    def _mended(self, ref: Ref) -> bytes | None:
        """The blob, in the new store now; None where no copy is good. b"" if it was removed."""
        try:
            data = self.fetch(ref)
        except NotFound:
            return b""
        except Corrupt:
            return None
        self.copy_in([(ref, data)])
        try:
            return self._upper.fetch(ref)
        except NotFound:
            return b""
        except Corrupt:
            return None


class _Shown(Forward):
    """A store without what was removed."""

    def __init__(self, inner: Storage, hidden: Callable[[Iterable[Ref]], set[Ref]]) -> None:
        super().__init__(inner)
        self._hidden = hidden

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        listing = self._inner.enumerate(after)
        while page := list(islice(listing, _PAGE)):
            hidden = self._hidden(found.ref for found in page)
            yield from (found for found in page if found.ref not in hidden)


class _Door(Forward):
    """The new store of a migration, for its copies."""

    def __init__(self, migrating: Migrating) -> None:
        super().__init__(migrating._upper)
        self._migrating = migrating

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        return self._migrating.copy_in(blobs)
