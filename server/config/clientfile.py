"""The client configuration as the server's first start sees it: whom it knows, and one more entry.

Only what a first start needs; reading it as a client does is the clients' business.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from ...errors import ConfigError

IGNORED_FILES: Final = (".DS_Store", "*~")
"""What a new client configuration leaves out of backups."""


class ClientFile(NamedTuple):
    """A client configuration as it stands in its file; empty where there is none."""

    path: Path
    values: Mapping[str, object]

    @property
    def identity(self) -> str:
        value = self.values.get("identity")
        return value if isinstance(value, str) else ""

    @property
    def ring(self) -> str:
        value = self.values.get("identitySecretRing")
        return value if isinstance(value, str) else ""

    def servers(self) -> dict[str, dict[str, object]]:
        """Return the entries by alias; the older form's single one has the alias ""."""
        if "server" in self.values:
            return {"": dict(self.values)}
        found = self.values.get("servers")
        if not isinstance(found, dict):
            return {}
        return {alias: entry for alias, entry in found.items() if isinstance(entry, dict)}


class Entry(NamedTuple):
    """The server to add, with the key that its clients sign with."""

    url: str
    auth: str
    key_id: str
    ring: str


def read(path: Path) -> ClientFile:
    """Read the file; a missing one counts as empty. Raises ConfigError for what is no object."""
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return ClientFile(path, {})
    except (OSError, ValueError) as error:
        raise ConfigError("read", f"client configuration {path}", str(error)) from None
    if not isinstance(values, dict):
        raise ConfigError("read", f"client configuration {path}", "it is no JSON object")
    return ClientFile(path, values)


def credentials(client: ClientFile, url: str) -> tuple[str, str] | None:
    """Return name and password that clients already send to `url`, if they do.

    A server set up anew at an address that its clients know takes the password they have.
    """
    for entry in client.servers().values():
        auth = str(entry.get("auth"))
        kind, _, login = auth.partition(":")
        user, colon, password = login.partition(":")
        if _same_server(entry, url) and kind == "userpass" and colon and ":" not in password:
            return user, password
    return None


def add_server(client: ClientFile, new: Entry) -> tuple[dict[str, object], str, bool]:
    """Return the configuration with this server in it, its alias, and whether it is the default.

    What is there stays: another default remains so, another identity too. Raises ConfigError for
    the older form of the file, which has room for one server only.
    """
    servers = client.servers()
    for alias, known in servers.items():
        if _same_server(known, new.url):
            if known.get("auth") != new.auth:
                reason = f"it knows {new.url} with other credentials: remove those, or set listen"
                raise ConfigError("add this server to", client.path, reason)
            return dict(client.values), alias, bool(known.get("default", not alias))
    if "" in servers:
        raise ConfigError(
            "add this server to",
            client.path,
            'it has the old form with a single server: move "server" and "auth" into "servers"',
        )
    alias = _free_alias(servers, new.url)
    is_default = not any(entry.get("default") for entry in servers.values())
    entry: dict[str, object] = {"server": new.url, "auth": new.auth}
    if is_default:
        entry["default"] = True
    values = {**client.values, "servers": {**servers, alias: entry}}
    if "identity" not in client.values:
        values |= {"identity": new.key_id, "identitySecretRing": new.ring}
    values.setdefault("ignoredFiles", list(IGNORED_FILES))
    return values, alias, is_default


def _same_server(entry: Mapping[str, object], url: str) -> bool:
    known = str(entry.get("server")).rstrip("/")
    return url in (known, known.replace("//localhost:", "//127.0.0.1:"))


def _free_alias(servers: Mapping[str, object], url: str) -> str:
    """Return a name for the server: `peatkeep`, else with its port, else with a number."""
    port = url.rpartition(":")[2]
    candidates = ["peatkeep", f"peatkeep-{port}"]
    candidates += [f"peatkeep-{port}-{number}" for number in range(2, len(servers) + 3)]
    return next(name for name in candidates if name not in servers)
