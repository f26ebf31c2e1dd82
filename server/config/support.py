"""What this version can serve, and what it is safe to serve: asked before anything is opened."""

import ipaddress
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ...blobserver import registry as storage_registry
from ...errors import ConfigError
from ...sorted import registry as sorted_registry
from . import tls
from .record import LowConfig, Prefix

_HANDLERS: Final = frozenset(
    {"root", "search", "jsonsign", "ui", "share", "sync", "status", "help", "importer"}
)
_SORTED: Final = (
    *("storage", "metaIndex", "queue", "scaledImage"),
    *("inventory", "deleted", "accounting", "removed"),
)
"""Arguments that may describe a sorted store."""

_KEYS: Final = {
    "blobpacked": "packRelated",
    "diskpacked": "packBlobs",
    "googlecloudstorage": "googlecloudstorage",
    "googledrive": "googledrive",
    "s3": "s3 or b2",
    "kv": "kvIndexFile",
    "mysql": "mysql",
    "postgres": "postgres",
    "mongo": "mongo",
    "sqlite": "sqlite",
    "app": "publish or scancab",
}
"""Type of a store or handler -> the high-level key that asks for it."""


def check_supported(config: LowConfig) -> list[str]:
    """Return what stands against serving this configuration, one line each; [] if nothing.

    The lines name prefixes and keys, never values that may be secret.
    """
    return [*_missing(config), *_auth_problems(config), *_tls_problems(config)]


def warnings(config: LowConfig) -> list[str]:
    """Return what the operator should know about a configuration that can be served."""
    found = []
    if config.auth == "localhost" and not is_loopback(config.listen):
        found.append(
            f'listen = "{config.listen}" is open to the network; auth = "localhost" lets in only'
            " this machine's programs. Listen on 127.0.0.1, or use userpass"
        )
    has_password = config.auth not in ("none", "localhost")
    is_encrypted = config.https or config.base_url.startswith("https://")
    if has_password and not is_encrypted and not is_loopback(config.listen):
        found.append(
            f'listen = "{config.listen}" is open to the network, where others can read passwords'
            " and data along the way: set https = true, or baseURL to that of a proxy with https"
        )
    if has_password and config.path and _is_open(config.path):
        found.append("others on this machine can read this file, and the password in it: chmod 600")
    return found


def _is_open(path: Path) -> bool:
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    except FileNotFoundError:  # a record made in memory, or the file went meanwhile
        return False


def is_loopback(listen: str) -> bool:
    """Tell whether `host:port` can be reached from this machine only. No host means all."""
    host = listen.rpartition(":")[0].removeprefix("[").removesuffix("]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _missing(config: LowConfig) -> Iterator[str]:
    for path, prefix in sorted(config.prefixes.items()):
        place = f"{path} ({prefix.handler})"
        storage = prefix.handler.removeprefix("storage-")
        if storage == prefix.handler:
            if prefix.handler not in _HANDLERS:
                yield _lack(place, prefix.handler)
        elif storage != "index" and not _has_storage(storage):
            yield _lack(place, storage)
        elif extra := storage_registry.missing_extra(storage):
            yield f"{place}: {_KEYS.get(storage, storage)} {sorted_registry.needs(extra)}"
        for kind in _sorted_types(prefix):
            if not _has_sorted(kind):
                yield _lack(place, kind)
            elif extra := sorted_registry.missing_extra(kind):
                yield f"{place}: {_KEYS.get(kind, kind)} {sorted_registry.needs(extra)}"


def _lack(place: str, kind: str) -> str:
    key = _KEYS.get(kind, "it")
    return f"{place}: {key} needs {kind}, which this version does not have yet"


def _sorted_types(prefix: Prefix) -> Iterator[str]:
    """Yield the types of the sorted stores that a handler keeps."""
    for name in _SORTED:
        settings = prefix.args.get(name)
        if isinstance(settings, Mapping):
            yield str(settings.get("type"))


def _has_storage(kind: str) -> bool:
    name = storage_registry.ALIASES.get(kind, kind)
    return name in storage_registry.BUILTIN or _is_added(storage_registry.ENTRY_POINTS, name)


def _has_sorted(kind: str) -> bool:
    added = sorted_registry.ENTRY_POINTS
    return kind in sorted_registry.BUILTIN or _is_added(added, kind)


def _is_added(group: str, name: str) -> bool:
    from importlib.metadata import entry_points

    return bool(entry_points(group=group, name=name))


def _auth_problems(config: LowConfig) -> Iterator[str]:
    from ..auth import Tokens, modes_of
    from ..peers import LocalPeers

    if config.listen.startswith("tailscale"):
        yield "listen: tailscale is not supported: listen on the address of the tailnet instead"
    try:
        modes_of(config.auth, Tokens.random(), LocalPeers({}))
    except ConfigError as error:
        yield f"auth: {error.reason}"
    if config.auth == "none" and not is_loopback(config.listen):
        yield (
            f'auth = "none" with listen = "{config.listen}" would let everybody in:'
            " listen on 127.0.0.1, or use userpass"
        )


def _tls_problems(config: LowConfig) -> Iterator[str]:
    name = tls.public_name(config)
    if config.https and not config.https_cert and name:
        yield (
            f"https: this version gets no certificate for {name} from Let's Encrypt yet:"
            " set httpsCert and httpsKey, or let a proxy in front of it do TLS"
        )
