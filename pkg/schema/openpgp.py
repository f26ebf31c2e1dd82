"""OpenPGP packets: just what keys and detached signatures need, each length checked.

Broken input raises Invalid. Packets of partial or indeterminate length are refused: no writer
uses them for keys or signatures.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ..errors import Invalid

SIGNATURE, SECRET_KEY, PUBLIC_KEY, SECRET_SUBKEY, USER_ID = 2, 5, 6, 7, 13
"""Packet tags."""

RSA, RSA_SIGN_ONLY, DSA, ECDSA = 1, 3, 17, 19
"""Algorithms of public keys."""

SHA1, SHA256 = 2, 8
"""Hash algorithms that signatures of claims may use."""

BINARY_DOCUMENT, CERTIFICATION, SUBKEY_BINDING = 0x00, 0x13, 0x18
"""Types of signatures."""

_HASHES: Final = {SHA1: hashlib.sha1, SHA256: hashlib.sha256}
_CREATION_TIME, _ISSUER = 2, 16
_KNOWN_SUBPACKETS: Final = frozenset({2, 3, 9, 11, 16, 21, 22, 25, 27, 29, 30, 32})
_FIXED_SIZES: Final = {_CREATION_TIME: 5, _ISSUER: 9}
"""Bytes of subpackets, with their type."""
_CRITICAL: Final = 0x80


class Packet(NamedTuple):
    """A packet without its header."""

    tag: int
    body: bytes


class Cursor:
    """Reads bytes in order, never past their end."""

    __slots__ = ("_data", "_what", "position")

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self.position = 0

    def __bool__(self) -> bool:
        return self.position < len(self._data)

    def take(self, size: int) -> bytes:
        """The next `size` bytes. Raises Invalid if there are fewer."""
        taken = self._data[self.position : self.position + size]
        if len(taken) != size:
            raise Invalid("read", self._what, "cut short")
        self.position += size
        return taken

    def byte(self) -> int:
        try:
            value = self._data[self.position]
        except IndexError:
            raise Invalid("read", self._what, "cut short") from None
        self.position += 1
        return value

    def integer(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def number(self) -> bytes:
        """A multi-precision integer: its bytes, big endian; leading zero bits are tolerated."""
        return self.take((self.integer(2) + 7) // 8)

    def so_far(self) -> bytes:
        return self._data[: self.position]

    def rest(self) -> bytes:
        return self._data[self.position :]


# -- packets ------------------------------------------------------------------------------------


def packets(data: bytes) -> Iterator[Packet]:
    """Yield the packets in order; at least one. Raises Invalid where the data makes no sense."""
    cursor = Cursor(data, "OpenPGP packet")
    while True:
        yield _packet(cursor)
        if not cursor:
            return


def first_packet(data: bytes) -> Packet:
    """The first packet, whatever follows it. Raises Invalid."""
    return _packet(Cursor(data, "OpenPGP packet"))


def _packet(cursor: Cursor) -> Packet:
    header = cursor.byte()
    if not header & 0x80:
        raise Invalid("read", "OpenPGP packet", "no packet header")
    if header & 0x40:
        return Packet(header & 0x3F, cursor.take(_new_length(cursor)))
    if header & 0x03 == 3:
        raise Invalid("read", "OpenPGP packet", "indeterminate length")
    length = cursor.integer(1 << (header & 0x03))
    return Packet(header >> 2 & 0x0F, cursor.take(length))


def _new_length(cursor: Cursor) -> int:
    first = cursor.byte()
    if first < 192:
        return first
    if first < 224:
        return (first - 192 << 8) + cursor.byte() + 192
    if first == 255:
        return cursor.integer(4)
    raise Invalid("read", "OpenPGP packet", "partial length")


def write_packet(tag: int, body: bytes) -> bytes:
    """The packet with a header of the new format, its length as short as it goes."""
    return bytes([0xC0 | tag]) + _length(len(body)) + body


def _length(size: int) -> bytes:
    if size < 192:
        return bytes([size])
    if size < 8384:
        return (size - 192 + 0xC000).to_bytes(2, "big")
    return b"\xff" + size.to_bytes(4, "big")


def write_number(number: int) -> bytes:
    """A multi-precision integer with its exact bit count."""
    bits = number.bit_length()
    return bits.to_bytes(2, "big") + number.to_bytes((bits + 7) // 8, "big")


# -- signatures ---------------------------------------------------------------------------------


class Signature(NamedTuple):
    """A version 4 signature packet.

    head: its body up to the end of the hashed subpackets, which the digest covers.
    digest_start: the first two bytes of the digest. numbers: the algorithm's own, undecoded.
    """

    type: int
    key_algorithm: int
    hash_algorithm: int
    head: bytes
    digest_start: bytes
    numbers: bytes


_USUAL_SIGNATURE: Final = re.compile(
    rb"(\xc2[\x00-\xbf]|\xc2[\xc0-\xdf].)"  # header of the packet
    rb"(\x04(.)(.)(.)\x00(?:\x10\x05\x02.{4}\x09\x10.{8}|\x06\x05\x02.{4}))"  # time, issuer
    rb"\x00\x00(..)(.*)",
    re.DOTALL,
)
"""As Perkeep's tools and ours write it: found in nearly all claims."""


def read_signature(data: bytes) -> Signature:
    """The first packet, which must be a signature; see `parse_signature`. Raises Invalid."""
    usual = _USUAL_SIGNATURE.fullmatch(data)
    if usual is not None:
        header, head, kind, key_algorithm, hash_algorithm, digest_start, numbers = usual.groups()
        if header[1:] == _length(len(data) - len(header)):
            algorithms = key_algorithm[0], hash_algorithm[0]
            return Signature(kind[0], *algorithms, head, digest_start, numbers)
    tag, body = first_packet(data)
    if tag != SIGNATURE:
        raise Invalid("verify", "signature", "camliSig is not an OpenPGP signature")
    return parse_signature(body)


def parse_signature(body: bytes) -> Signature:
    """Read the body of a signature packet. Raises Invalid.

    A creation time must be among the hashed subpackets and nowhere else; an issuer must have
    8 bytes; an unknown critical subpacket is refused (pkg/schema/SIGNING.md, "Verifying").
    """
    cursor = Cursor(body, "signature packet")
    version = cursor.byte()
    if version != 4:
        raise Invalid("read", "signature packet", f"version {version}, not 4")
    kind, key_algorithm, hash_algorithm, high, low = cursor.take(5)
    hashed = cursor.take(high << 8 | low)
    head = cursor.so_far()
    unhashed = cursor.take(cursor.integer(2))
    if _CREATION_TIME not in _subpacket_kinds(hashed):
        raise Invalid("read", "signature packet", "no creation time in the hashed area")
    if unhashed and _CREATION_TIME in _subpacket_kinds(unhashed):
        raise Invalid("read", "signature packet", "a creation time outside the hashed area")
    digest_start = cursor.take(2)
    return Signature(kind, key_algorithm, hash_algorithm, head, digest_start, cursor.rest())


def _subpacket_kinds(area: bytes) -> list[int]:
    kinds = []
    position = 0
    while position < len(area):
        size = area[position]
        position += 1
        if size >= 192:
            size, position = _long_subpacket(area, position)
        end = position + size
        if end > len(area):
            raise Invalid("read", "signature subpacket", "cut short")
        if not size:
            raise Invalid("read", "signature subpacket", "empty")
        kind = area[position] & ~_CRITICAL
        if kind not in _KNOWN_SUBPACKETS and area[position] & _CRITICAL:
            raise Invalid("read", "signature subpacket", f"unknown critical type {kind}")
        if size != _FIXED_SIZES.get(kind, size):
            raise Invalid("read", "signature subpacket", f"type {kind} of a wrong length")
        kinds.append(kind)
        position = end
    return kinds


def _long_subpacket(area: bytes, position: int) -> tuple[int, int]:
    """The size that has more than one byte, of which this is the second, and where it ends."""
    cursor = Cursor(area, "signature subpacket")
    cursor.position = position
    first = area[position - 1]
    size = (first - 192 << 8) + cursor.byte() + 192 if first < 255 else cursor.integer(4)
    return size, cursor.position


def signature_head(kind: int, key_algorithm: int, hashed: Iterable[bytes]) -> bytes:
    """The signed beginning of a new SHA-256 signature packet, with these subpackets."""
    area = b"".join(bytes([len(subpacket)]) + subpacket for subpacket in hashed)
    return bytes([4, kind, key_algorithm, SHA256]) + len(area).to_bytes(2, "big") + area


def write_signature(head: bytes, digest: bytes, numbers: Sequence[bytes]) -> bytes:
    """The signature packet, header included, without unhashed subpackets.

    numbers: as the key made them. Their bit count is written as that of whole bytes: so do
    Perkeep's tools, and a signature must come out the same byte for byte.
    """
    written = b"".join((8 * len(number)).to_bytes(2, "big") + number for number in numbers)
    return write_packet(SIGNATURE, head + b"\0\0" + digest[:2] + written)


def creation_time(time_s: int) -> bytes:
    """The subpacket with seconds since the epoch, which wrap around after 32 bits."""
    return bytes([_CREATION_TIME]) + (time_s % 2**32).to_bytes(4, "big")


def issuer(key_id: str) -> bytes:
    return bytes([_ISSUER]) + bytes.fromhex(key_id)


def signed_digest(data: bytes, head: bytes, hash_algorithm: int = SHA256) -> bytes:
    """What a signature of this head over this data signs. Raises Invalid for another hash."""
    make = _HASHES.get(hash_algorithm)
    if make is None:
        raise Invalid("hash", f"algorithm {hash_algorithm}", "neither SHA-1 nor SHA-256")
    trailer = b"\x04\xff" + len(head).to_bytes(4, "big")
    return make(b"".join((data, head, trailer)), usedforsecurity=False).digest()
