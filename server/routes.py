"""Routes as data: which method and path needs which right and goes to which handler.

A mount is one handler of the configuration at its place; the routes below it are tried in order,
so the last one is its answer to all else. Tests walk these tables (tests/server/test_authmatrix).
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from .answers import HttpError
from .auth import Right

Handler = Callable[[Request], Awaitable[Response]]

GET = ("GET",)
READ = ("GET", "HEAD")
POST = ("POST",)
PUT = ("PUT",)
ANY: tuple[str, ...] = ()


class Route(NamedTuple):
    """One line of a table.

    methods: empty means any. path: below the mount's prefix; a final `*` stands for anything,
    also nothing. right: what the client must hold; Right.NONE is open to everybody.
    when: a further condition on the request, named in `name`.
    foreign: what pages of other sites are told, where the protocol fixes it.
    """

    methods: tuple[str, ...]
    path: str
    right: Right
    handler: Handler
    when: Callable[[Request], bool] | None = None
    foreign: HttpError | None = None

    def matches(self, method: str, path: str, request: Request) -> bool:
        if self.methods and method not in self.methods:
            return False
        pattern = self.path
        if pattern.endswith("*"):
            if not path.startswith(pattern[:-1]):
                return False
        elif path != pattern:
            return False
        return self.when is None or self.when(request)


class Mount(NamedTuple):
    """A handler at its place.

    prefix: the path that it serves, ending in `/` unless it is a single page. kind: its type, for
    messages and tables. internal: answers nobody from outside. stealth: tells those without the
    right nothing at all. headers: stand on every answer below the prefix.
    """

    prefix: str
    kind: str
    routes: Sequence[Route]
    internal: bool = False
    stealth: bool = False
    headers: Mapping[str, str] = MappingProxyType({})


class Table:
    """All mounts; the longest prefix wins."""

    def __init__(self, mounts: Iterable[Mount]) -> None:
        self.mounts = sorted(mounts, key=lambda mount: len(mount.prefix), reverse=True)
        self._places = {mount.prefix for mount in self.mounts}

    def mount_of(self, path: str) -> Mount | None:
        for mount in self.mounts:
            prefix = mount.prefix
            if path.startswith(prefix) if prefix.endswith("/") else path == prefix:
                return mount
        return None

    def lacks_only_the_slash(self, path: str) -> bool:
        """Whether the path is a mount's prefix without its final slash."""
        return path + "/" in self._places and path not in self._places


def route_of(mount: Mount, request: Request, path: str) -> Route | None:
    """The first route of the mount that takes this request."""
    below = path[len(mount.prefix) :]
    method = request.method
    return next((route for route in mount.routes if route.matches(method, below, request)), None)


def cleaned(path: str) -> str:
    """The path without `//`, `.` and `..`, as the reference redirects to it."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    return "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")
