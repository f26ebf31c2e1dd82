"""The tree of `bytes` blobs above the chunks of a file (pkg/schema/README.md, "The tree")."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ..blob import Ref
from ..errors import TooLarge
from .parse import Part
from .text import MAX_SCHEMA_SIZE, encode

BlobSink = Callable[[Ref, bytes], None]
"""Takes the blobs of a file as they come to be: what a blob refers to comes before it."""

PARTS_OF_GROUP: Final = 4096
"""Parts put into one `bytes` blob where a list is too long for the blob that it belongs to."""

PartMembers = dict[str, object]


class _Span(NamedTuple):
    """A chunk that no other has taken yet. below: the part that stands for its children."""

    bits: int
    ref: Ref
    size: int
    below: PartMembers | None
    total: int
    """Bytes of the chunk and its children."""


class FileTree:
    """Makes the schema blobs above the chunks of a file, which come in order.

    out: gets each `bytes` blob as soon as its last chunk has come, so what is held is the list of
    the uppermost chunks: of 10 GB, a few hundred, or 10,000 where all are zeros.
    """

    def __init__(self, out: BlobSink) -> None:
        self._out = out
        self._top: list[_Span] = []
        self.size = 0
        """Bytes of the file so far."""

    def add(self, size: int, ref: Ref, bits: int) -> None:
        """Append a chunk, which `out` has got: its size in bytes, its ref, and `Chunk.bits`."""
        top = self._top
        taken = len(top)
        while taken and top[taken - 1].bits < bits:
            taken -= 1
        below, total = None, size
        if taken < len(top):
            children = top[taken:]
            del top[taken:]
            below_bytes = sum(span.total for span in children)
            total += below_bytes
            if len(children) == 1 and children[0].below is None:
                below = {"blobRef": children[0].ref, "size": below_bytes}
            else:
                below = _bytes_part(_parts(children), below_bytes, self._out)
        top.append(_Span(bits, ref, size, below, total))
        self.size += size

    def parts(self) -> list[PartMembers]:
        """The `parts` of the blob above all chunks so far."""
        return _parts(self._top)

    def file_blob(self, members: Mapping[str, object]) -> bytes:
        """The text of the file blob with these members and `parts`; not sent to `out` itself.

        members: as `node.node_members` makes them; `camliType` may be left out. Raises TooLarge
        where the other members leave no room for parts.
        """
        return parts_blob({"camliType": "file", **members}, self.parts(), self._out)


def _parts(spans: Iterable[_Span]) -> list[PartMembers]:
    """The parts of these spans, each after that of its children."""
    parts: list[PartMembers] = []
    for span in spans:
        if span.below is not None:
            parts.append(span.below)
        parts.append({"blobRef": span.ref, "size": span.size})
    return parts


def parts_blob(members: Mapping[str, object], parts: Sequence[PartMembers], out: BlobSink) -> bytes:
    """The text of a blob with these members and parts.

    Where it would be over MAX_SCHEMA_SIZE (a file of 8 GB of zeros, say) the parts are put
    into `bytes` blobs of PARTS_OF_GROUP each, which go to `out`. Raises TooLarge where that
    does not help.
    """
    text = encode({**members, "parts": parts})
    while len(text) > MAX_SCHEMA_SIZE:
        if len(parts) <= 1:
            raise TooLarge("write", "schema blob", f"{len(text)} bytes without parts")
        starts = range(0, len(parts), PARTS_OF_GROUP)
        groups = [parts[start : start + PARTS_OF_GROUP] for start in starts]
        parts = [_bytes_part(group, _size_of(group), out) for group in groups]
        text = encode({**members, "parts": parts})
    return text


def part_members(parts: Iterable[Part]) -> list[PartMembers]:
    """Parts that were read, in the form in which they are written: to copy them."""
    return [
        {
            name: value
            for name, value in (
                ("blobRef", part.blob_ref),
                ("bytesRef", part.bytes_ref),
                ("offset", part.offset or None),
                ("size", part.size),
            )
            if value is not None
        }
        for part in parts
    ]


def _bytes_part(parts: Sequence[PartMembers], size: int, out: BlobSink) -> PartMembers:
    data = parts_blob({"camliType": "bytes"}, parts, out)
    ref = Ref.of(data)
    out(ref, data)
    return {"bytesRef": ref, "size": size}


def _size_of(parts: Iterable[PartMembers]) -> int:
    return sum(size for part in parts if isinstance(size := part["size"], int))
