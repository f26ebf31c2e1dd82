"""Files and folders for their owner only, written whole or not at all."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from ...errors import ConfigError


def make_folder(path: Path) -> None:
    """Make a folder for its owner only, with those above it; an existing one is left as it is."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError("make folder", path, error.strerror or str(error)) from None


def create(path: Path, content: str | bytes) -> None:
    """Write a new file whole, 0600. Raises ConfigError if it exists."""
    with _temporary(path, content) as temporary:
        try:
            # A link, as a rename would replace what another process has just made.
            os.link(temporary, path)
        except FileExistsError:
            raise ConfigError("create", path, "it exists") from None
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK) or path.exists():
                raise
            temporary.rename(path)  # a file system without links


def replace(path: Path, content: str | bytes) -> None:
    """Write a file whole, 0600, in place of one that may be there."""
    with _temporary(path, content) as temporary:
        temporary.rename(path)


@contextlib.contextmanager
def _temporary(path: Path, content: str | bytes) -> Iterator[Path]:
    """Give a synced file beside `path` with the content; sync the folder in the end."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield temporary
    except OSError as error:
        raise ConfigError("write", path, error.strerror or str(error)) from None
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
