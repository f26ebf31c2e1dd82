"""Which chunks of a file go into which pack (README.md, "Packing")."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ...blob import MAX_BLOB_SIZE, Fetcher, Ref
from ...errors import Unsupported
from ...schema.filereader import MAX_DEPTH
from ...schema.parse import Schema, parse_object
from .pack import NewPart, Pack, Whole, largest_size, write_pack

SMALLEST_FILE: Final = 512 * 1024
"""Bytes from which a file is packed."""

_FIXED: Final = 712
_PER_BLOB: Final = 166
"""Perkeep's estimate of a zip's overhead: a fixed part, and one for each chunk and schema blob."""

_MAX_CHUNKS: Final = 2_000_000
"""Chunks of a file that is packed; a longer list, of 128 GB at least, would need 500 MB."""

_MAX_SCHEMAS: Final = 60_000
"""Schema blobs in a zip, which counts its entries in 16 bits."""

_KEPT_BYTES: Final = MAX_BLOB_SIZE


class Chunk(NamedTuple):
    """A chunk of a file and the schema blobs above it, the file blob first."""

    ref: Ref
    size: int
    above: tuple[Ref, ...]


class FilePlan(NamedTuple):
    """A file that can be packed."""

    name: bytes
    mtime_s: int | None
    whole: Whole
    chunks: list[Chunk]
    schema_sizes: dict[Ref, int]


def wants_packing(data: bytes) -> bool:
    """Whether this is the blob of a file that is large enough to be packed."""
    if data[:1] not in (b"{", b" ", b"\t", b"\r", b"\n") or b'"file"' not in data:
        return False
    schema = parse_object(data)
    if schema is None or schema.type != "file" or schema.has_null_part:
        return False
    return sum(part.size for part in schema.parts) >= SMALLEST_FILE


def plan_file(blobs: Fetcher, ref: Ref) -> FilePlan:
    """Read a file whole and say how it is packed.

    Raises Unsupported where it must stay loose, NotFound or Corrupt where a blob is wanting.
    """
    schema = _parse(ref, blobs.fetch(ref))
    name = _name_of(ref, schema)
    mtime_ns = schema.time_ns("unixMtime")
    schema_sizes: dict[Ref, int] = {}
    chunks: list[Chunk] = []
    digest = hashlib.sha224()
    for chunk, data in _walk(blobs, ref, (), schema_sizes):
        digest.update(data)
        chunks.append(chunk)
        if len(chunks) > _MAX_CHUNKS:
            raise Unsupported("pack", ref, f"over {_MAX_CHUNKS} chunks")
    whole = Whole(Ref.from_digest("sha224", digest.digest()), sum(chunk.size for chunk in chunks))
    plan = FilePlan(
        name, None if mtime_ns is None else mtime_ns // 10**9, whole, chunks, schema_sizes
    )
    for number, chunk in enumerate(chunks):
        if not _fits_alone(blobs, plan, number):
            raise Unsupported("pack", ref, f"chunk {chunk.ref} of {chunk.size} bytes fits no zip")
    return plan


def write_packs(blobs: Fetcher, plan: FilePlan) -> Iterator[tuple[Pack, bytes]]:
    """Yield the packs of a file, in order, with the bytes of their zips."""
    start = number = 0
    while start < len(plan.chunks):
        end = _cut(plan, start)
        while True:
            pack, data = write_pack(_part(blobs, plan, number, start, end))
            if len(data) <= MAX_BLOB_SIZE:
                break
            end = _shortened(plan, start, end, len(data) - MAX_BLOB_SIZE)
        yield pack, data
        start, number = end, number + 1


class Remembering:
    """Gives blobs, and keeps the first 16 MiB of them: they are needed again, in that order."""

    def __init__(self, blobs: Fetcher, step: Callable[[], None]) -> None:
        """step: called before each blob; it may wait, or raise to end the work there."""
        self._blobs = blobs
        self._step = step
        self._kept: dict[Ref, bytes] = {}
        self._room = _KEPT_BYTES

    def fetch(self, ref: Ref) -> bytes:
        self._step()
        data = self._kept.get(ref)
        if data is None:
            data = self._blobs.fetch(ref)
            if len(data) <= self._room:
                self._kept[ref] = data
                self._room -= len(data)
        return data


# -- reading the file ---------------------------------------------------------------------------


def _walk(
    blobs: Fetcher, ref: Ref, above: tuple[Ref, ...], schema_sizes: dict[Ref, int]
) -> Iterator[tuple[Chunk, bytes]]:
    """Yield the chunks below a schema blob with their bytes, in the order of the file."""
    if len(above) >= MAX_DEPTH:
        raise Unsupported("pack", ref, f"over {MAX_DEPTH} levels, or in a circle")
    text = blobs.fetch(ref)
    schema_sizes[ref] = len(text)
    above = (*above, ref)
    for part in _parse(ref, text).parts:
        if part.offset or (part.blob_ref is None) == (part.bytes_ref is None):
            raise Unsupported("pack", ref, "sparse, or made of pieces of chunks")
        if part.blob_ref is not None:
            data = blobs.fetch(part.blob_ref)
            size = len(data)
            yield Chunk(part.blob_ref, size, above), data
        elif part.bytes_ref is not None:
            size = 0
            for chunk, data in _walk(blobs, part.bytes_ref, above, schema_sizes):
                size += chunk.size
                yield chunk, data
        if size != part.size:
            raise Unsupported("pack", ref, f"a part has {size} bytes, not {part.size}")


def _parse(ref: Ref, text: bytes) -> Schema:
    schema = parse_object(text)
    if schema is None or schema.type not in ("file", "bytes") or schema.has_null_part:
        raise Unsupported("pack", ref, "not a sound file")
    return schema


def _name_of(ref: Ref, schema: Schema) -> bytes:
    """The name of the entry; empty if the file has none."""
    name = schema.file_name
    has_name = schema.string("fileName") or schema.members.get("fileNameBytes")
    if (has_name and not name) or b"\0" in name or len(name) > 0xFFFF:
        raise Unsupported("pack", ref, "its name is none for a zip")
    return name


# -- cutting ------------------------------------------------------------------------------------


def _cut(plan: FilePlan, start: int) -> int:
    """The end of the run of chunks from `start` that fill a pack, by Perkeep's estimate."""
    room = MAX_BLOB_SIZE - _FIXED
    schemas: set[Ref] = set()
    for number in range(start, len(plan.chunks)):
        chunk = plan.chunks[number]
        new = [ref for ref in dict.fromkeys(chunk.above) if ref not in schemas]
        room -= _PER_BLOB + chunk.size
        room -= sum(_PER_BLOB + plan.schema_sizes[ref] for ref in new)
        schemas.update(new)
        if (room < 0 or len(schemas) > _MAX_SCHEMAS) and number > start:
            return number
    return len(plan.chunks)


def _shortened(plan: FilePlan, start: int, end: int, excess: int) -> int:
    """A smaller end, by chunks of at least `excess` bytes together; one chunk always remains."""
    while excess > 0 and end > start + 1:
        end -= 1
        excess -= plan.chunks[end].size + _PER_BLOB
    return end


def estimated_size(chunks: Iterable[int], schemas: Iterable[int]) -> int:
    """Perkeep's estimate of the size of a zip with blobs of these sizes, in bytes."""
    blobs = [*chunks, *schemas]
    return _FIXED + _PER_BLOB * len(blobs) + sum(blobs)


def _fits_alone(blobs: Fetcher, plan: FilePlan, number: int) -> bool:
    """Whether a chunk fits a pack of its own, by the estimate and in fact."""
    chunk = plan.chunks[number]
    schemas = [plan.schema_sizes[above] for above in dict.fromkeys(chunk.above)]
    if estimated_size([chunk.size], schemas) > MAX_BLOB_SIZE:
        return False
    if largest_size(plan.name, [chunk.size], schemas) <= MAX_BLOB_SIZE:
        return True
    return len(write_pack(_part(blobs, plan, 0, number, number + 1))[1]) <= MAX_BLOB_SIZE


def _part(blobs: Fetcher, plan: FilePlan, number: int, start: int, end: int) -> NewPart:
    chunks: Sequence[Chunk] = plan.chunks[start:end]
    schemas = dict.fromkeys(ref for chunk in chunks for ref in chunk.above)
    return NewPart(
        plan.name,
        plan.mtime_s,
        plan.whole,
        number,
        [(chunk.ref, blobs.fetch(chunk.ref)) for chunk in chunks],
        [(ref, blobs.fetch(ref)) for ref in schemas],
    )
