"""The multipart body of a batch upload, and how many blobs go into one."""

import secrets
from collections.abc import Iterable, Iterator
from typing import Final

from ...blob import Ref

BATCH_BYTES: Final = 4 * 1024 * 1024
BATCH_BLOBS: Final = 500

COPIED_BYTES = 16 * 1024
"""Below this size a copy is cheaper than one more call of the system."""


def upload_body(blobs: Iterable[tuple[Ref, bytes]]) -> tuple[list[bytes], str]:
    """The body that uploads these blobs in this order, in pieces, and its Content-Type.

    Large blobs are pieces as they are, not copied; what is small is joined.
    """
    boundary = secrets.token_hex(16)
    pieces: list[bytes] = []
    small: list[bytes] = []
    line = f"--{boundary}\r\n"
    for ref, data in blobs:
        head = (
            f'{line}Content-Disposition: form-data; name="{ref}"; filename="{ref}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        small.append(head.encode())
        if len(data) < COPIED_BYTES:
            small.append(data)
        else:
            pieces += [b"".join(small), data]
            small.clear()
        line = f"\r\n--{boundary}\r\n"
    small.append(f"\r\n--{boundary}--\r\n".encode())
    pieces.append(b"".join(small))
    return pieces, f"multipart/form-data; boundary={boundary}"


def batches(blobs: Iterable[tuple[Ref, bytes]]) -> Iterator[list[tuple[Ref, bytes]]]:
    """Group blobs, in order, for one request each: BATCH_BLOBS, or just over BATCH_BYTES."""
    batch: list[tuple[Ref, bytes]] = []
    size = 0
    for ref, data in blobs:
        batch.append((ref, data))
        size += len(data)
        if size >= BATCH_BYTES or len(batch) >= BATCH_BLOBS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
