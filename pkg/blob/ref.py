"""Blob names: `<hash name>-<lower-case hex digest>`."""

import hashlib
import re
from typing import Final, NamedTuple, Self

from ..errors import Invalid

MAX_BLOB_SIZE: Final = 16 * 1024 * 1024
"""Bytes a blob may hold; Perkeep's limit, inclusive."""

HEX_DIGITS: Final = {"sha1": 40, "sha224": 56, "sha256": 64}
"""Known hashes, and the exact number of hex digits of each."""

Buffer = bytes | bytearray | memoryview

# The constructors themselves: hashlib.new looks the name up for every blob.
_HASHES: Final = {"sha1": hashlib.sha1, "sha224": hashlib.sha224, "sha256": hashlib.sha256}

_SHA224 = re.compile(r"sha224-[0-9a-f]{56}", re.ASCII)
_FORM = re.compile(r"([a-z0-9]+)-([0-9a-f]{1,256})", re.ASCII)


def _is_ref(text: str) -> bool:
    if len(text) == 63 and _SHA224.fullmatch(text):  # nearly all refs there are
        return True
    match = _FORM.fullmatch(text)
    if match is None:
        return False
    digits = HEX_DIGITS.get(match[1])
    return digits is None or digits == len(match[2])


class Ref(str):
    """The name of a blob, as text. Compares, sorts and hashes as that text.

    `Ref(text)` validates and raises Invalid. Unknown hash names are refs too (they can be
    listed and asked for), but nothing can be verified or received under them.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not _is_ref(text):
            raise Invalid("parse ref", repr(text[:100]))
        return str.__new__(cls, text)

    @classmethod
    def of(cls, data: Buffer) -> Self:
        """The SHA-224 name of these bytes, as every new blob is named."""
        return str.__new__(cls, "sha224-" + hashlib.sha224(data).hexdigest())

    @classmethod
    def trusted(cls, text: str) -> Self:
        """Wrap text that is known to be a ref (our own rows, our own digests): no check."""
        return str.__new__(cls, text)

    @classmethod
    def from_digest(cls, hash_name: str, digest: bytes) -> Self:
        return cls(f"{hash_name}-{digest.hex()}")

    @property
    def hash_name(self) -> str:
        return self[: self.index("-")]

    @property
    def hex_digest(self) -> str:
        return self[self.index("-") + 1 :]

    @property
    def is_supported(self) -> bool:
        """Whether bytes can be checked against this ref."""
        return self.hash_name in HEX_DIGITS

    def matches(self, data: Buffer) -> bool:
        """Whether these bytes have this name. False for an unknown hash."""
        name, _, digits = self.partition("-")
        hash_of = _HASHES.get(name)
        return hash_of is not None and hash_of(data).hexdigest() == digits


class SizedRef(NamedTuple):
    """A blob's name and its size in bytes."""

    ref: Ref
    size: int


def parse_ref(text: object) -> Ref | None:
    """The ref that this text is, or None: for input where a malformed ref is ordinary."""
    if isinstance(text, str) and _is_ref(text):
        return Ref.trusted(text)
    return None
