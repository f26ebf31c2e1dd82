"""What this machine remembers of the meta blobs, so that a loss does not go unnoticed."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from ...blob import Ref, parse_ref
from ...sorted.kv import Batch, KeyValue
from .lines import Line, Place

_KEY: Final = b"key"
_SEEKING: Final = b"seeking"


class Known:
    """Rows of our own, beside the index, which Perkeep's form leaves no room in.

    `m:<meta ref>` -> number of lines; `w:<ref>/<meta ref>` -> place: what that meta blob says;
    `r:<sealed ref>` -> the ref while it is being removed, `` when it was removed: what an older
    meta blob says of it counts no more; `d:<meta ref>`: is damaged; `key` -> the public key;
    `seeking`: see `set_seeking`.
    """

    def __init__(self, rows: KeyValue) -> None:
        self._rows = rows

    def recipient(self) -> str:
        """The key that wrote here before, or ""."""
        return (self._rows.get(_KEY) or b"").decode()

    def set_recipient(self, recipient: str) -> None:
        self._rows.set(_KEY, recipient.encode())

    def is_seeking(self) -> bool:
        return self._rows.get(_SEEKING) is not None

    def set_seeking(self, is_seeking: bool) -> None:
        """Whether sealed blobs without a name are to be looked for, also after a crash."""
        if is_seeking:
            self._rows.set(_SEEKING, b"1")
        elif self.is_seeking():
            self._rows.delete(_SEEKING)

    # -- meta blobs -----------------------------------------------------------------------------

    def metas(self) -> dict[Ref, int]:
        """The meta blobs, and how many lines each has."""
        return {Ref(key[2:].decode()): int(value) for key, value in self._rows.prefixed(b"m:")}

    def said(self) -> Iterator[tuple[Ref, list[tuple[Ref, Place]]]]:
        """Yield each ref, ascending, with the meta blobs that name it and the place they say."""
        for ref, rows in groupby(self._said_rows(), key=lambda row: row[0]):
            yield ref, [(meta, place) for _, meta, place in rows]

    def said_of(self, ref: Ref) -> list[tuple[Ref, Place]]:
        """The meta blobs that name this ref, and the place they say."""
        return [(meta, place) for _, meta, place in self._said_rows(ref.encode() + b"/")]

    def lines_of(self, metas: frozenset[Ref]) -> list[Line]:
        """What these meta blobs say. Looks at every row."""
        return [Line(ref, place) for ref, meta, place in self._said_rows() if meta in metas]

    def _said_rows(self, prefix: bytes = b"") -> Iterator[tuple[Ref, Ref, Place]]:
        for key, value in self._rows.prefixed(b"w:" + prefix):
            ref, _, meta = key[2:].decode().partition("/")
            place = Place.of_row(value)
            if place is not None:
                yield Ref.trusted(ref), Ref.trusted(meta), place

    def add(self, meta: Ref, lines: Iterable[Line]) -> None:
        """Note what a meta blob says. Lost by a power cut, it is read again."""
        batch = Batch()
        count = 0
        for ref, place in lines:
            batch.set(f"w:{ref}/{meta}".encode(), place.row())
            count += 1
        batch.set(b"m:" + meta.encode(), b"%d" % count)
        self._rows.commit(batch, durable=False)

    def drop(self, metas: Iterable[Ref], refs: Iterable[Ref]) -> None:
        """Forget meta blobs. refs: at least all those that they name."""
        gone = list(metas)
        batch = Batch(frees_room=True)
        for ref in refs:
            for meta in gone:
                batch.delete(f"w:{ref}/{meta}".encode())
        for meta in gone:
            batch.delete(b"m:" + meta.encode())
        self._rows.commit(batch, durable=False)

    def drop_scanning(self, metas: frozenset[Ref]) -> None:
        """Forget meta blobs. Looks at every row."""
        batch = Batch()
        for ref, meta, _ in self._said_rows():
            if meta in metas:
                batch.delete(f"w:{ref}/{meta}".encode())
        for meta in metas:
            batch.delete(b"m:" + meta.encode())
        self._rows.commit(batch, durable=False)

    def damaged(self) -> set[Ref]:
        """The meta blobs that were damaged at the last opening."""
        return {Ref(key[2:].decode()) for key, _ in self._rows.prefixed(b"d:")}

    def set_damaged(self, metas: Iterable[Ref]) -> None:
        batch = Batch()
        for key, _ in self._rows.prefixed(b"d:"):
            batch.delete(key)
        for meta in metas:
            batch.set(b"d:" + meta.encode(), b"1")
        self._rows.commit(batch, durable=False)

    # -- removals -------------------------------------------------------------------------------

    def begin_removal(self, lines: Iterable[Line]) -> None:
        """Durably: from now on no meta blob brings these back."""
        batch = Batch(frees_room=True)
        for ref, place in lines:
            batch.set(b"r:" + place.sealed.encode(), ref.encode())
        self._rows.commit(batch)

    def end_removal(self, lines: Iterable[Line]) -> None:
        batch = Batch(frees_room=True)
        for _, place in lines:
            batch.set(b"r:" + place.sealed.encode(), b"")
        self._rows.commit(batch)

    def removed(self, sealed: Iterable[Ref]) -> set[Ref]:
        """Those of them that were removed, or are being."""
        found = self._rows.get_many(b"r:" + name.encode() for name in sealed)
        return {Ref.trusted(key[2:].decode()) for key in found}

    def unfinished_removals(self) -> list[Line]:
        found = []
        for key, value in self._rows.prefixed(b"r:"):
            ref = parse_ref(value.decode()) if value else None
            if ref is not None:
                found.append(Line(ref, Place(0, Ref.trusted(key[2:].decode()))))
        return found

    def close(self) -> None:
        self._rows.close()
