"""What a server, and this installation, say of themselves."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import __version__
from ..errors import ConfigError
from .common import Command, Session, json_flag, server_flag, switch

if TYPE_CHECKING:
    from ..clients.config import ClientConfig
    from ..schema.keyring import SecretKey


@click.command(cls=Command)
@json_flag
@click.pass_obj
def version(session: Session) -> None:
    """Show the version."""
    session.output.result(f"peatkeep {__version__}", version=__version__)


@click.command(cls=Command)
@server_flag
@switch("--httpversion", help="Show the version of HTTP that the server speaks instead.")
@click.pass_obj
def discovery(session: Session, httpversion: bool) -> None:
    """Show the discovery document, as the server sends it."""
    from .connection import Connection

    connection = Connection(session)
    if httpversion:
        path = connection.transport.address.path or "/"
        with connection.transport.stream("HEAD", path, None, {}) as (answer, _):
            session.output.result(f"HTTP/{answer.version // 10}.{answer.version % 10}")
        return
    text = connection.discovery.text.decode("utf-8", "replace").rstrip("\n")
    session.output.result(text, **connection.discovery.document)


@click.command(cls=Command)
@click.argument("what", default="identity")
@json_flag
@click.pass_obj
def whoami(session: Session, what: str) -> None:
    """Show who signs here: `identity` (the default), `type` of the key, or the `private` ring."""
    from ..clients.config import read_config

    if what not in ("identity", "type", "private"):
        raise click.UsageError(f"unknown word {what!r}: want identity, type or private")
    config = read_config(os.environ)
    ring = ring_file(session, config)
    key = signing_key(ring, config.identity)
    if what == "identity":
        session.output.result(f"perkeepid:{key.key_id}", identity=key.key_id)
    elif what == "type":
        # The words of Perkeep, for scripts that look for them.
        session.output.result("*rsa.PrivateKey", type="rsa")
    else:
        text = armored(ring.read_bytes())
        session.output.result(text, private=text)


def ring_file(session: Session, config: "ClientConfig") -> Path:
    """The keyring: the flag's, else that of the configuration."""
    if session.secret_keyring:
        return Path(session.secret_keyring)
    if config.secret_ring is None:
        raise ConfigError("find", "secret keyring", "no file is configured; `pk init` makes one")
    return config.secret_ring


def signing_key(ring: Path, identity: str) -> "SecretKey":
    """The key of this identity, or the ring's first where none is named."""
    from ..schema.keyring import find_key, normal_identity, read_ring

    try:
        keys = read_ring(ring.read_bytes())
    except OSError as error:
        reason = f"{error.strerror}; `pk init -newkey` makes one"
        raise ConfigError("read", f"secret keyring {ring}", reason) from None
    return find_key(keys, normal_identity(identity)) if identity else keys[0]


def armored(ring: bytes) -> str:
    """The text of a ring, which may be binary in its file."""
    from ..schema import armor

    if ring[:1] >= b"\x80":
        return armor.encode(armor.PRIVATE_KEY, ring).rstrip("\n")
    return ring.decode("utf-8", "replace").rstrip("\n")
