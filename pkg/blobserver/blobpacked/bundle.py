"""Small files of one directory in a common zip (README.md, "Bundles")."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from ...blob import MAX_BLOB_SIZE, Fetcher, Ref
from ...errors import Corrupt, NotFound, Unsupported
from ...schema.parse import parse_object
from ..storage import Storage
from .pack import NewPart, Pack, Whole, write_pack
from .plan import SMALLEST_FILE, FilePlan, estimated_size, plan_file

_NAME: Final = b"small-files"

_FULL: Final = MAX_BLOB_SIZE * 15 // 16
"""Bytes; the rest is for entries that take more room than the estimate says."""


class Bundle(NamedTuple):
    """A pack of several files, the bytes of its zip, and how many files are in it."""

    pack: Pack
    data: bytes
    files_count: int


def related_files(text: bytes, small: Storage) -> list[Ref]:
    """The loose members of the set of a directory that this blob is, in order; else nothing."""
    if b'"static-set"' not in text:
        return []
    schema = parse_object(text)
    if schema is None or schema.type != "static-set":
        return []
    members = list(dict.fromkeys(schema.refs("members")))
    loose = {ref for ref, _ in small.stat(members)}
    return [ref for ref in members if ref in loose]


def write_bundles(blobs: Fetcher, members: Iterable[Ref]) -> Iterator[Bundle]:
    """Yield packs of the small files among these blobs, each of 512 KiB of content at least."""
    waiting: dict[Ref, FilePlan] = {}
    size = estimated_size([], [])
    for ref in members:
        plan = _small_file(blobs, ref)
        if plan is None:
            continue
        more = estimated_size((chunk.size for chunk in plan.chunks), plan.schema_sizes.values())
        if size + more > _FULL:
            yield from _bundle(blobs, waiting)
            waiting, size = {}, estimated_size([], [])
        waiting[ref] = plan
        size += more
    yield from _bundle(blobs, waiting)


def _small_file(blobs: Fetcher, ref: Ref) -> FilePlan | None:
    try:
        schema = parse_object(blobs.fetch(ref))
        if schema is None or schema.type != "file" or schema.has_null_part:
            return None
        size = sum(part.size for part in schema.parts)
        return plan_file(blobs, ref) if 0 < size < SMALLEST_FILE else None
    except (NotFound, Corrupt, Unsupported):
        return None  # it stays loose, and says what is wrong when it is read


def _bundle(blobs: Fetcher, files: dict[Ref, FilePlan]) -> Iterator[Bundle]:
    chunks = {chunk.ref: None for plan in files.values() for chunk in plan.chunks}
    schemas = {ref: None for plan in files.values() for ref in plan.schema_sizes}
    pieces = [(ref, blobs.fetch(ref)) for ref in chunks]
    size = sum(len(data) for _, data in pieces)
    if len(files) < 2 or size < SMALLEST_FILE:
        return
    digest = hashlib.sha224()
    for _, data in pieces:
        digest.update(data)
    whole = Whole(Ref.from_digest("sha224", digest.digest()), size)
    part = NewPart(_NAME, None, whole, 0, pieces, [(ref, blobs.fetch(ref)) for ref in schemas])
    pack, data = write_pack(part)
    if len(data) <= MAX_BLOB_SIZE:
        yield Bundle(pack, data, len(files))
