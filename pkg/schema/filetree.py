"""The tree of `bytes` blobs above the chunks of a file (pkg/schema/README.md, "The tree")."""

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from ..blob import Ref
from ..errors import Invalid, TooLarge
from .parse import Part
from .text import MAX_SCHEMA_SIZE, encode

BlobSink = Callable[[Ref, bytes], None]
"""Takes the blobs of a file as they come to be: what a blob refers to comes before it."""

PARTS_OF_GROUP: Final = 4096
"""Parts put into one `bytes` blob where a list is too long for the blob that it belongs to."""

_HASH_NAME = "sha224"
_DIGEST_SIZE = 28

PartMembers = dict[str, object]


class FileTree:
    """Collects the chunks of a file, in order, then makes the schema blobs above them.

    Keeps 33 bytes for each chunk, so a file of 10 GB takes 5 MB.
    """

    def __init__(self) -> None:
        self._sizes = array("I")
        self._bits = bytearray()
        self._digests = bytearray()

    def __len__(self) -> int:
        """The number of chunks."""
        return len(self._sizes)

    def add(self, size: int, ref: Ref, bits: int) -> None:
        """Append a chunk: its size in bytes, its SHA-224 ref, and `Chunk.bits`."""
        if ref.hash_name != _HASH_NAME:
            raise Invalid("add chunk", ref, f"not a {_HASH_NAME} ref")
        self._sizes.append(size)
        self._bits.append(bits)
        self._digests += bytes.fromhex(ref.hex_digest)

    @property
    def size(self) -> int:
        """Bytes of the file so far."""
        return sum(self._sizes)

    def blobs_and_parts(self) -> tuple[list[tuple[Ref, bytes]], list[PartMembers]]:
        """The `bytes` blobs, children first, and the `parts` of the blob above them all."""
        blobs: list[tuple[Ref, bytes]] = []
        parts = self._parts_above(lambda ref, data: blobs.append((ref, data)))
        return blobs, parts

    def file_blob(self, members: Mapping[str, object], out: BlobSink) -> bytes:
        """The text of the file blob with these members and `parts`; not sent to `out` itself.

        members: as `node.node_members` makes them; `camliType` may be left out.
        out: gets every `bytes` blob, children first. Raises TooLarge where the other members
        leave no room for parts.
        """
        return parts_blob({"camliType": "file", **members}, self._parts_above(out), out)

    def _parts_above(self, out: BlobSink) -> list[PartMembers]:
        top, children = self._spans()
        return self._parts(top, children, out)[0]

    def _spans(self) -> tuple[list[int], dict[int, list[int]]]:
        """Chunk numbers of the top level, and for each chunk that has any, its children."""
        stack: list[int] = []
        children: dict[int, list[int]] = {}
        bits = self._bits
        for number in range(len(bits)):
            taken = len(stack)
            while taken and bits[stack[taken - 1]] < bits[number]:
                taken -= 1
            if taken < len(stack):
                children[number] = stack[taken:]
                del stack[taken:]
            stack.append(number)
        return stack, children

    def _parts(
        self, spans: Iterable[int], children: Mapping[int, list[int]], out: BlobSink
    ) -> tuple[list[PartMembers], int]:
        """The parts of these spans, each after those of its children; and their size.

        Children are strictly weaker than their parent: there are fewer levels than bits.
        """
        parts: list[PartMembers] = []
        total = 0
        for span in spans:
            below = children.get(span, ())
            if len(below) == 1 and below[0] not in children:
                parts.append(self._chunk_part(below[0]))
                total += self._sizes[below[0]]
            elif below:
                inner, size = self._parts(below, children, out)
                parts.append(_bytes_part(inner, size, out))
                total += size
            parts.append(self._chunk_part(span))
            total += self._sizes[span]
        return parts, total

    def _chunk_part(self, number: int) -> PartMembers:
        start = number * _DIGEST_SIZE
        digest = self._digests[start : start + _DIGEST_SIZE]
        return {"blobRef": f"{_HASH_NAME}-{digest.hex()}", "size": self._sizes[number]}


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
