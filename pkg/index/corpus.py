"""What a search reads of the rows beyond single blobs: sets of blobs, in order, and edges."""

from collections.abc import Iterator
from heapq import merge
from itertools import groupby
from typing import Final

from ..blob import Ref, parse_ref
from ..schema.claims import DEL_ATTRIBUTE
from ..schema.times import parse_time
from ..sorted.kv import after_prefix
from .rows import (
    LOOKUP_ATTRIBUTES,
    PATH_ATTRIBUTE,
    Meta,
    esc,
    parse_claim,
    parse_meta,
    time_of_reverse,
    value_prefix,
)
from .view import View

_META: Final = b"meta:"
_MEMBER: Final = "camliMember"


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

    def can_look_up(self, attribute: str) -> bool:
        """Whether `with_value` knows this attribute."""
        return attribute in LOOKUP_ATTRIBUTES

    def with_value(self, attribute: str, value: str) -> Iterator[Ref]:
        """Yield the permanodes that ever had the value by a claim of the owner, some repeatedly.

        value: not empty.
        """
        for key_id in self.view.owner_key_ids:
            for _, permanode in self.view.scan(value_prefix(key_id, attribute, value)):
                yield Ref.trusted(permanode.decode())

    # -- edges ----------------------------------------------------------------------------------

    def parents(self, child: Ref, edge_type: str) -> Iterator[Ref]:
        """Yield permanodes that ever named the child by this attribute, some repeatedly.

        edge_type: "": by `camliMember` or any `camliPath:`.
        """
        if edge_type in ("", _MEMBER):
            for key, _ in self.view.scan(f"edgeback|{child}|".encode()):
                yield Ref.trusted(key.decode().split("|")[2])
        if edge_type == "" or edge_type.startswith(PATH_ATTRIBUTE):
            for key_id in self.key_ids():
                for _, value in self.view.scan(f"signertargetpath|{key_id}|{child}|".encode()):
                    yield Ref.trusted(value.decode().split("|")[1])
        elif edge_type != _MEMBER:
            yield from self._naming(child, edge_type)

    def _naming(self, child: Ref, edge_type: str) -> Iterator[Ref]:
        ending = f"|{esc(edge_type)}|{child}|".encode()
        for key, value in self.view.scan(b"claim|"):
            if ending in value and parse_claim(key, value).type != DEL_ATTRIBUTE:
                yield Ref.trusted(key.decode().split("|")[1])

    def directories_of(self, child: Ref) -> Iterator[Ref]:
        """Yield the directories that have this child."""
        ending = f"|{child}".encode()
        for key, _ in self.view.scan(b"dirchild|"):
            if key.endswith(ending):
                directory = parse_ref(key.decode().split("|")[1])
                if directory is not None:
                    yield directory
