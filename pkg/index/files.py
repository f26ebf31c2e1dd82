"""Rows of a file: size, name, kind, digest of the content, times, and facts of media."""

from collections.abc import Iterable, Iterator
from datetime import tzinfo
from itertools import chain
from typing import Final

from ..blob import Ref
from ..errors import Corrupt, Invalid
from ..schema.filereader import FileReader, Leaf, zeros
from ..schema.parse import Part, Schema
from ..schema.times import format_time
from .clips import NOTHING, Clip, clip_row, is_clip, is_looked_into, read_clip
from .media.audio import media_tags
from .media.exif import Exif, coordinates, read_exif, taken_ns
from .media.names import days_named
from .media.sizes import picture_size
from .media.tiff import ASCII, UNDEFINED, Rational, Tag
from .media.zones import zone_at
from .mime import FILE_HEAD_SIZE, sniff
from .rows import FileInfo, Row, dated_row, esc, file_info_row
from .sources import FileSource

MAX_HOLE_SIZE: Final = 16 * 1024**3
"""Bytes of a file that no blob holds: 11 s of hashing. A file with more is refused."""

MAX_PIECES: Final = 16 * 1024**2
"""Chunks that a file is read from, at least 1 TiB in files that anybody wrote. A few small blobs
can name each other so often that reading them would never end."""

_HEAD_SIZE: Final = 512 * 1024
_YEAR_1980_NS: Final = 315_532_800 * 1_000_000_000


def file_rows(ref: Ref, schema: Schema, blobs: FileSource, zone: tzinfo) -> list[Row]:
    """All rows of a `file` blob beside `have` and `meta`.

    Raises NotFound for an absent part, Corrupt for a broken file, Invalid for a hole over the
    limit.
    """
    content = _Content(schema, blobs)
    whole_ref, head = content.digest()
    name = schema.file_name
    mime = sniff(head[:FILE_HEAD_SIZE], name)
    times_ns = [] if (modified := schema.time_ns("unixMtime")) is None else [modified]
    rows = [
        file_info_row(ref, FileInfo(content.size, name, mime, whole_ref)),
        (f"wholetofile|{whole_ref}|{ref}".encode(), b"1"),
    ]
    taken_ns = None
    if mime.startswith("image/"):
        rows += _picture_rows(ref, whole_ref, content, times_ns, zone)
    elif is_clip(mime):
        clip_rows, clip = _clip_rows(whole_ref, content, mime)
        rows += clip_rows
        taken_ns = clip.taken_ns
    # What a picture tells is among the times by now; a name counts only for what tells nothing.
    if taken_ns is None and len(times_ns) == (modified is not None):
        taken_ns = named_ns(name, modified, zone)
    if taken_ns is not None:
        rows.append(dated_row(ref, taken_ns))
    rows.append((f"filetimes|{ref}".encode(), _times_text(times_ns)))
    return rows


def named_ns(name: bytes, modified_ns: int | None, zone: tzinfo) -> int | None:
    """When it was, by the date in a name; None without one, or if the file's own time is then.

    The time of a file that was changed on the day that its name tells is the more exact one.
    """
    days = days_named(name, zone)
    if days is None or (modified_ns is not None and days.may_hold(modified_ns)):
        return None
    return days.first_ns


def _times_text(times_ns: list[int]) -> bytes:
    """The times oldest first, escaped; of two, one up to 1980 is a clock that was never set."""
    times_ns = sorted(times_ns)
    if len(times_ns) == 2 and times_ns[0] <= _YEAR_1980_NS:
        del times_ns[0]
    texts = [format_time(time_ns).replace(":", "%3A") for time_ns in times_ns]
    return "%2C".join(texts).encode()


# -- content ------------------------------------------------------------------------------------


class _Content:
    """The bytes of a file: once in order for the digest, then anywhere for facts."""

    def __init__(self, schema: Schema, blobs: FileSource) -> None:
        self._blobs = blobs
        self._schema = schema
        self._reader: FileReader | None = None
        self._head = b""
        self.size = sum(part.size for part in schema.parts)

    def digest(self) -> tuple[Ref, bytes]:
        """The ref of the whole content, and its first 512 KiB."""
        single = self._single_blob()
        if single is not None:
            self._head = single[1][:_HEAD_SIZE]
            return single[0], self._head
        for piece in self._pieces(self._leaves()):
            self._head += piece[: _HEAD_SIZE - len(self._head)]
            if len(self._head) == _HEAD_SIZE:
                break
        if len(self._head) == self.size:
            return Ref.of(self._head), self._head
        leaves = iter(self._leaves())
        digest, taken = self._blobs.begun(leaves)
        for piece in self._pieces(chain(taken, leaves)):
            digest.update(piece)
        return Ref.trusted(f"sha224-{digest.hexdigest()}"), self._head

    def _single_blob(self) -> tuple[Ref, bytes] | None:
        """The one blob that the content is, whose name is that of the content; most files."""
        parts = self._schema.parts
        if len(parts) != 1 or parts[0].offset or parts[0].bytes_ref is not None:
            return None
        ref = parts[0].blob_ref
        if ref is None or not ref.startswith("sha224-"):
            return None
        data = self._blobs.fetch(ref)
        return (ref, data) if len(data) == self.size else None

    def _pieces(self, leaves: Iterable[Leaf]) -> Iterator[bytes]:
        holes = 0
        last, data = None, b""
        for count, leaf in enumerate(leaves):
            if count == MAX_PIECES:
                raise Invalid("read", "file", f"over {MAX_PIECES} pieces")
            if leaf.ref is not None:
                wanted = leaf.ref, leaf.offset, leaf.length
                if wanted != last:  # in images of disks, one chunk of zeros follows another
                    last, data = wanted, self._blobs.read_range(*wanted)
                if len(data) < leaf.length:
                    raise Corrupt("read", leaf.ref, "unexpected EOF")
                yield data
                continue
            holes += leaf.length
            if holes > MAX_HOLE_SIZE:
                raise Invalid("read", "file", f"over {MAX_HOLE_SIZE} bytes that no blob holds")
            yield from zeros(leaf.length)

    def _leaves(self) -> Iterable[Leaf]:
        parts = self._schema.parts
        if any(part.bytes_ref is not None for part in parts):
            return self._open().chunks()
        # Most files are a flat list of chunks: no reader with its caches is needed for them.
        return map(_leaf, parts)

    def _open(self) -> FileReader:
        if self._reader is None:
            self._reader = FileReader(self._blobs, self._schema)
        return self._reader

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`: a `media.source.Source`, after `digest`."""
        if offset + length <= len(self._head) or len(self._head) == self.size:
            return self._head[offset : offset + length]
        return self._open().read(offset, length) if offset < self.size else b""


def _leaf(part: Part) -> Leaf:
    return Leaf(part.blob_ref, part.offset, part.size, 0)


# -- films and music ---------------------------------------------------------------------------


def _clip_rows(whole_ref: Ref, content: _Content, mime: str) -> tuple[list[Row], Clip]:
    """Tags as Perkeep has them, else rows of our own; and what else these tell."""
    tags = media_tags(content) if mime.startswith("audio/") else {}
    if tags:
        keys = ((f"mediatag|{whole_ref}|{tag}".encode(), value) for tag, value in tags.items())
        return [(key, esc(value).encode()) for key, value in keys], NOTHING
    clip = read_clip(content) if is_looked_into(mime) else NOTHING
    return [] if clip == NOTHING else [clip_row(whole_ref, clip)], clip


# -- pictures -----------------------------------------------------------------------------------


def _picture_rows(
    ref: Ref, whole_ref: Ref, content: _Content, times_ns: list[int], zone: tzinfo
) -> list[Row]:
    """Size, EXIF tags and place; appends the time at which the picture was taken."""
    rows: list[Row] = []
    size = picture_size(content)
    if size is not None:
        rows.append((f"imagesize|{ref}".encode(), f"{size[0]}|{size[1]}".encode()))
    exif = read_exif(content)
    if exif is None:
        return rows
    rows += _exif_rows(whole_ref, exif)
    taken = taken_ns(exif, zone, zone_at)
    if taken is not None:
        times_ns.append(taken)
    return rows


def _exif_rows(whole_ref: Ref, exif: Exif) -> list[Row]:
    rows = []
    for tag_id, tag in exif.tags().items():
        text = _tag_text(tag)
        if text is not None:
            rows.append((f"exiftag|{whole_ref}|{tag_id:04x}".encode(), text.encode()))
    place = coordinates(exif)
    if place is not None:
        rows.append((f"exifgps|{whole_ref}".encode(), f"{place[0]:.7f}|{place[1]:.7f}".encode()))
    return rows


def _tag_text(tag: Tag) -> str | None:
    """`type|count|values`, or None for a tag of undefined type."""
    if tag.type == UNDEFINED:
        return None
    if tag.type == ASCII:
        assert isinstance(tag.value, bytes)
        return f"string|1|{_string_text(tag.value.split(bytes(1), 1)[0])}"
    first = tag.value[0]
    kind = "rat" if isinstance(first, Rational) else "int" if isinstance(first, int) else "float"
    return "|".join([kind, str(len(tag.value)), *map(_number_text, tag.value)])


def _number_text(value: int | float | Rational) -> str:
    if isinstance(value, Rational):
        return f"{value.numerator}/{value.denominator}"
    return str(value) if isinstance(value, int) else repr(value).removesuffix(".0")


_UNSAFE: Final = frozenset([*range(0x20), *range(ord("z"), 256), ord("%"), ord("+")])


def _string_text(text: bytes) -> str:
    return text.decode("ascii") if _UNSAFE.isdisjoint(text) else esc(text)
