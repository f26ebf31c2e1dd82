"""Age files put together piece by piece, without our code: as nobody should write them, too."""

import hashlib
import hmac
import os
from base64 import b64decode, b64encode
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION = b"age-encryption.org/v1\n"
FILE_KEY = hashlib.sha256(b"a key of a file").digest()[:16]


def derived(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, purpose).derive(secret)


def text(data: bytes) -> bytes:
    return b64encode(data).rstrip(b"=")


def stanza(words: bytes, body: bytes = b"") -> bytes:
    """With the body in lines of 64 letters, the last of them shorter."""
    letters = text(body)
    lines = [letters[at : at + 64] for at in range(0, len(letters) + 1, 64)]
    return b"-> " + words + b"\n" + b"".join(line + b"\n" for line in lines)


def for_key(public: bytes, file_key: bytes = FILE_KEY) -> bytes:
    """The stanza for a key of 32 bytes."""
    key = X25519PrivateKey.generate()
    share = key.public_key().public_bytes_raw()
    secret = key.exchange(X25519PublicKey.from_public_bytes(public))
    wrapping = derived(secret, share + public, b"age-encryption.org/v1/X25519")
    wrapped = ChaCha20Poly1305(wrapping).encrypt(bytes(12), file_key, None)
    return stanza(b"X25519 " + text(share), wrapped)


def age_file(stanzas: Sequence[bytes], chunks: Sequence[bytes], version: bytes = VERSION) -> bytes:
    """chunks: the content as it is to be cut."""
    covered = version + b"".join(stanzas) + b"---"
    mac = hmac.digest(derived(FILE_KEY, b"", b"header"), covered, "sha256")
    nonce = os.urandom(16)
    cipher = ChaCha20Poly1305(derived(FILE_KEY, nonce, b"payload"))
    sealed = [
        cipher.encrypt(number.to_bytes(11, "big") + bytes([number == len(chunks) - 1]), chunk, None)
        for number, chunk in enumerate(chunks)
    ]
    return covered + b" " + text(mac) + b"\n" + nonce + b"".join(sealed)


def public_of(file: bytes) -> bytes:
    """The share in the first stanza of an age file: 32 bytes that are the public half of a key."""
    word = file[len(VERSION) :].split(b"\n")[0].split(b" ")[2]
    return b64decode(word + b"=")
