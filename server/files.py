"""Files out of their chunks: what they are, what of them is missing, their bytes in pages."""

from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from ..blob import Ref
from ..blobserver.storage import Storage
from ..errors import Corrupt, Invalid, NotFound
from ..index.mime import sniff
from ..schema.filereader import FileReader
from ..schema.parse import Schema, parse_object
from .answers import HttpError, joined

PAGE_BYTES: Final = 1024 * 1024
"""What one hop into the library brings of a file."""

SNIFF_BYTES: Final = 1024
TEXT_HEAD_BYTES: Final = 1024 * 1024

CHECKED_CHUNKS: Final = 20_000
"""So many chunks of a file are looked for before its first byte is sent."""

OCTETS: Final = "application/octet-stream"

READABLE = ("file", "bytes")


class Stored(NamedTuple):
    """A schema blob that was asked for by its ref."""

    ref: Ref
    schema: Schema


def json_complaint(data: bytes) -> str:
    """Why a blob is no JSON object, in the words that the reference uses."""
    text = data.lstrip(b" \t\r\n")
    if not text:
        return "EOF"
    if text[:1] in b'{["-0123456789tfn':
        return "not a schema blob"
    return f"invalid character {chr(text[0])!r} looking for beginning of value"


def load(storage: Storage, ref: Ref) -> Stored:
    """The schema blob. HttpError 500 when it is missing or none, as the protocol has it."""
    try:
        data = storage.fetch(ref)
    except NotFound:
        reason = f"could not fetch {ref}: file does not exist"
        raise HttpError(500, f"Can't serve file: {reason}") from None
    schema = parse_object(data)
    if schema is None:
        reason = f"could not read {ref} as blob: error parsing Blob {ref}: {json_complaint(data)}"
        raise HttpError(500, f"Can't serve file: {reason}")
    return Stored(ref, schema)


def open_file(storage: Storage, ref: Ref) -> FileReader:
    """The reader of a regular file. HttpError for what is none, Corrupt for a broken one."""
    stored = load(storage, ref)
    if stored.schema.type != "file":
        # Also a `bytes` blob: it is part of a file, and nobody gave it a name.
        raise HttpError(400, "Not a regular file")
    try:
        return FileReader(storage, stored.schema)
    except Invalid as error:
        raise HttpError(500, f"Can't serve file: {error}") from None


def missing_chunk(storage: Storage, reader: FileReader, offset: int, length: int) -> Ref | None:
    """A chunk of this part of the file that is not there; of very long files not all are tried."""
    leaves = reader.chunks(offset, length, storage.fetch_many)
    wanted = {leaf.ref for leaf in islice(leaves, CHECKED_CHUNKS) if leaf.ref is not None}
    wanted -= {found.ref for found in storage.stat(wanted)}
    return min(wanted) if wanted else None


def pages(storage: Storage, reader: FileReader, offset: int, length: int) -> Iterator[bytes]:
    """The bytes from `offset`, about PAGE_BYTES at a time."""
    yield from joined(reader.stream(offset, length, storage.fetch_many), PAGE_BYTES)


def content_type(reader: FileReader, *, inline: bool) -> str:
    """The type by the first bytes, never by the name.

    inline: content that is nothing known but whose first MiB is UTF-8 is plain text then.
    """
    try:
        kind = sniff(reader.read(0, SNIFF_BYTES)) if reader.size else ""
        if kind.startswith("text/plain"):
            kind = ""
        if not kind and inline and _is_text(reader.read(0, TEXT_HEAD_BYTES), reader.size):
            return "text/plain"
    except (NotFound, Corrupt):
        # A part further on may be wanted and be good; who reads the beginning meets the error.
        return OCTETS
    return kind or OCTETS


def _is_text(head: bytes, size: int) -> bool:
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character may be cut in two where the head ends.
        return len(head) < size and error.start > len(head) - 4
    return True
