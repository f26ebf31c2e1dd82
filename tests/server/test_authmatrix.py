"""Every route, with every method and every kind of credential, against a table read by hand."""

import base64
import tomllib
from pathlib import Path

import pytest

from peatkeep.server.routes import Mount, Route

from .running import RunningServer

TABLE = Path(__file__).with_name("authmatrix.toml")
OTHER_METHODS = ("DELETE", "OPTIONS", "PATCH")


def expected() -> dict[str, str]:
    sections = tomllib.loads(TABLE.read_text("utf-8"))
    return {key: value for section in sections.values() for key, value in section.items()}


def lines(mount: Mount, route: Route) -> list[str]:
    """The table's keys of a route: one for each method, `*` for any."""
    condition = f" {route.when.__name__}" if route.when else ""
    return [f"{mount.kind} {method} {route.path}{condition}" for method in route.methods or "*"]


def routes(server: RunningServer) -> dict[str, tuple[Mount, Route]]:
    return {
        line: (mount, route)
        for mount in server.service.app.table.mounts
        for route in mount.routes
        for line in lines(mount, route)
    }


def credentials(server: RunningServer) -> list[str]:
    """Authorization headers in the order of the table."""

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    tokens = server.service.world.auth.tokens
    return [
        "",
        basic("alice:wrong"),
        basic("alice:vivpass"),
        f"Token {tokens.limited}",
        basic("alice:secret"),
        f"Token {tokens.full}",
    ]


def ask(server: RunningServer, mount: Mount, route: Route, method: str, credential: str) -> int:
    """The status of a request that this route takes, from this machine's point of view or not."""
    path = mount.prefix + route.path.replace("*", "x")
    headers = {"Authorization": credential} if credential else {}
    if route.when is not None and route.when.__name__ == "asks_discovery":
        headers["Accept"] = "text/x-camli-configuration"
    if route.when is not None and route.when.__name__ == "uploads_by_form":
        path += "?camli.mode=uploadhelper"
    return server.ask(method, path, b"" if method != "GET" else None, auth="", **headers).status


def test_each_route_of_the_server_is_in_the_table_and_the_reverse(server: RunningServer) -> None:
    assert set(routes(server)) == set(expected())


@pytest.mark.parametrize("line", sorted(expected()))
def test_a_route_lets_in_whom_the_table_says(server: RunningServer, line: str) -> None:
    mount, route = routes(server)[line]
    method = line.split(" ")[1]
    methods = OTHER_METHODS if method == "*" and not route.methods else (method,)
    if mount.kind == "status" and route.path == "restart":
        methods = tuple(name for name in methods if name != "POST")
    for name in methods:
        for credential, letter in zip(credentials(server), expected()[line], strict=True):
            status = ask(server, mount, route, name, credential)
            is_share = mount.kind == "share" and name in ("GET", "HEAD")
            is_in = status != 401 or is_share
            assert is_in == (letter == "y"), f"{name} {line} {credential[:7]} got {status}"


def test_a_door_that_was_forgotten_is_found(server: RunningServer) -> None:
    """The planted bug: a route without its right."""
    line = "storage POST remove"
    mount, route = routes(server)[line]
    open_route = route._replace(right=type(route.right).NONE)
    wrong = [open_route if other == route else other for other in mount.routes]
    table = server.service.app.table
    at = table.mounts.index(mount)
    table.mounts[at] = mount._replace(routes=wrong)
    try:
        with pytest.raises(AssertionError):
            test_a_route_lets_in_whom_the_table_says(server, line)
    finally:
        table.mounts[at] = mount
