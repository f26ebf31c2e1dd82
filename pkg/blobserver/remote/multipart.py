"""The multipart body of a batch upload."""

import secrets
from collections.abc import Iterable

from ...blob import Ref

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
