"""Sealing and unsealing: a version byte and an age file (README.md, "Format")."""

import os
from pathlib import Path
from typing import Final

from ...blob import MAX_BLOB_SIZE, Ref
from ...errors import ConfigError, Corrupt, Invalid, TooLarge, Unsupported
from .age import Identity, Recipient, sealed_size

VERSION: Final = b"\x02"
OLD_VERSION: Final = b"\x01"
"""Of releases of Perkeep before it used age; nothing reads it any more."""

MAX_PLAIN_SIZE: Final = 16_772_935
"""Bytes of the largest blob that fits when sealed."""


class Sealer:
    """Seals for, and unseals with, one X25519 identity. Safe to use from many threads."""

    def __init__(self, identity: str) -> None:
        """identity: `AGE-SECRET-KEY-1…`. Raises ConfigError, which does not repeat it."""
        try:
            self._identity = Identity(identity)
        except Invalid as error:
            raise ConfigError("read", "age identity", error.reason) from None

    @property
    def recipient(self) -> Recipient:
        """The public half, all that sealing needs."""
        return self._identity.recipient

    def seal(self, ref: Ref, data: bytes) -> bytes:
        """Different bytes each time. Raises TooLarge, naming `ref`, when they exceed a blob."""
        check_size(ref, len(data))
        return self.recipient.seal(data, VERSION)

    def unseal(self, ref: Ref, sealed: bytes) -> bytes:
        """ref: the name of the sealed bytes, for errors.

        Raises Unsupported (another version), Corrupt (damaged, or for another key).
        """
        if sealed[:1] != VERSION:
            raise Unsupported("decrypt", ref, f"version {sealed[:1].hex() or 'none'}, not 02")
        try:
            return self._identity.open(sealed, len(VERSION))
        except Corrupt as error:
            raise Corrupt("decrypt", ref, error.reason) from None


def full_size(size: int) -> int:
    """Bytes of a blob of so many when it is sealed by us."""
    return len(VERSION) + sealed_size(size)


def check_size(ref: Ref, size: int) -> None:
    """Raise TooLarge, naming `ref`, when so many bytes exceed a blob when they are sealed."""
    if full_size(size) > MAX_BLOB_SIZE:
        reason = f"{size} bytes are over {MAX_BLOB_SIZE} when sealed"
        raise TooLarge("encrypt", ref, reason)


def read_key_file(path: Path) -> Sealer:
    """The sealer of a key file: one line, and nobody but its owner may read it.

    Raises ConfigError, which names the file.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read(4096)
    except OSError as error:
        raise ConfigError("read", f"key file {path}", os.strerror(error.errno or 0)) from None
    if mode & 0o077:
        raise ConfigError("read", f"key file {path}", f"mode {mode:o} must be 600: chmod 600")
    lines = text.strip(b"\r\n").split(b"\n")
    if len(lines) > 1:
        raise ConfigError("read", f"key file {path}", "must hold one line, the identity")
    try:
        return Sealer(lines[0].strip().decode("ascii"))
    except (ConfigError, UnicodeDecodeError):
        raise ConfigError("read", f"key file {path}", "holds no X25519 age identity") from None
