"""The multipart body of a batch upload."""

import secrets
from collections.abc import Iterable

from ...blob import Ref


def upload_body(blobs: Iterable[tuple[Ref, bytes]]) -> tuple[bytes, str]:
    """The body that uploads these blobs in this order, and its Content-Type."""
    boundary = secrets.token_hex(16)
    pieces: list[bytes] = []
    opening = f"--{boundary}\r\n"
    for ref, data in blobs:
        pieces.append(
            (
                f'{opening}Content-Disposition: form-data; name="{ref}"; filename="{ref}"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n"
            ).encode()
        )
        pieces.append(data)
        opening = f"\r\n--{boundary}\r\n"
    # With no part at all, the closing line stands alone.
    pieces.append(f"\r\n--{boundary}--\r\n".encode())
    return b"".join(pieces), f"multipart/form-data; boundary={boundary}"
