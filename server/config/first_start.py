"""The first start: a key, server.toml, a client configuration and the data folder from nothing.

Everything made is readable by its owner only. Nothing that exists is overwritten: a key and
credentials that are there are taken over. server.toml is written last, so that a start that was
broken off is simply done again (server/config/README.md, "First start").
"""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ... import places
from ...blob.ref import HEX_DIGITS
from ...errors import ConfigError
from . import clientfile, private
from .identity import find_key_id

DEFAULT_LISTEN: Final = "127.0.0.1:3179"

_KEYS: Final = {
    "diskpacked": "# The blobs, in a few large files (without packBlobs: a file for each)."
    "\npackBlobs = true",
    "localdisk": "# The blobs, a file for each.",
    "blobpacked": "# The blobs, in a few large files until they are packed into zips, file by file."
    "\n# (without packLoose: until then a file for each)"
    "\npackRelated = true\npackLoose = true",
}
_LOOSE_FILES: Final = (
    "# The blobs, a file for each until they are packed into zips, file by file."
    "\npackRelated = true"
)
_PACKS: Final = "pack-*.blobs"

KINDS: Final = tuple(_KEYS)
"""The stores that a first start can choose; the first is the default (pkg/DESIGN.md, 11)."""


class FirstStart(NamedTuple):
    """What a first start made or took over.

    alias: under which name the client configuration knows the server. is_default: programs use
    it unless told otherwise. is_new_key: the key was made, and has no copy anywhere.
    """

    server_config: Path
    client_config: Path
    blobs: Path
    ring: Path
    key_id: str
    user: str
    alias: str
    is_default: bool
    is_new_key: bool


def make(
    environ: Mapping[str, str],
    *,
    listen: str,
    user: str,
    data: Path | None = None,
    kind: str = "",
) -> FirstStart:
    """Set a server up and say what was made.

    listen: `host:port`. user: the name to log in with. data: keep everything (configuration, key,
    blobs, index) below this folder; None: each at its usual place. kind: one of KINDS; empty: what
    the blobs' folder holds, else the default. Raises ConfigError.
    """
    folder = data.absolute() if data else places.own_config_dir(environ).absolute()
    store = folder if data else places.data_dir(environ).absolute()
    kind = _kind(store / "blobs", kind)
    client = clientfile.read(places.client_config_file(environ))
    url = client_url(listen)
    for path in (folder, store, store / "blobs"):
        private.make_folder(path)

    ring, key_id, is_new_key = _key(environ, client, folder)
    known = clientfile.credentials(client, url)
    user, password = known or (user.replace(":", "_"), secrets.token_hex(16))
    auth = f"userpass:{user}:{password}"
    written, alias, is_default = clientfile.add_server(
        client, clientfile.Entry(url, auth, key_id, str(ring))
    )
    client_path = places.own_config_dir(environ).absolute() / places.CLIENT_CONFIG
    if written != client.values or not client_path.exists():
        private.make_folder(client_path.parent)
        private.replace(client_path, json.dumps(written, indent=4, ensure_ascii=False) + "\n")

    text = server_toml(
        listen=listen, auth=auth, key_id=key_id, ring=ring, store=store, base=folder, kind=kind
    )
    server_path = folder / places.SERVER_CONFIG
    private.create(server_path, text)
    return FirstStart(
        server_config=server_path,
        client_config=client_path,
        blobs=store / "blobs",
        ring=ring,
        key_id=key_id,
        user=user,
        alias=alias,
        is_default=is_default,
        is_new_key=is_new_key,
    )


def _kind(blobs: Path, wanted: str) -> str:
    """The kind of store for this folder: what lies there stays what it is."""
    found = ""
    if (blobs / "packed").exists():
        found = "blobpacked"
    elif any(blobs.glob(_PACKS)):
        found = "diskpacked"
    elif any((blobs / name).exists() for name in HEX_DIGITS):
        found = "localdisk"
    if found and wanted and found != wanted:
        reason = f"it holds blobs of the kind {found}; `pk storage migrate` moves them to another"
        raise ConfigError("set up", blobs, reason)
    return found or wanted or KINDS[0]


def _keys(blobs: Path, kind: str) -> str:
    """What server.toml says of this kind of store; Perkeep's zips have loose files beside them."""
    if kind == "blobpacked" and (blobs / "packed").exists() and not any(blobs.glob(_PACKS)):
        return _LOOSE_FILES
    return _KEYS[kind]


def client_url(listen: str) -> str:
    """Return the URL under which this machine's programs reach `listen`. Raises ConfigError."""
    host, _, port = listen.rpartition(":")
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError("set up", f"listen address {listen!r}", "want host:port, with a port")
    local = "127.0.0.1" if host in ("", "0.0.0.0", "[::]") else host  # noqa: S104 - compared
    return f"http://{local}:{port}"


def _key(
    environ: Mapping[str, str], client: clientfile.ClientFile, folder: Path
) -> tuple[Path, str, bool]:
    """Return keyring, key id, and whether the key is new: an existing one is taken over.

    The owner stays the same person: a second server on this machine signs with the same key.
    """
    from ...schema import keyring

    named = places.variable(environ, "PK_KEYID", "CAMLI_KEYID") or client.identity
    rings = [places.secret_ring_file(environ), folder / places.SECRET_RING]
    if client.ring and not places.variable(environ, "PK_SECRET_RING", "CAMLI_SECRET_RING"):
        rings.insert(0, places.expand(environ, client.ring))
    for ring in rings:
        if ring.exists():
            ids = [key.key_id for key in keyring.read_ring(ring.read_bytes())]
            if named:
                return ring.absolute(), find_key_id(str(ring), named.upper()), False
            if len(ids) == 1:
                return ring.absolute(), ids[0], False
            reason = f"set PK_KEYID to one of its keys: {', '.join(ids)}"
            raise ConfigError("choose a key in", ring, reason)
    ring = folder / places.SECRET_RING
    data = keyring.create_key()
    private.create(ring, data)
    return ring, keyring.read_ring(data)[0].key_id, True


def server_toml(
    *, listen: str, auth: str, key_id: str, ring: Path, store: Path, base: Path, kind: str
) -> str:
    """Return the text of a new server.toml. Paths below `base`, its folder, are relative."""

    def text(value: str | Path) -> str:
        if isinstance(value, Path) and value.is_relative_to(base):
            value = value.relative_to(base)
        return json.dumps(str(value), ensure_ascii=False)

    return _TEMPLATE.format(
        listen=text(listen),
        auth=text(auth),
        key_id=text(key_id),
        ring=text(ring),
        keys=_keys(store / "blobs", kind),
        blobs=text(store / "blobs"),
        index=text(store / "index.leveldb"),
    )


_TEMPLATE = """\
# The configuration of a peatkeep server. `pk config check` says whether it can be used;
# the keys are described in server/config/README.md. Relative paths start at this file's folder.

# Where to listen. 127.0.0.1 is this machine only; ":3179" is every address of it.
listen = {listen}

# Who may come in: this name and password. Your programs read them from client-config.json.
auth = {auth}

# Whom the server signs for. Keep a copy of the keyring at a safe place.
identity = {key_id}
identitySecretRing = {ring}

{keys}
blobPath = {blobs}

# The index over them, which can be made anew (-reindex).
levelDB = {index}

# Let those to whom you give a share link read what it shares.
shareHandler = true

# With a certificate (PEM files):
# https = true
# httpsCert = "tls.crt"
# httpsKey = "tls.key"

# Let `pk-put remove` and `pk sync -removesrc` delete blobs here:
# [prefixes."/bs-and-maybe-also-index/"]
# deletable = true

# When slow or silent peers are cut off, in seconds:
# [limits]
# header_wait_s = 15
# body_wait_s = 30
"""
