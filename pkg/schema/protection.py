"""Secret keys under a passphrase (pkg/schema/SIGNING.md, "Locked keys")."""

import hashlib
from collections.abc import Callable
from hmac import compare_digest
from typing import Final

from ..errors import Invalid, Unsupported
from .openpgp import Cursor

OPEN: Final = 0
"""First octet of secret numbers that stand in the clear, before their checksum."""

_SUM, _SHA1_CHECK = 255, 254
"""First octets of protected ones, by what tells that they were decrypted rightly."""

_SIMPLE, _SALTED, _ITERATED, _GNU = 0, 1, 3, 101
"""Ways from a passphrase to a key."""

_HASHES: Final = {1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224"}
_AES_KEY_BYTES: Final = {7: 16, 8: 24, 9: 32}
_BLOCK_BYTES: Final = 16
_SHA1_BYTES: Final = 20
_SALT_BYTES: Final = 8
_FED_BYTES: Final = 1 << 16
"""How much a hash is fed in one go, about."""


class WrongPassphrase(Invalid):
    """The passphrase does not open the key."""


def opened(secret: bytes, passphrase: bytes, key_name: str) -> bytes:
    """Secret numbers as they would stand in a packet without a passphrase.

    secret: what follows the public numbers in a packet, protected. key_name: for errors.
    Raises WrongPassphrase, Unsupported for a protection that is not lifted here, Invalid for
    what is broken.
    """
    cursor = Cursor(secret, f"secret {key_name}")
    usage = cursor.byte()
    if usage not in (_SUM, _SHA1_CHECK):
        raise Unsupported("unlock", key_name, f"protected in way {usage}, neither 254 nor 255")
    cipher = cursor.byte()
    derive = _derivation(cursor, key_name)
    if cipher not in _AES_KEY_BYTES:
        raise Unsupported("unlock", key_name, f"protected with cipher {cipher}, which is not AES")
    start = cursor.take(_BLOCK_BYTES)
    clear = _decrypted(derive(passphrase, _AES_KEY_BYTES[cipher]), start, cursor.rest())
    numbers = _checked(clear) if usage == _SHA1_CHECK else _summed(clear)
    if numbers is None:
        raise WrongPassphrase("unlock", key_name, "wrong passphrase")
    return bytes([OPEN]) + numbers + _sum_of(numbers)


def _decrypted(key: bytes, start: bytes, data: bytes) -> bytes:
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    decryptor = Cipher(algorithms.AES(key), CFB(start)).decryptor()
    return decryptor.update(data) + decryptor.finalize()


def _checked(clear: bytes) -> bytes | None:
    numbers, check = clear[:-_SHA1_BYTES], clear[-_SHA1_BYTES:]
    made = hashlib.sha1(numbers, usedforsecurity=False).digest()
    return numbers if compare_digest(made, check) else None


def _summed(clear: bytes) -> bytes | None:
    numbers, check = clear[:-2], clear[-2:]
    return numbers if compare_digest(_sum_of(numbers), check) else None


def _sum_of(numbers: bytes) -> bytes:
    return (sum(numbers) % 65536).to_bytes(2, "big")


# -- from passphrase to key ---------------------------------------------------------------------


def _derivation(cursor: Cursor, key_name: str) -> Callable[[bytes, int], bytes]:
    """Read how a passphrase becomes a key: a function of it and of the key's size in bytes."""
    way, hash_algorithm = cursor.byte(), cursor.byte()
    if way == _GNU:
        reason = "its secret half is elsewhere (a smart card, or a backup of the main key)"
        raise Unsupported("unlock", key_name, reason)
    hash_name = _HASHES.get(hash_algorithm)
    if hash_name is None:
        raise Unsupported("unlock", key_name, f"its passphrase is hashed by {hash_algorithm}")
    if way not in (_SIMPLE, _SALTED, _ITERATED):
        raise Unsupported("unlock", key_name, f"its passphrase becomes a key in way {way}")
    salt = b"" if way == _SIMPLE else cursor.take(_SALT_BYTES)
    count = _count(cursor.byte()) if way == _ITERATED else 0

    def derive(passphrase: bytes, size: int) -> bytes:
        material = salt + passphrase
        wanted = max(count, len(material))
        key = b""
        zeros = 0
        while len(key) < size:
            # Each further hash is fed one more zero byte first.
            key += _hash_of(hash_name, bytes(zeros), material, wanted)
            zeros += 1
        return key[:size]

    return derive


def _count(octet: int) -> int:
    """How many bytes are hashed, at most 65 million."""
    return (16 + (octet & 15)) << ((octet >> 4) + 6)


def _hash_of(name: str, before: bytes, material: bytes, wanted: int) -> bytes:
    """The hash of `before` and of `wanted` bytes of the material over and over."""
    made = hashlib.new(name, before, usedforsecurity=False)
    if not material:
        return made.digest()
    block = material * max(1, _FED_BYTES // len(material))
    whole, rest = divmod(wanted, len(block))
    for _ in range(whole):
        made.update(block)
    made.update(block[:rest])
    return made.digest()
