"""Directories: sets of refs, split where they are large (pkg/schema/README.md, "Directories")."""

from collections.abc import Iterator, Sequence
from typing import Final

from ..blob import Fetcher, Ref
from ..errors import Corrupt, Invalid
from .parse import Schema, parse_object
from .text import encode

MEMBERS_OF_SET: Final = 10_000
"""Members of one static-set blob; more are divided into subsets."""

MAX_DEPTH: Final = 32
"""Levels of subsets that are followed; writers need two for 100 million entries."""

MAX_SETS: Final = 100_000
"""Static-set blobs read for one directory: a small blob must not cause endless work."""


def static_set_blobs(members: Sequence[Ref]) -> list[tuple[Ref, bytes]]:
    """The blobs of the set with these members, in this order: subsets first, the top last."""
    blobs: list[tuple[Ref, bytes]] = []
    _add_set(members, blobs)
    return blobs


def _add_set(members: Sequence[Ref], blobs: list[tuple[Ref, bytes]]) -> Ref:
    count = len(members)
    if count <= MEMBERS_OF_SET:
        text = encode({"camliType": "static-set", "members": members})
    else:
        subsets, size = count // MEMBERS_OF_SET, MEMBERS_OF_SET
        if subsets >= MEMBERS_OF_SET:
            subsets = MEMBERS_OF_SET - 1
            size = count // subsets
        starts = [number * size for number in range(subsets)]
        refs = [_add_set(members[start : start + size], blobs) for start in starts]
        if subsets * size < count:
            refs.append(_add_set(members[subsets * size :], blobs))
        text = encode({"camliType": "static-set", "mergeSets": refs})
    ref = Ref.of(text)
    blobs.append((ref, text))
    return ref


def directory_members(blobs: Fetcher, directory: Ref | Schema) -> Iterator[Ref]:
    """Yield the refs in a `directory` or `static-set`, in order, repeated ones repeatedly.

    Subsets are read when their turn comes. Raises NotFound; Invalid if this is neither; Corrupt
    if an entry of it is no set, or nesting and number of the sets are beyond all reason.
    """
    schema = directory if isinstance(directory, Schema) else parse_object(blobs.fetch(directory))
    if schema is None or schema.type not in ("directory", "static-set"):
        raise Invalid("list", directory, "not a directory")
    if schema.type == "directory":
        entries = schema.ref("entries")
        if entries is None:
            raise Corrupt("list", directory, "a directory without entries")
        schema = _read_set(blobs, entries)
    yield from _set_members(blobs, directory, schema)


def _set_members(blobs: Fetcher, directory: object, top: Schema) -> Iterator[Ref]:
    # One iterator of refs to subsets for each level: the stack is the path from the top.
    members = top.refs("members")
    yield from members
    path = [iter([] if members else top.refs("mergeSets"))]
    sets_read = 1
    while path:
        ref = next(path[-1], None)
        if ref is None:
            path.pop()
            continue
        sets_read += 1
        if len(path) > MAX_DEPTH or sets_read > MAX_SETS:
            raise Corrupt("list", directory, "sets in a circle, or beyond all reason")
        subset = _read_set(blobs, ref)
        members = subset.refs("members")
        yield from members
        path.append(iter([] if members else subset.refs("mergeSets")))


def _read_set(blobs: Fetcher, ref: Ref) -> Schema:
    schema = parse_object(blobs.fetch(ref))
    if schema is None or schema.type != "static-set":
        raise Corrupt("list", ref, "not the static-set that it is referred to as")
    return schema
