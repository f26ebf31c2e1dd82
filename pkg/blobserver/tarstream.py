"""All blobs of a store as one tar archive that can be broken off and gone on with (README.md)."""

from collections.abc import Iterable, Iterator
from tarfile import BLOCKSIZE, NUL, RECORDSIZE, USTAR_FORMAT, TarInfo
from typing import Final

from .storage import StreamedBlob

MEDIA_TYPE: Final = "application/x-tar"
CONTINUE: Final = "continue"
"""The name of members that hold the token of the blob after them."""

TOKEN_EVERY_BYTES: Final = 64 * 1024 * 1024


def archive(stream: Iterable[StreamedBlob], limit_bytes: int = 0) -> Iterator[bytes]:
    """Yield a tar archive in pieces: each blob a file named by its ref, in the stream's order.

    Before the first blob, and after every 64 MiB of content, a member `continue` holds the token
    of the blob that follows it: a reader whose connection broke asks for the rest by the last one
    that he has. Only a complete archive has tar's end mark.
    limit_bytes: after so many bytes of content the archive ends, with a last `continue`; 0: none.
    """
    total, next_token = 0, 0
    for blob in stream:
        is_full = limit_bytes and total >= limit_bytes
        if is_full or total >= next_token:
            yield from _member(CONTINUE, blob.token.encode())
            next_token = total + TOKEN_EVERY_BYTES
        if is_full:
            break
        yield from _member(blob.ref, blob.data)
        total += len(blob.data)
    yield NUL * RECORDSIZE


def _member(name: str, data: bytes) -> Iterator[bytes]:
    info = TarInfo(name)
    info.size, info.mode = len(data), 0o444
    yield info.tobuf(USTAR_FORMAT)
    yield data
    if len(data) % BLOCKSIZE:
        yield NUL * (BLOCKSIZE - len(data) % BLOCKSIZE)
