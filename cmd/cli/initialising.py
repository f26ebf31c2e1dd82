"""`pk-put init`: the key and the client configuration of a new user."""

import json
import os
from pathlib import Path
from typing import Any

import click

from .. import places
from ..blobserver.remote import Transport, discover
from ..blobserver.remote.transport import status_error
from ..clients.config import server_url, write_config
from ..errors import Corrupt, Invalid, NotFound, Unsupported
from ..schema.keyring import SecretKey, create_key, find_key, read_ring
from .common import Command, Session, json_flag, switch

DEFAULT_SERVER = "http://localhost:3179"


@click.command("init", cls=Command, short_help="Make a key and a client configuration.")
@switch("--newkey", help="Make a new key: your identity.")
@click.option("--gpgkey", metavar="ID", default="", help="Use this key of the keyring.")
@switch("--noconfig", help="Write no client configuration.")
@click.option(
    "--userpass",
    metavar="U:P",
    default="",
    help="Fetch the configuration of -server as this user; without P, it is asked for.",
)
@switch("--insecure", help="With -userpass: accept any certificate.")
@json_flag
@click.pass_obj
def init(
    session: Session, newkey: bool, gpgkey: str, noconfig: bool, userpass: str, insecure: bool
) -> None:
    """Make a key and a client configuration. Neither is ever overwritten.

    \b
    Examples:
      pk-put init --newkey
      pk-put init --gpgkey=XXXXXXXXXXXXXXXX
      pk-put --server=https://host:3179 init --userpass=foo:bar
    """
    if newkey and gpgkey:
        raise click.UsageError("--newkey and --gpgkey exclude each other")
    config_path = places.own_config_dir(os.environ) / places.CLIENT_CONFIG
    if userpass:
        if not session.server:
            raise click.UsageError("--userpass requires --server")
        members = _fetch_config(session.server, userpass, insecure)
        write_config(config_path, members)
    else:
        ring = _ring(session, newkey)
        key = _key(session, ring, gpgkey, is_new=newkey)
        session.output.note(f"Your identity (the blobref of your public key) is: {key.public_ref}")
        if newkey:
            session.output.note(
                f"Keep a copy of {ring} where you will find it: it can't be remade."
            )
        session.output.summary |= {"identity": key.key_id, "publicKeyRef": key.public_ref}
        if noconfig:
            return
        write_config(config_path, _new_config(session, ring, key))
    session.output.note(f'Wrote "{config_path}"; modify as necessary.')


def _ring(session: Session, newkey: bool) -> Path:
    """The keyring's path; with newkey, of a new one that was just written."""
    path = Path(session.secret_keyring or places.secret_ring_file(os.environ))
    if newkey:
        if not session.secret_keyring and not places.variable(
            os.environ, "PK_SECRET_RING", "CAMLI_SECRET_RING"
        ):
            path = places.own_config_dir(os.environ) / places.SECRET_RING
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            reason = "it exists already and was not touched"
            raise Invalid("make", f"key ring {path}", reason) from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(create_key())
            file.flush()
            os.fsync(file.fileno())
    return path


def _key(session: Session, ring: Path, gpgkey: str, *, is_new: bool) -> SecretKey:
    try:
        keys = read_ring(ring.read_bytes())
    except FileNotFoundError:
        reason = "it does not exist; make a key with `pk-put init --newkey`"
        raise NotFound("use", f"key ring {ring}", reason) from None
    wanted = gpgkey or places.variable(os.environ, "PK_KEYID", "CAMLI_KEYID", "GPGKEY")
    key = find_key(keys, wanted) if wanted else _only(keys, ring)
    if not is_new:
        session.output.note(f'Re-using identity with keyId "{key.key_id}" found in file {ring}')
    return key


def _only(keys: list[SecretKey], ring: Path) -> SecretKey:
    if len(keys) != 1:
        ids = ", ".join(key.key_id for key in keys) or "none"
        raise Invalid("choose key", ring, f"it holds {ids}; say which with --gpgkey")
    return keys[0]


def _new_config(session: Session, ring: Path, key: SecretKey) -> dict[str, object]:
    url = server_url(session.server) if session.server else DEFAULT_SERVER
    server = {"server": url, "auth": "localhost", "default": True}
    members: dict[str, object] = {"servers": {"localhost": server}, "identity": key.key_id}
    if ring != places.own_config_dir(os.environ) / places.SECRET_RING:
        members["identitySecretRing"] = str(ring)
    return {**members, "ignoredFiles": [".DS_Store"]}


def _fetch_config(server: str, userpass: str, insecure: bool) -> dict[str, Any]:
    """The client configuration that the help handler of the server offers."""
    url = server_url(server)
    if ":" not in userpass:
        userpass += ":" + click.prompt("Password", hide_input=True, err=True)
    transport = Transport(url, f"userpass:{userpass}", insecure=insecure, proxies=os.environ)
    help_root = discover(transport).help_root
    if not help_root:
        raise Unsupported("fetch configuration from", transport, "it has no help handler")
    response = transport.request("GET", f"{transport.path_of(help_root)}?clientConfig=true")
    if response.status != 200:
        raise status_error("fetch", "client configuration", transport, response)
    try:
        members = json.loads(response.body)
    except ValueError:
        members = None
    if not isinstance(members, dict) or not isinstance(members.get("servers"), dict):
        raise Corrupt("fetch configuration from", transport, "the answer is no configuration")
    return members
