"""Sealing and unsealing: a version byte and an age file (README.md, "Format")."""

import os
from pathlib import Path
from typing import Final

import pyrage

from ...blob import MAX_BLOB_SIZE, Ref
from ...errors import ConfigError, Corrupt, TooLarge, Unsupported

VERSION: Final = b"\x02"
OLD_VERSION: Final = b"\x01"
"""Of releases of Perkeep before it used age; nothing reads it any more."""

MAX_PLAIN_SIZE: Final = 16_772_608
"""Bytes that always fit when sealed; up to 300 more may, depending on age's random padding."""

_ATTEMPTS: Final = 64


class Sealer:
    """Seals for, and unseals with, one X25519 identity. Safe to use from many threads."""

    def __init__(self, identity: str) -> None:
        """identity: `AGE-SECRET-KEY-1…`. Raises ConfigError, which does not repeat it."""
        try:
            self._identity = pyrage.x25519.Identity.from_str(identity)
        except pyrage.IdentityError:
            raise ConfigError("read", "age identity", "not an X25519 identity") from None
        self._recipient = self._identity.to_public()

    @property
    def recipient(self) -> str:
        """The public half, `age1…`."""
        return str(self._recipient)

    def seal(self, ref: Ref, data: bytes) -> bytes:
        """Different bytes each time. Raises TooLarge, naming `ref`, when they exceed a blob.

        age adds padding of a random length to its header: a blob at the limit has further tries.
        """
        least = 1 + 184 + 16 * max(1, -(-len(data) // 65536)) + len(data)
        for _ in range(_ATTEMPTS if least <= MAX_BLOB_SIZE else 0):
            sealed: bytes = VERSION + pyrage.encrypt(data, [self._recipient])
            if len(sealed) <= MAX_BLOB_SIZE:
                return sealed
        raise TooLarge("encrypt", ref, f"{len(data)} bytes are over {MAX_BLOB_SIZE} when sealed")

    def unseal(self, ref: Ref, sealed: bytes) -> bytes:
        """ref: the name of the sealed bytes, for errors.

        Raises Unsupported (another version), Corrupt (damaged, or for another key).
        """
        if sealed[:1] != VERSION:
            raise Unsupported("decrypt", ref, f"version {sealed[:1].hex() or 'none'}, not 02")
        try:
            data: bytes = pyrage.decrypt(sealed[1:], [self._identity])
        except pyrage.DecryptError as error:
            raise Corrupt("decrypt", ref, str(error)) from None
        return data


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
