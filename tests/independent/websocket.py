"""The messages of one websocket (RFC 6455) in captured bytes of its connection; standard library
only."""

import struct
from collections.abc import Iterator

BINARY, CONTINUED = 2, 0


def messages(wire: bytes, path: str) -> Iterator[bytes]:
    """The binary messages of one direction, from the handshake at `path` on.

    wire: what one end sent, on this and other connections before it; from the client or from the
    server.
    """
    request = f"GET {path} ".encode()
    begin = wire.find(request) if request in wire else wire.index(b"HTTP/1.1 101 ")
    wire = wire[wire.index(b"\r\n\r\n", begin) + 4 :]
    kept = b""
    while wire:
        is_last, code, size, offset = wire[0] & 128, wire[0] & 15, wire[1] & 127, 2
        if size == 126:
            (size,) = struct.unpack_from(">H", wire, 2)
            offset = 4
        elif size == 127:
            (size,) = struct.unpack_from(">Q", wire, 2)
            offset = 10
        key = bytes(4)
        if wire[1] & 128:
            key, offset = wire[offset : offset + 4], offset + 4
        masked = wire[offset : offset + size]
        repeated = (key * (size // 4 + 1))[:size]
        plain = int.from_bytes(masked, "big") ^ int.from_bytes(repeated, "big")
        if code in (BINARY, CONTINUED):
            kept += plain.to_bytes(size, "big")
            if is_last:
                yield kept
                kept = b""
        wire = wire[offset + size :]
