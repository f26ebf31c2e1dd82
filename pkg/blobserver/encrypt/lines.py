"""What a meta blob says: which blob lies sealed under which name (README.md, "Format")."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Final, NamedTuple

from ...blob import Ref, parse_ref
from ...errors import Corrupt

HEADER: Final = b"#camlistore/encmeta=2\n"

FULL: Final = 10_001
"""Lines from which on a meta blob is not merged any more: Perkeep merges those of up to 10000."""


class Place(NamedTuple):
    """Where a blob lies: its own size in bytes, and the ref of the sealed one."""

    size: int
    sealed: Ref

    def row(self) -> bytes:
        return f"{self.size}/{self.sealed}".encode()

    @classmethod
    def of_row(cls, row: bytes) -> "Place | None":
        """None where it breaks the form `<size>/<sealed ref>`."""
        size, _, name = row.partition(b"/")
        sealed = parse_ref(name.decode("ascii", "replace"))
        if sealed is None or not size.isdigit() or len(size) > 10:
            return None
        return cls(int(size), sealed)


class Line(NamedTuple):
    """One blob in a meta blob. Sorts by its ref."""

    ref: Ref
    place: Place


def text_of(lines: Iterable[Line]) -> bytes:
    """The text of a meta blob; sorts the lines."""
    rows = [b"%s/%s\n" % (ref.encode(), place.row()) for ref, place in sorted(lines)]
    return HEADER + b"".join(rows)


def parse(name: Ref, text: bytes) -> list[Line]:
    """The lines of a meta blob; one that breaks the form is left out.

    name: of the meta blob, for errors. Raises Corrupt when it is none.
    """
    if not text.startswith(HEADER):
        raise Corrupt("read", name, "no meta blob: its first line is another")
    found = []
    for row in text[len(HEADER) :].split(b"\n"):
        ref_text, _, rest = row.partition(b"/")
        ref, place = parse_ref(ref_text.decode("ascii", "replace")), Place.of_row(rest)
        if ref is not None and place is not None:
            found.append(Line(ref, place))
    return found


def bundles(lines: Iterable[Line]) -> list[list[Line]]:
    """Sort, and cut into as many meta blobs of `FULL` lines or more as there can be.

    Up to twice as many lines come to one: 3 MB.
    """
    rest = sorted(lines)
    count = max(1, len(rest) // FULL)
    ends = [len(rest) * number // count for number in range(count + 1)]
    return [rest[begin:end] for begin, end in pairwise(ends) if end > begin]
