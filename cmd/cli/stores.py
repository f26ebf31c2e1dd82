"""A store as a command line names it: a server, one of its prefixes, or a local folder."""

from pathlib import Path
from typing import NamedTuple

from ..blobserver.storage import Storage
from .common import Session
from .connection import Connection

LOCAL = ("/", "./", "../")


class Place(NamedTuple):
    """A store and, if it is on a server, the connection to that. `name` is for messages."""

    storage: Storage
    connection: Connection | None
    name: str


def is_local(text: str) -> bool:
    """Whether a command line means a folder by this, not a server."""
    return text.startswith(LOCAL) or text in (".", "..")


def open_place(
    session: Session, text: str = "", *, create: bool = False, insecure: bool = False
) -> Place:
    """Open the store that `text` names: a URL (its path is the prefix), an alias, or a folder
    of loose or packed blobs; empty means the default server.

    create: make the folder if it is not there. Raises ConfigError, and what the server says.
    """
    if is_local(text):
        from ..blobserver.folder import open_folder

        folder = Path(text)
        if create:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Place(open_folder(folder), None, text)
    connection = Connection(session, text, insecure=insecure)
    storage = connection.storage()
    return Place(storage, connection, str(storage))
