"""The rows of an index as one stream of bytes, to be kept away from this machine.

    8 bytes   "pkindex1"
    rows      gzip of: length of key and of value (4 bytes each, big-endian), key, value; ...
    end       in the same gzip: 8 zero bytes, the number of rows (8 bytes)

Rows are in byte order. Compression guards against damage: gzip ends with a CRC.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from ..errors import Corrupt
from ..sorted.kv import MAX_KEY_SIZE, MAX_VALUE_SIZE, Batch, KeyValue
from .rows import IN_USE, SCHEMA_VERSION_KEY, STATE_KEY, WIPING

MAGIC: Final = b"pkindex1"
NAME: Final = "checkpoint"

_LENGTHS: Final = struct.Struct(">II")
_COUNT: Final = struct.Struct(">Q")
_PIECE_BYTES: Final = 1024 * 1024
_PAGE_ROWS: Final = 10_000
_LEVEL: Final = 3


def export_rows(rows: KeyValue) -> Iterator[bytes]:
    """Yield a checkpoint of the rows as they are at the first step, in pieces of about 1 MiB.

    Others may write meanwhile. Raises Corrupt for an index that is just being wiped.
    """
    packer = zlib.compressobj(_LEVEL, wbits=31)
    yield MAGIC
    count, gathered = 0, bytearray()
    for key, value in rows.find():
        if key == STATE_KEY:
            if value == WIPING:
                raise Corrupt("export", "index", "it is being wiped")
            continue  # that of the importer is its own
        gathered += _LENGTHS.pack(len(key), len(value)) + key + value
        count += 1
        if len(gathered) >= _PIECE_BYTES:
            yield packer.compress(bytes(gathered))
            gathered.clear()
    gathered += _LENGTHS.pack(0, 0) + _COUNT.pack(count)
    yield packer.compress(bytes(gathered)) + packer.flush()


def import_rows(pieces: Iterable[bytes], rows: KeyValue) -> int:
    """Fill an empty store with the rows of a checkpoint. Returns how many.

    The index is then in the state "in use", so that opening it compares it with the stored
    blobs: what came after the checkpoint is indexed then. Raises Corrupt for a checkpoint that is
    damaged or cut off, after the rows were wiped; and what `pieces` raises.
    """
    rows.set(STATE_KEY, WIPING)  # what a crash leaves here is half an index
    try:
        count = _import(pieces, rows)
    except BaseException:
        rows.wipe()
        raise
    rows.set(STATE_KEY, IN_USE)
    return count


def _import(pieces: Iterable[bytes], rows: KeyValue) -> int:
    batch = Batch()
    count = 0
    for key, value in _parsed(_unpacked(pieces)):
        batch.set(key, value)
        count += 1
        if len(batch) >= _PAGE_ROWS:
            rows.commit(batch, durable=False)
            batch = Batch()
    rows.commit(batch)
    if count and rows.get(SCHEMA_VERSION_KEY) is None:
        raise Corrupt("import", NAME, "holds no index")
    return count


def _unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The content behind the magic; ends where the gzip stream has ended whole."""
    unpacker = zlib.decompressobj(wbits=31)
    head = b""
    try:
        for piece in pieces:
            if len(head) < len(MAGIC):
                head += piece
                if len(head) < len(MAGIC):
                    continue
                if not head.startswith(MAGIC):
                    raise Corrupt("import", NAME, "is no checkpoint of an index")
                piece = head[len(MAGIC) :]
            while piece:
                yield unpacker.decompress(piece, _PIECE_BYTES)
                piece = unpacker.unconsumed_tail
    except zlib.error as error:
        raise Corrupt("import", NAME, str(error)) from None
    if not unpacker.eof or unpacker.unused_data:
        raise Corrupt("import", NAME, "is cut off, or goes on behind its end")


def _parsed(content: Iterator[bytes]) -> Iterator[tuple[bytes, bytes]]:
    held, at, count = bytearray(), 0, 0
    ended = False
    for piece in content:
        if ended and piece:
            raise Corrupt("import", NAME, "rows behind the end")
        del held[:at]
        held += piece
        at = 0
        while len(held) - at >= _LENGTHS.size + _COUNT.size:
            key_size, value_size = _LENGTHS.unpack_from(held, at)
            start = at + _LENGTHS.size
            if not key_size and not value_size:
                if _COUNT.unpack_from(held, start)[0] != count:
                    raise Corrupt("import", NAME, "rows are missing")
                ended = True
                break
            if key_size > MAX_KEY_SIZE or value_size > MAX_VALUE_SIZE:
                raise Corrupt("import", NAME, "a row is over the limits")
            end = start + key_size + value_size
            if end > len(held):
                break
            yield bytes(held[start : start + key_size]), bytes(held[start + key_size : end])
            count += 1
            at = end
    if not ended:
        raise Corrupt("import", NAME, "has no end")
