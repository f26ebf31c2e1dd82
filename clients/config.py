"""The client configuration: which servers there are, and who signs (clients/README.md).

Everything takes the environment as a mapping, so that a program passes `os.environ` and a test
passes what it likes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from .. import places
from ..blobserver.remote.address import parse_url
from ..errors import ConfigError, Invalid

SERVER_KEYS: Final = frozenset({"server", "auth", "default", "trustedCerts"})
TOP_KEYS: Final = frozenset(
    {"servers", "identity", "identitySecretRing", "ignoredFiles", "server", "auth", "trustedCerts"}
)


class ServerEntry(NamedTuple):
    """A server, and what it takes to be let in. `auth` never goes into messages."""

    url: str
    auth: str = ""
    trusted_certs: tuple[str, ...] = ()
    alias: str = ""
    is_default: bool = False

    def __repr__(self) -> str:
        return f"ServerEntry({self.url!r}, alias={self.alias!r})"


class ClientConfig(NamedTuple):
    """What a configuration file says. `path` is the file, or None where none was read."""

    servers: tuple[ServerEntry, ...] = ()
    identity: str = ""
    secret_ring: Path | None = None
    ignored_files: tuple[str, ...] = ()
    path: Path | None = None

    def with_secret_ring(self, ring: Path) -> "ClientConfig":
        return self._replace(secret_ring=ring)


def read_config(environ: Mapping[str, str]) -> ClientConfig:
    """Read the configuration that these variables lead to. Raises ConfigError."""
    if places.switch(environ, "PK_DISABLE_CLIENT_CONFIG_FILE", "CAMLI_DISABLE_CLIENT_CONFIG_FILE"):
        return _with_variables(ClientConfig(), environ)
    path = places.client_config_file(environ)
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        reason = "it does not exist; `pk-put init` makes one"
        raise ConfigError("read", f"client configuration {path}", reason) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("read", f"client configuration {path}", str(error)) from None
    return _with_variables(parse_config(text, path, environ), environ)


def parse_config(text: str, path: Path, environ: Mapping[str, str]) -> ClientConfig:
    """The record of a configuration file's text. Raises ConfigError naming file and key."""
    try:
        members = json.loads(text)
    except ValueError as error:
        raise ConfigError("read", path, f"not JSON: {error}") from None
    if not isinstance(members, dict):
        raise ConfigError("read", path, "not a JSON object")
    reader = _Reader(path, environ)
    reader.check_keys(members, TOP_KEYS)
    ring = reader.text(members, "identitySecretRing")
    return ClientConfig(
        servers=tuple(_servers(members, reader)),
        identity=reader.text(members, "identity"),
        secret_ring=places.expand(environ, ring) if ring else None,
        ignored_files=reader.texts(members, "ignoredFiles"),
        path=path,
    )


def _servers(members: Mapping[str, object], reader: "_Reader") -> list[ServerEntry]:
    if "server" in members:  # the older form: one server, at the top
        if "servers" in members:
            raise reader.error("servers", "stands beside `server`: one of them has to go")
        return [_entry(reader, members, "", is_default=True)]
    servers = members.get("servers", {})
    if not isinstance(servers, dict):
        raise reader.error("servers", "want an object: alias -> server")
    entries = []
    for alias, entry in servers.items():
        if not isinstance(entry, dict):
            raise reader.error(f"servers.{alias}", "want an object")
        if "." in alias or ":" in alias:
            raise reader.error(f"servers.{alias}", "an alias can't look like a host: no `.`, `:`")
        reader.check_keys(entry, SERVER_KEYS, f"servers.{alias}.")
        is_default = reader.truth(entry, "default")
        entries.append(_entry(reader, entry, alias, is_default))
    if sum(entry.is_default for entry in entries) > 1:
        raise reader.error("servers", "more than one has `default`")
    return entries


def _entry(
    reader: "_Reader", members: Mapping[str, object], alias: str, is_default: bool
) -> ServerEntry:
    where = f"servers.{alias}.server" if alias else "server"
    text = reader.text(members, "server")
    if not text:
        raise reader.error(where, "is missing")
    return ServerEntry(
        url=server_url(text, f"{reader.path}: {where}"),
        auth=reader.text(members, "auth"),
        trusted_certs=reader.texts(members, "trustedCerts"),
        alias=alias,
        is_default=is_default,
    )


def server_url(text: str, where: str = "server") -> str:
    """Complete a server's name to a URL: https unless it says, no slash at the end."""
    if not any(mark in text for mark in (".", ":", "/")):
        raise ConfigError("use", where, f"{text!r} is neither a URL nor host:port")
    url = text if "://" in text else f"https://{text}"
    return str(parse_url(url))


class _Reader:
    """Takes typed values out of a configuration; `_env` expressions are replaced."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path
        self._environ = environ

    def error(self, key: str, reason: str) -> ConfigError:
        return ConfigError("read", f"{self.path}: {key}", reason)

    def check_keys(
        self, members: Mapping[str, object], known: frozenset[str], prefix: str = ""
    ) -> None:
        for key in members:
            if key not in known:
                raise self.error(prefix + key, f"unknown key {key!r}")

    def text(self, members: Mapping[str, object], key: str) -> str:
        value = self._value(members, key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.error(key, "want a string")
        return value

    def truth(self, members: Mapping[str, object], key: str) -> bool:
        value = self._value(members, key)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self.error(key, "want true or false")
        return value

    def texts(self, members: Mapping[str, object], key: str) -> tuple[str, ...]:
        value = self._value(members, key)
        if value is None:
            return ()
        if isinstance(value, str):
            return tuple(part for part in value.split(",") if part)
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise self.error(key, "want a list of strings")
        return tuple(value)

    def _value(self, members: Mapping[str, object], key: str) -> object:
        value = members.get(key)
        if not (isinstance(value, list) and value and value[0] == "_env"):
            return value
        if len(value) not in (2, 3) or not isinstance(value[1], str):
            raise self.error(key, 'want ["_env", "text with ${NAME}", default]')
        return self._expand(key, value[1], value[2:])

    def _expand(self, key: str, text: str, default: Sequence[object]) -> object:
        pieces = text.split("${")
        expanded = pieces[0]
        for piece in pieces[1:]:
            name, brace, rest = piece.partition("}")
            if not brace:
                raise self.error(key, "`${` without `}`")
            value = self._environ.get(name, "")
            if not value:
                if default:
                    return default[0]
                raise self.error(key, f"the variable {name} is not set")
            expanded += value + rest
        if default and isinstance(default[0], bool):
            return expanded in ("1", "t", "T", "true", "TRUE", "True")
        return expanded


def _with_variables(config: ClientConfig, environ: Mapping[str, str]) -> ClientConfig:
    """The configuration with what the environment sets in its place."""
    ring = places.variable(environ, "PK_SECRET_RING", "CAMLI_SECRET_RING")
    ignored = places.variable(environ, "PK_IGNORED_FILES", "CAMLI_IGNORED_FILES")
    return ClientConfig(
        servers=config.servers,
        identity=places.variable(environ, "PK_KEYID", "CAMLI_KEYID") or config.identity,
        secret_ring=Path(ring) if ring else config.secret_ring or places.secret_ring_file(environ),
        ignored_files=tuple(ignored.split(",")) if ignored else config.ignored_files,
        path=config.path,
    )


def choose_server(
    config: ClientConfig, environ: Mapping[str, str], wanted: str = ""
) -> ServerEntry:
    """The server to talk to, with its credentials.

    The first of these decides: the variable PK_SERVER (or CAMLI_SERVER); `wanted`, a URL,
    host:port or alias from the command line; the alias in PK_DEFAULT_SERVER (or
    CAMLI_DEFAULT_SERVER); the entry marked as default. Raises ConfigError.
    """
    named = places.variable(environ, "PK_SERVER", "CAMLI_SERVER") or wanted
    named = named or places.variable(environ, "PK_DEFAULT_SERVER", "CAMLI_DEFAULT_SERVER")
    if not named:
        chosen = next((entry for entry in config.servers if entry.is_default), None)
        if chosen is None:
            where = config.path or "the environment"
            raise ConfigError("choose server", f"in {where}", "none is marked as `default`")
        return _overridden(chosen, config, environ)
    if not any(mark in named for mark in (".", ":", "/")):
        chosen = next((entry for entry in config.servers if entry.alias == named), None)
        if chosen is None:
            raise ConfigError("choose server", repr(named), f"no such alias in {config.path}")
        return _overridden(chosen, config, environ)
    url = server_url(named)
    known = _entry_for(config.servers, url) or ServerEntry(url)
    chosen = ServerEntry(url, known.auth, known.trusted_certs, known.alias)
    return _overridden(chosen, config, environ)


def _entry_for(servers: Sequence[ServerEntry], url: str) -> ServerEntry | None:
    """The entry whose URL is the longest whole beginning of this one.

    Whole means: same host and port, and a path that ends where one of its parts ends.
    Credentials for http://host do not go to http://host.example.
    """
    address = parse_url(url)
    fitting = []
    for entry in servers:
        other = parse_url(entry.url)
        is_above = f"{address.path}/".startswith(f"{other.path}/")
        if other.origin == address.origin and is_above:
            fitting.append(entry)
    return max(fitting, key=lambda entry: len(entry.url), default=None)


def _overridden(
    chosen: ServerEntry, config: ClientConfig, environ: Mapping[str, str]
) -> ServerEntry:
    certs = places.variable(environ, "PK_TRUSTED_CERT", "CAMLI_TRUSTED_CERT")
    auth = environ.get("PK_AUTH") or ""
    if not auth and config.path is None:
        auth = environ.get("CAMLI_AUTH") or ""
    return ServerEntry(
        url=chosen.url,
        auth=auth or chosen.auth,
        trusted_certs=tuple(certs.split(",")) if certs else chosen.trusted_certs,
        alias=chosen.alias,
        is_default=chosen.is_default,
    )


def write_config(path: Path, members: Mapping[str, object]) -> None:
    """Write a new client configuration, for its owner alone. Raises Invalid if there is one."""
    import os

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        reason = "it exists already and was not touched"
        raise Invalid("write", f"client configuration {path}", reason) from None
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(members, indent=2) + "\n")
