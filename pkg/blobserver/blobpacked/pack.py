"""A pack: a zip with the data of a file, its schema blobs and a manifest (README.md, "A zip")."""

import json
from collections.abc import Sequence
from typing import Final, NamedTuple

from ...blob import Ref, SizedRef, parse_ref
from ...errors import Corrupt
from .zips import END_SIZE, NewEntry, ReadAt, ZipReader, overhead, write_zip

MANIFEST: Final = b"camlistore/camlistore-pack-manifest.json"
_FOLDER: Final = b"camlistore/"
_SUFFIX: Final = b".json"

_MANIFEST_LINES: Final = 512
"""Bytes that cover the members of a manifest other than its list of blobs."""

_MANIFEST_BLOB: Final = 192
"""Bytes that cover the element of one blob in a manifest."""


class PackedBlob(NamedTuple):
    """A blob in a pack, with its place in the zip."""

    ref: Ref
    offset: int
    size: int


class Whole(NamedTuple):
    """The file that packs hold: its content's digest and its size in bytes."""

    ref: Ref
    size: int


class Pack(NamedTuple):
    """What a zip says that it holds."""

    ref: Ref  # of the zip
    size: int  # of the zip, bytes
    whole: Whole
    part_index: int  # from 0
    data_offset: int
    data_size: int
    schemas: list[PackedBlob]  # in the order of the zip
    chunks: list[PackedBlob]  # in the order of the file; a repeated chunk repeats

    @property
    def blobs(self) -> list[PackedBlob]:
        """All blobs in the order in which Perkeep numbers them for its stream."""
        return self.schemas + self.chunks


class NewPart(NamedTuple):
    """A part of a file that becomes one pack."""

    name: bytes  # of the file
    mtime_s: int | None
    whole: Whole
    part_index: int
    chunks: Sequence[tuple[Ref, bytes]]  # in the order of the file
    schemas: Sequence[tuple[Ref, bytes]]


def write_pack(part: NewPart) -> tuple[Pack, bytes]:
    """The pack of a part of a file, and the bytes of its zip."""
    first = NewEntry(part.name, [data for _, data in part.chunks], part.mtime_s, is_file=True)
    manifest, offset = [], 0
    for ref, data in part.chunks:
        manifest.append({"blobRef": ref, "size": len(data), "offset": offset})
        offset += len(data)
    text = json.dumps(
        {
            "wholeRef": part.whole.ref,
            "wholeSize": part.whole.size,
            "wholePartIndex": part.part_index,
            "dataBlobsOrigin": Ref.of(b"".join(first.pieces)),
            "dataBlobs": manifest,
        },
        indent=2,
    ).encode()
    entries = [NewEntry(_schema_name(ref), [data]) for ref, data in part.schemas]
    data = write_zip([first, *entries, NewEntry(MANIFEST, [text], deflate=True)])
    ref = Ref.of(data)
    return read_pack(SizedRef(ref, len(data)), lambda at, size: data[at : at + size]), data


def largest_size(name: bytes, chunks: Sequence[int], schemas: Sequence[int]) -> int:
    """A bound on the size of a pack whose chunks and schema blobs have these sizes, in bytes."""
    schema_name = _schema_name(Ref.of(b""))
    manifest = _MANIFEST_LINES + _MANIFEST_BLOB * len(chunks)
    small = (
        (overhead(schema_name) * len(schemas)) + overhead(MANIFEST) + manifest + manifest // 1000
    )
    return overhead(name) + sum(chunks) + sum(schemas) + small + END_SIZE


def read_pack(zip_: SizedRef, read: ReadAt) -> Pack:
    """Read what a zip holds, without its data. Raises Corrupt, and what `read` raises."""
    zipped = ZipReader(zip_.ref, zip_.size, read)
    entries = zipped.entries
    manifest = next((entry for entry in entries if entry.name == MANIFEST), None)
    if manifest is None or manifest is entries[0]:
        raise Corrupt("read zip", zip_.ref, "it has no manifest: not a pack")
    data = entries[0]
    if not data.is_stored:
        raise Corrupt("read zip", zip_.ref, "the data of its file is compressed")
    schemas = [
        PackedBlob(ref, entry.offset, entry.size)
        for entry in entries[1:]
        if entry.is_stored and (ref := _schema_ref(entry.name)) is not None
    ]
    told = _Manifest(zip_.ref, zipped.content(manifest))
    chunks = [
        PackedBlob(ref, data.offset + offset, size) for ref, offset, size in told.blobs(data.size)
    ]
    return Pack(
        zip_.ref,
        zip_.size,
        Whole(told.ref("wholeRef"), told.number("wholeSize")),
        told.number("wholePartIndex"),
        data.offset,
        data.size,
        schemas,
        chunks,
    )


def _schema_name(ref: Ref) -> bytes:
    return _FOLDER + ref.encode() + _SUFFIX


def _schema_ref(name: bytes) -> Ref | None:
    if not (name.startswith(_FOLDER) and name.endswith(_SUFFIX) and name.isascii()):
        return None
    return parse_ref(name[len(_FOLDER) : -len(_SUFFIX)].decode())


class _Manifest:
    """The members of a manifest, checked as they are taken. All raise Corrupt."""

    def __init__(self, subject: Ref, text: bytes) -> None:
        self._subject = subject
        try:
            members = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self._broken(f"is no JSON ({error})") from error
        if not isinstance(members, dict):
            raise self._broken("is no object")
        self._members = members

    def ref(self, name: str) -> Ref:
        ref = parse_ref(self._members.get(name))
        if ref is None:
            raise self._broken(f"has no {name}")
        return ref

    def number(self, name: str) -> int:
        return self._number(self._members, name)

    def blobs(self, limit: int) -> list[PackedBlob]:
        """The data blobs, their offsets relative to the first entry, which has `limit` bytes."""
        rows = self._members.get("dataBlobs") or []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._broken("has no list of dataBlobs")
        found = []
        for row in rows:
            ref = parse_ref(row.get("blobRef"))
            blob_offset, size = self._number(row, "offset"), self._number(row, "size")
            if ref is None or blob_offset + size > limit:
                raise self._broken(f"is wrong about a blob ({row.get('blobRef')!r})")
            found.append(PackedBlob(ref, blob_offset, size))
        return found

    def _number(self, members: dict[str, object], name: str) -> int:
        value = members.get(name, 0)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self._broken(f"has no number as {name}")
        return value

    def _broken(self, reason: str) -> Corrupt:
        return Corrupt("read zip", self._subject, f"its manifest {reason}")
