"""The zips that packs are: writing them whole, reading their directory (README.md, "A zip")."""

import struct
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ...errors import Corrupt

ReadAt = Callable[[int, int], bytes]
"""Gives up to `length` bytes from `offset` of a zip; may raise."""

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_DESCRIPTOR: Final = struct.Struct("<4s3I")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_TIME_EXTRA: Final = struct.Struct("<HHBi")

_STORED: Final = 0
_DEFLATED: Final = 8
_HAS_DESCRIPTOR: Final = 0x0008
_IS_UTF8: Final = 0x0800
_VERSION: Final = 20
_MADE_ON_UNIX: Final = 3 << 8
_REGULAR_0644: Final = 0o100644 << 16

_LONGEST_COMMENT: Final = 65_535
_TAIL: Final = 128 * 1024
"""Bytes read first from the end: the directory and the small entries of most zips."""

LARGEST_INFLATED: Final = 32 * 1024 * 1024
"""Bytes; twice the largest manifest that a zip of 16 MiB can need."""


class NewEntry(NamedTuple):
    """An entry to write. `pieces` joined are its content."""

    name: bytes
    pieces: Sequence[bytes]
    mtime_s: int | None = None
    is_file: bool = False  # with mode 0644
    deflate: bool = False


class Entry(NamedTuple):
    """An entry that a directory lists, with the place of its bytes in the zip."""

    name: bytes
    offset: int  # of the first byte of data
    stored_size: int
    size: int
    crc: int
    is_stored: bool


def overhead(name: bytes) -> int:
    """The most bytes that an entry takes in a zip beyond its stored data."""
    return _LOCAL.size + _DESCRIPTOR.size + _CENTRAL.size + 2 * (len(name) + _TIME_EXTRA.size)


END_SIZE: Final = _END.size


def write_zip(entries: Sequence[NewEntry]) -> bytes:
    """The bytes of a zip with these entries, in order, laid out as Perkeep lays them out."""
    body: list[bytes] = []
    directory: list[bytes] = []
    offset = 0
    for entry in entries:
        pieces, crc, size = list(entry.pieces), 0, 0
        for piece in pieces:
            crc = zlib.crc32(piece, crc)
            size += len(piece)
        if entry.deflate:
            pieces = [_deflated(b"".join(pieces))]
        stored_size = sum(map(len, pieces))
        flags = _HAS_DESCRIPTOR | (
            0 if entry.name.isascii() or not _is_text(entry.name) else _IS_UTF8
        )
        clock, day, extra = _times(entry.mtime_s)
        method = _DEFLATED if entry.deflate else _STORED
        common = (_VERSION, flags, method, clock, day)
        name_and_extra = entry.name + extra
        sizes = (len(entry.name), len(extra))
        body.append(_LOCAL.pack(b"PK\3\4", *common, 0, 0, 0, *sizes) + name_and_extra)
        body += pieces
        body.append(_DESCRIPTOR.pack(b"PK\7\b", crc, stored_size, size))
        made, mode = (_MADE_ON_UNIX, _REGULAR_0644) if entry.is_file else (0, 0)
        directory.append(
            _CENTRAL.pack(
                b"PK\1\2",
                made | _VERSION,
                *common,
                crc,
                stored_size,
                size,
                *sizes,
                0,
                0,
                0,
                mode,
                offset,
            )
            + name_and_extra
        )
        offset += _LOCAL.size + len(name_and_extra) + stored_size + _DESCRIPTOR.size
    length = sum(map(len, directory))
    count = len(entries)
    end = _END.pack(b"PK\5\6", 0, 0, count, count, length, offset, 0)
    return b"".join([*body, *directory, end])


def _deflated(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(data) + deflater.flush()


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _times(mtime_s: int | None) -> tuple[int, int, bytes]:
    """DOS time, DOS date and the extra field; all empty where the time is unknown or too far."""
    if mtime_s is None or not -(2**31) <= mtime_s < 2**31:
        return 0, 0, b""
    extra = _TIME_EXTRA.pack(0x5455, 5, 1, mtime_s)
    at = time.gmtime(mtime_s)
    if at.tm_year < 1980:
        return 0, 0, extra
    clock = at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2
    return clock, (at.tm_year - 1980) << 9 | at.tm_mon << 5 | at.tm_mday, extra


# -- reading ------------------------------------------------------------------------------------


class ZipReader:
    """The directory of a zip in untrusted bytes.

    subject: what errors name. size: bytes of the zip. Raises Corrupt, and what `read` raises.
    """

    def __init__(self, subject: object, size: int, read: ReadAt) -> None:
        self._subject = subject
        self._read = read
        self._size = size
        self._tail_offset = max(0, size - _TAIL)
        self._tail = self._exactly(self._tail_offset, size - self._tail_offset, from_tail=False)
        self.entries = self._directory()

    def content(self, entry: Entry) -> bytes:
        """The checked content of an entry, at most LARGEST_INFLATED bytes."""
        if entry.size > LARGEST_INFLATED:
            raise self._broken(f"{entry.size} bytes in {entry.name!r}")
        data = self._exactly(entry.offset, entry.stored_size)
        if not entry.is_stored:
            try:
                data = zlib.decompressobj(wbits=-15).decompress(data, entry.size + 1)
            except zlib.error as error:
                raise self._broken(f"{entry.name!r}: {error}") from error
        if len(data) != entry.size or zlib.crc32(data) != entry.crc:
            raise self._broken(f"{entry.name!r} has another checksum")
        return data

    def _directory(self) -> list[Entry]:
        end_at = self._tail.rfind(b"PK\5\6", max(0, len(self._tail) - END_SIZE - _LONGEST_COMMENT))
        if end_at < 0 or len(self._tail) - end_at < END_SIZE:
            raise self._broken("no end of a directory: not a zip, or cut")
        _, disk, start_disk, here, count, length, offset, _ = _END.unpack_from(self._tail, end_at)
        if disk or start_disk or here != count or offset + length > self._tail_offset + end_at:
            raise self._broken("its directory lies elsewhere")
        rows = self._exactly(offset, length)
        entries, at = [], 0
        for _ in range(count):
            if len(rows) - at < _CENTRAL.size or rows[at : at + 4] != b"PK\1\2":
                raise self._broken("its directory is damaged")
            row = _CENTRAL.unpack_from(rows, at)
            method, crc, stored_size, size, name_size, extra_size, comment_size = (
                row[4], *row[7:13],
            )  # fmt: skip
            at += _CENTRAL.size
            entry = Entry(
                rows[at : at + name_size],
                self._data_offset(row[16]),
                stored_size,
                size,
                crc,
                method == _STORED,
            )
            if method not in (_STORED, _DEFLATED) or entry.offset + stored_size > offset:
                raise self._broken(f"its directory is wrong about {entry.name!r}")
            if entry.is_stored and size != stored_size:
                raise self._broken(f"its directory has two sizes for {entry.name!r}")
            entries.append(entry)
            at += name_size + extra_size + comment_size
        return entries

    def _data_offset(self, header_offset: int) -> int:
        header = self._exactly(header_offset, _LOCAL.size)
        if header[:4] != b"PK\3\4":
            raise self._broken(f"no entry at {header_offset}")
        name_size, extra_size = _LOCAL.unpack(header)[9:]
        return int(header_offset + _LOCAL.size + name_size + extra_size)

    def _exactly(self, offset: int, length: int, from_tail: bool = True) -> bytes:
        if from_tail and offset >= self._tail_offset:
            data = self._tail[offset - self._tail_offset :][:length]
        elif offset + length <= self._size:
            data = self._read(offset, length)
        else:
            data = b""
        if len(data) != length:
            raise self._broken(f"no {length} bytes at {offset}")
        return data

    def _broken(self, reason: str) -> Corrupt:
        return Corrupt("read zip", self._subject, reason)
