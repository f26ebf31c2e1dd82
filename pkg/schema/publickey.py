"""Public keys: which are accepted, their names, and the check of a raw signature."""

from hashlib import sha1
from typing import Final

from ..errors import Invalid, Unsupported
from .algorithms import MATERIALS, Check, Material
from .openpgp import Cursor

_OTHERS: Final = {2: "RSA for encryption", 16: "Elgamal", 18: "ECDH", 22: "EdDSA", 27: "Ed25519"}


class PublicKey:
    """A version 4 public key: RSA, DSA, or ECDSA on a NIST curve. Safe to use from many threads.

    body: the packet's body up to the last number of the key; what follows is no part of it.
    fingerprint: 40 upper-case hex digits; key_id: the last 16 of them.
    """

    __slots__ = ("_check", "algorithm", "body", "fingerprint", "key_id", "material")

    def __init__(self, algorithm: int, body: bytes, material: Material) -> None:
        self.algorithm: Final = algorithm
        self.body: Final = body
        self.material: Final = material
        self.fingerprint: Final = sha1(key_frame(body), usedforsecurity=False).hexdigest().upper()
        self.key_id: Final = self.fingerprint[-16:]
        self._check: Check | None = None

    def __repr__(self) -> str:
        return f"<PublicKey {self.key_id}>"

    def accepts(self, numbers: bytes, digest: bytes, hash_algorithm: int) -> bool:
        """Whether the numbers of a signature packet are this key's signature of the digest.

        Raises Invalid for numbers that are cut short, or a key that is none.
        """
        check = self._check
        if check is None:
            try:
                self._check = check = self.material.checker()
            except ValueError as error:
                raise Invalid("use", f"public key {self.key_id}", str(error)) from None
        return check(numbers, digest, hash_algorithm)


def key_frame(body: bytes) -> bytes:
    """The form in which a key enters fingerprints and the signatures over keys."""
    return b"\x99" + len(body).to_bytes(2, "big") + body


def read_public_key(cursor: Cursor) -> PublicKey:
    """Read a key from the start of a packet body; leave the cursor behind its last number.

    Raises Invalid if it is broken, Unsupported if it is weak or of another kind.
    """
    version = cursor.byte()
    if version != 4:
        raise Unsupported("use", "public key", f"version {version}, not 4")
    cursor.take(4)  # when it was made: no date of a key counts
    algorithm = cursor.byte()
    material = MATERIALS.get(algorithm)
    if material is None:
        name = _OTHERS.get(algorithm, f"algorithm {algorithm}")
        raise Unsupported("use", "public key", f"{name}: only RSA, DSA and ECDSA sign claims")
    numbers = material.read(cursor)
    body = cursor.so_far()
    if len(body) > 0xFFFF:
        raise Invalid("read", "public key", "too long")
    return PublicKey(algorithm, body, numbers)
