"""Where a server is, how to reach it, and what proves who asks."""

import base64
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ...errors import ConfigError

DEFAULT_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """A server's URL, taken apart. `path` has no trailing slash; empty for the root."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them: the scheme's own port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return self.origin + self.path


def parse_url(url: str) -> Address:
    """Take a server URL apart. Raises ConfigError; the message never holds a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError("use server URL", _shown(url), "not a URL") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ConfigError("use server URL", _shown(url), "want http://host[:port][/path]")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("use server URL", _shown(url), "credentials belong in the auth key")
    if parts.query or parts.fragment:
        raise ConfigError("use server URL", _shown(url), "has a query or a fragment")
    port = port if port is not None else DEFAULT_PORTS[parts.scheme]
    return Address(parts.scheme, parts.hostname, port, parts.path.rstrip("/"))


def _shown(url: str) -> str:
    """The URL without what may be a password."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.rpartition("@")[2]


def authorization(auth: str) -> str:
    """The Authorization header for an auth string of a configuration; "" sends none.

    auth: `userpass:U:P[:options]`, `basic:U:P`, `devauth:P`, `token:T`, `none`, `localhost`,
    `tailscale…` (the last three prove themselves by where they come from).
    Raises ConfigError without repeating the string, which may hold a password.
    """
    kind, _, rest = auth.partition(":")
    if kind in ("", "none", "localhost", "tailscale"):
        return ""
    if kind == "token" and rest:
        return f"Token {rest}"
    if kind == "devauth" and rest:
        return _basic("", rest.partition(":")[0])
    if kind in ("userpass", "basic"):
        pieces = rest.split(":")
        if len(pieces) >= 2:
            return _basic(pieces[0], pieces[1])
    raise ConfigError("use auth", repr(kind), "want userpass:U:P, basic:U:P, token:T or none")


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Proxy(NamedTuple):
    """An HTTP proxy and the header that it wants, or ""."""

    host: str
    port: int
    authorization: str


def proxy_for(address: Address, settings: Mapping[str, str]) -> Proxy | None:
    """The proxy that these settings name for this server, or None.

    settings: an environment: `http_proxy`, `https_proxy`, `no_proxy`, in lower or upper case.
    Loopback addresses are never proxied. Raises ConfigError.
    """
    value = _setting(settings, f"{address.scheme}_proxy")
    if not value or _is_direct(address, _setting(settings, "no_proxy")):
        return None
    parts = urlsplit(value if "://" in value else f"http://{value}")
    if parts.scheme != "http" or not parts.hostname:
        raise ConfigError("use proxy", f"{address.scheme}_proxy", "want http://host:port")
    secret = ""
    if parts.username is not None:
        secret = _basic(unquote(parts.username), unquote(parts.password or ""))
    return Proxy(parts.hostname, parts.port or 80, secret)


def _setting(settings: Mapping[str, str], name: str) -> str:
    return settings.get(name) or settings.get(name.upper()) or ""


def _is_direct(address: Address, no_proxy: str) -> bool:
    host = address.host.lower()
    if host == "localhost" or host.endswith(".localhost") or _in_network(host, "127.0.0.0/8"):
        return True
    if host == "::1":
        return True
    for entry in no_proxy.lower().split(","):
        name, colon, port = entry.strip().rpartition(":")
        if not colon or not port.isdigit() or ":" in name:
            name, port = entry.strip(), ""
        if port and int(port) != address.port:
            continue
        bare = name.removeprefix("*").removeprefix(".")
        if name == "*" or (bare and (host == bare or host.endswith("." + bare))):
            return True
        if "/" in name and _in_network(host, name):
            return True
    return False


def _in_network(host: str, network: str) -> bool:
    if not host[-1:].isdigit() and ":" not in host:
        return False
    import ipaddress

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
