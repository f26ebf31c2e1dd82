"""ASCII armor of OpenPGP data: the text around keys, and the checksum that signatures carry."""

import re
from base64 import b64encode
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Iterator
from typing import Final, NamedTuple

from ..errors import Invalid

PUBLIC_KEY: Final = "PGP PUBLIC KEY BLOCK"
PRIVATE_KEY: Final = "PGP PRIVATE KEY BLOCK"

_LINE_WIDTH: Final = 64
_BLOCK = re.compile(
    rb"^-----BEGIN ([A-Z0-9 ]{1,60})-----[ \t\r]*\n"  # the kind
    rb"((?:[^\r\n:]+:[^\n]*\n)*)"  # headers
    rb"[ \t\r]*(?:\n|\Z)",  # a blank line ends them
    re.MULTILINE,
)
_END = re.compile(rb"^-----END ", re.MULTILINE)
_CHECKSUM = re.compile(rb"^(=[A-Za-z0-9+/]{4})[ \t\r]*$", re.MULTILINE)


class Block(NamedTuple):
    """One armored block, with its checksum line (`=` and four characters) if it has one."""

    kind: str
    data: bytes
    checksum: str = ""

    @property
    def is_intact(self) -> bool:
        """Whether the checksum fits or is absent."""
        return self.checksum in ("", checksum(self.data))


def encode(kind: str, data: bytes) -> str:
    """The armored form, without headers and without a line feed at its end."""
    text = b64encode(data).decode()
    lines = [text[start : start + _LINE_WIDTH] for start in range(0, len(text), _LINE_WIDTH)]
    return "\n".join(
        [f"-----BEGIN {kind}-----", "", *lines, checksum(data), f"-----END {kind}-----"]
    )


def blocks(text: bytes) -> Iterator[Block]:
    """Yield the armored blocks in a text, in order; what stands around them is passed over.

    Armor headers, CRLF and a missing end line are accepted. Raises Invalid for a block whose
    body is not base64.
    """
    position = 0
    while (start := _BLOCK.search(text, position)) is not None:
        end = _END.search(text, start.end())
        position = end.end() if end else len(text)
        body = text[start.end() : end.start() if end else len(text)]
        sum_line = _CHECKSUM.search(body)
        encoded = body[: sum_line.start()] if sum_line else body
        data = unbase64(encoded.translate(None, b" \t"))
        yield Block(start[1].decode(), data, sum_line[1].decode() if sum_line else "")


def unbase64(text: bytes) -> bytes:
    """Decode base64 with padding. Line breaks are allowed, nothing else. Raises Invalid."""
    try:
        return a2b_base64(text.replace(b"\n", b"").replace(b"\r", b""), strict_mode=True)
    except Base64Error as error:
        raise Invalid("decode", "base64", str(error)) from None


def checksum(data: bytes) -> str:
    """The checksum line of these bytes: `=` and four characters."""
    crc = 0xB704CE
    for byte in data:
        crc = (crc << 8 & 0xFFFFFF) ^ _CRC_OF_TOP_BYTE[(crc >> 16) ^ byte]
    return "=" + b64encode(crc.to_bytes(3, "big")).decode()


def _crc_of_top_byte(byte: int) -> int:
    crc = byte << 16
    for _ in range(8):
        crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    return crc & 0xFFFFFF


_CRC_OF_TOP_BYTE = tuple(_crc_of_top_byte(byte) for byte in range(256))
