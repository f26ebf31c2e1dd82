"""The test for a local peer: does the other end of the connection belong to our own user?"""

import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from starlette.datastructures import Address
from starlette.requests import Request

from ..places import switch

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_PROXY_HEADERS = ("forwarded", "via", "x-forwarded-for", "x-real-ip")
_CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))


class End(NamedTuple):
    """One end of a TCP connection; an IPv4 address mapped into IPv6 is IPv4."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    port: int


class Socket(NamedTuple):
    """A line of the kernel's table."""

    local: End
    remote: End
    uid: int


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


def is_literal_host(host: str) -> bool:
    """Whether a Host header is `localhost` or an IP literal, with a port.

    Any other name is refused: it may belong to a web page that made it point at this machine.
    """
    name, colon, port = host.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        return False
    return name == "localhost" or address_of(name.removeprefix("[").removesuffix("]")) is not None


def _end_of_row(text: str) -> End:
    digits, _, port = text.partition(":")
    raw = bytes.fromhex(digits)
    # The kernel prints each group of four bytes as a number of this machine's byte order.
    swapped = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    address = ipaddress.ip_address(swapped)
    mapped = getattr(address, "ipv4_mapped", None)
    return End(mapped if mapped is not None else address, int(port, 16))


def kernel_sockets() -> Iterator[Socket]:
    """All TCP sockets of this machine (Linux)."""
    for table in _TABLES:
        try:
            rows = table.read_text("ascii").splitlines()[1:]
        except FileNotFoundError:
            continue
        for row in rows:
            fields = row.split()
            yield Socket(_end_of_row(fields[1]), _end_of_row(fields[2]), int(fields[7]))


def owner_of(peer: End, server: End, sockets: Iterator[Socket]) -> int | None:
    """The user id of the process at the other end, or None if it is not on this machine."""
    for socket in sockets:
        if socket.local == peer and socket.remote == server:
            return socket.uid
    return None


def in_container(environ: Mapping[str, str]) -> bool:
    """Whether root is nothing special here."""
    return switch(environ, "PK_IN_CONTAINER") or any(mark.exists() for mark in _CONTAINER_MARKS)


class LocalPeers:
    """Answers whether a request comes from a process of our own user, or of root.

    A server that runs as root trusts nobody so, unless in a container: every service of the
    machine might run as root too.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        sockets: Callable[[], Iterator[Socket]] = kernel_sockets,
        uid: int | None = None,
    ) -> None:
        """sockets, uid: the kernel's table and our own user, for tests."""
        self._sockets = sockets
        self._uid = os.getuid() if uid is None else uid
        self._is_usable = self._uid != 0 or in_container(environ)

    def is_own(self, request: Request) -> bool:
        """Whether the peer is our own. Asked once for each connection: the table is long.

        What a proxy passes on is not: the proxy is local, whoever stands behind it may not be.
        """
        if not self._is_usable or not is_literal_host(request.headers.get("host", "")):
            return False
        if any(name in request.headers for name in _PROXY_HEADERS):
            return False
        memory: dict[str, object] = request.scope.get("connection", {})
        if "is_own_peer" not in memory:
            memory["is_own_peer"] = self._is_own_end(request.client, request.scope.get("server"))
        return memory["is_own_peer"] is True

    def _is_own_end(self, client: Address | None, server: tuple[str, int] | None) -> bool:
        if client is None or server is None:
            return False
        theirs, ours = address_of(client.host), address_of(server[0])
        if theirs is None or ours is None:
            return False
        uid = owner_of(End(theirs, client.port), End(ours, server[1]), self._sockets())
        return uid in (self._uid, 0)
