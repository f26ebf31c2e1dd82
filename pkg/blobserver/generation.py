"""The generation file of a store on disk (pkg/blobserver/README.md, "Generation file")."""

import base64
import errno
import secrets
from datetime import UTC, datetime
from typing import Final

from .filesystem import FileSystem, translate
from .storage import Generation

FILE_NAME: Final = "GENERATION.dat"

_TOKEN_LENGTH: Final = 26
_READ_LIMIT: Final = 4096

_EXPLANATION: Final = """

The line above names this incarnation of the store. Clients remember which blobs they have sent
to it, under that name. If blobs are ever lost (a disk died, an old backup was restored), delete
this file: the store then takes a new name, and clients check again what is missing.
Keep the file in every other case.
"""


def open_generation(folder: str, files: FileSystem) -> Generation | None:
    """Read the folder's generation, or begin one.

    None where there is none and the folder takes no files. Raises Unavailable.
    """
    found = _read(folder, files)
    if found is not None:
        return found
    try:
        _write(folder, files)
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return None
        raise translate(error, "write", f"{folder}/{FILE_NAME}") from error
    return _read(folder, files)


def renew_generation(folder: str, files: FileSystem) -> Generation | None:
    """Begin a new generation, durably. Raises ReadOnly, Unavailable."""
    try:
        _write(folder, files)
    except OSError as error:
        raise translate(error, "write", f"{folder}/{FILE_NAME}") from error
    return _read(folder, files)


def _read(folder: str, files: FileSystem) -> Generation | None:
    path = f"{folder}/{FILE_NAME}"
    try:
        descriptor = files.open_read(path)
        try:
            text = files.read_all(descriptor, _READ_LIMIT)
            status = files.status_of(descriptor)
        finally:
            files.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise translate(error, "read", path) from error
    token = text.partition(b"\n")[0].strip().decode("utf-8", "replace")
    return Generation(datetime.fromtimestamp(status.st_mtime, UTC), token)


def _write(folder: str, files: FileSystem) -> None:
    """Write a new file beside the old one and rename it over: never half a file."""
    token = base64.b32encode(secrets.token_bytes(17)).decode()[:_TOKEN_LENGTH]
    path = f"{folder}/{FILE_NAME}"
    temporary = f"{path}.tmp{secrets.randbelow(10**9)}"
    descriptor = files.open_new(temporary, 0o644)
    try:
        try:
            files.write_all(descriptor, (token + _EXPLANATION).encode())
            files.fsync(descriptor)
        finally:
            files.close(descriptor)
        files.rename(temporary, path)
    except OSError:
        files.unlink(temporary)
        raise
    files.sync_folder(folder)
