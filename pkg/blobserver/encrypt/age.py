"""age v1 files for X25519 keys: what is sealed and opened, and how keys are spelt (README.md,
"The age file")."""

import hmac
import os
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ...blob.ref import Buffer
from ...errors import Corrupt, Invalid
from .bech32 import from_bech32, to_bech32

OVERHEAD: Final = 184
"""Bytes of a header for one key, and of the nonce behind it."""

CHUNK: Final = 65_536
TAG: Final = 16

_KEY_SIZE: Final = 32
_FILE_KEY_SIZE: Final = 16
_NONCE_SIZE: Final = 16
_IDENTITY_NAME: Final = "age-secret-key-"
_RECIPIENT_NAME: Final = "age"

_VERSION: Final = b"age-encryption.org/v1\n"
_X25519: Final = b"age-encryption.org/v1/X25519"
_ZEROS: Final = bytes(12)

_STANZA: Final = re.compile(
    rb"-> ([!-~]+(?: [!-~]+)*)\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63}\n)"
)
_MAC: Final = re.compile(rb"---( ([A-Za-z0-9+/]{43})\n)")
_HEADER_LIMIT: Final = 1 << 20
"""Bytes of a header that are looked at: thousands of keys."""


class _Stanza(NamedTuple):
    """What one reader of a file needs: the kind, what belongs to it, and the wrapped file key."""

    arguments: list[bytes]
    body: bytes


class _Header(NamedTuple):
    """covered_end: where the part ends that the MAC covers. end: where the payload begins."""

    stanzas: list[_Stanza]
    covered_end: int
    mac: bytes
    end: int


class Envelope(NamedTuple):
    """What one age file needs besides its content, made without it: header and nonce, and the
    key of the content."""

    head: bytes
    key: bytes


class Recipient:
    """A public key. Safe to use from many threads.

    text: `age1…`.
    """

    def __init__(self, text: str) -> None:
        """Raises Invalid."""
        public = from_bech32(_RECIPIENT_NAME, text)
        if public is None or len(public) != _KEY_SIZE:
            raise Invalid("read", "age recipient", "not an X25519 recipient")
        self.text = text
        self._public = public
        self._public_key = X25519PublicKey.from_public_bytes(public)

    def envelope(self) -> Envelope:
        """For one file only: other keys each time."""
        file_key, nonce = os.urandom(_FILE_KEY_SIZE), os.urandom(_NONCE_SIZE)
        ephemeral = X25519PrivateKey.generate()
        share = ephemeral.public_key().public_bytes_raw()
        wrapping = _derived(ephemeral.exchange(self._public_key), share + self._public, _X25519)
        wrapped = ChaCha20Poly1305(wrapping).encrypt(_ZEROS, file_key, None)
        header = b"%s-> X25519 %s\n%s\n---" % (_VERSION, _base64(share), _base64(wrapped))
        head = b"%s %s\n%s" % (header, _base64(_mac(file_key, header)), nonce)
        return Envelope(head, _derived(file_key, nonce, b"payload"))

    def seal(self, data: Buffer, prefix: bytes = b"", envelope: Envelope | None = None) -> bytes:
        """Return `prefix` and an age file for this key; other bytes each time.

        envelope: one that was made before, for this file.
        """
        head, key = envelope or self.envelope()
        cipher = ChaCha20Poly1305(key)
        parts = [prefix, head]
        for chunk_nonce, chunk in _chunks(memoryview(data), CHUNK):
            parts.append(cipher.encrypt(chunk_nonce, chunk, None))
        return b"".join(parts)


class Identity:
    """A secret key. Safe to use from many threads.

    recipient: its public half.
    """

    def __init__(self, text: str) -> None:
        """text: `AGE-SECRET-KEY-1…`. Raises Invalid, which does not repeat it."""
        secret = from_bech32(_IDENTITY_NAME, text)
        if secret is None or len(secret) != _KEY_SIZE:
            raise Invalid("read", "age identity", "not an X25519 identity")
        self._key = X25519PrivateKey.from_private_bytes(secret)
        self._public = self._key.public_key().public_bytes_raw()
        self.recipient = Recipient(to_bech32(_RECIPIENT_NAME, self._public))

    def open(self, file: bytes, begin: int = 0) -> bytes:
        """Return what the age file that starts at `begin` holds. Raises Corrupt."""
        header = _parse(file, begin)
        file_key = self._file_key(header.stanzas)
        if not hmac.compare_digest(_mac(file_key, file[begin : header.covered_end]), header.mac):
            raise _corrupt("its header was changed")
        payload = memoryview(file)[header.end :]
        nonce = bytes(payload[:_NONCE_SIZE])
        if len(nonce) < _NONCE_SIZE:
            raise _corrupt("it ends in its header")
        cipher = ChaCha20Poly1305(_derived(file_key, nonce, b"payload"))
        try:
            parts = [
                cipher.decrypt(chunk_nonce, chunk, None)
                for chunk_nonce, chunk in _chunks(payload[_NONCE_SIZE:], CHUNK + TAG)
            ]
        except InvalidTag:
            raise _corrupt("its content is cut or was changed") from None
        if len(parts) > 1 and not parts[-1]:
            raise _corrupt("its last chunk is empty")
        return b"".join(parts) if len(parts) > 1 else parts[0]

    def _file_key(self, stanzas: list[_Stanza]) -> bytes:
        """The key of a file, from the first stanza that was made for us."""
        for arguments, wrapped in stanzas:
            if arguments[0] != b"X25519":
                continue
            share = _unbase64(arguments[1]) if len(arguments) == 2 else b""
            try:
                if len(wrapped) != _FILE_KEY_SIZE + TAG:
                    raise ValueError
                secret = self._key.exchange(X25519PublicKey.from_public_bytes(share))
            except ValueError:  # also of a share of low order, whose secret everybody knows
                raise _corrupt("its header has a broken X25519 stanza") from None
            wrapping = _derived(secret, share + self._public, _X25519)
            try:
                return ChaCha20Poly1305(wrapping).decrypt(_ZEROS, wrapped, None)
            except InvalidTag:
                continue  # for another key
        raise _corrupt("it is for another key")


def sealed_size(size: int) -> int:
    """Bytes of the file that `Recipient.seal` makes of so many."""
    return OVERHEAD + TAG * max(1, -(-size // CHUNK)) + size


def _corrupt(reason: str) -> Corrupt:
    return Corrupt("decrypt", "age file", reason)


def _parse(file: bytes, begin: int) -> _Header:
    if not file.startswith(_VERSION, begin):
        raise _corrupt("no age file of version 1")
    at, limit = begin + len(_VERSION), begin + _HEADER_LIMIT
    stanzas: list[_Stanza] = []
    while found := _STANZA.match(file, at, limit):
        body = _unbase64(found[2].replace(b"\n", b""))
        stanzas.append(_Stanza(found[1].split(b" "), body))
        at = found.end()
    end = _MAC.match(file, at)
    if not stanzas or end is None:
        raise _corrupt("its header is cut or broken")
    if len(stanzas) > 1 and any(arguments[0] == b"scrypt" for arguments, _ in stanzas):
        raise _corrupt("its header has a password beside keys")
    return _Header(stanzas, end.start(1), _unbase64(end[2]), end.end())


def _chunks(content: memoryview, size: int) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the chunks, at least one, each with its nonce: its number, and whether it is the
    last."""
    last = max(0, len(content) - 1) // size
    for number in range(last + 1):
        nonce = number.to_bytes(11, "big") + (b"\x01" if number == last else b"\x00")
        yield nonce, content[number * size : (number + 1) * size]


def _mac(file_key: bytes, header: bytes) -> bytes:
    """Of a header up to and including its `---`."""
    return hmac.digest(_derived(file_key, b"", b"header"), header, "sha256")


def _derived(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    """HKDF-SHA-256: a key of 32 bytes."""
    return hmac.digest(hmac.digest(salt, secret, "sha256"), purpose + b"\x01", "sha256")


def _base64(data: bytes) -> bytes:
    return b64encode(data).rstrip(b"=")


def _unbase64(text: bytes) -> bytes:
    """Without padding, and only as it is written: one text for one value. Raises Corrupt."""
    try:
        data = b64decode(text + b"=" * (-len(text) % 4))
    except ValueError:
        data = b""
    if _base64(data) != text:
        raise _corrupt("its header is not spelt as it should be")
    return data
