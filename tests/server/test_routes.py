import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from peatkeep.server.auth import Right
from peatkeep.server.routes import Mount, Route, Table, cleaned, route_of


async def handler(_: Request) -> Response:
    return Response()


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("/", "/"),
        ("//", "/"),
        ("//bs//camli/x", "/bs/camli/x"),
        ("/bs/../ui/", "/ui/"),
        ("/a/./b", "/a/b"),
        ("/a/.", "/a"),
        ("/a/..", "/"),
        ("/../../a", "/a"),
        ("/a/b/..", "/a"),
        ("/.hidden", "/.hidden"),
        ("/a/...", "/a/..."),
    ],
)
def test_a_path_is_cleaned(path: str, clean: str) -> None:
    assert cleaned(path) == clean


@given(st.text("/.ab", max_size=20))
def test_a_cleaned_path_is_clean(text: str) -> None:
    path = cleaned("/" + text)
    assert cleaned(path) == path
    assert path.startswith("/")
    assert "//" not in path
    assert ".." not in path.split("/")


def mount(prefix: str, *routes: Route) -> Mount:
    return Mount(prefix, "test", routes)


def test_the_longest_prefix_wins() -> None:
    table = Table([mount("/"), mount("/bs/camli/"), mount("/bs-and-index/camli/"), mount("/page")])
    found = {path: table.mount_of(path) for path in ("/bs/camli/x", "/bs/x", "/page", "/page/x")}
    prefixes = {path: place.prefix for path, place in found.items() if place}
    assert prefixes == {"/bs/camli/x": "/bs/camli/", "/bs/x": "/", "/page": "/page", "/page/x": "/"}


def test_a_prefix_without_its_slash_is_known() -> None:
    table = Table([mount("/"), mount("/ui/"), mount("/page")])
    assert table.lacks_only_the_slash("/ui")
    assert not table.lacks_only_the_slash("/ui/")
    assert not table.lacks_only_the_slash("/page")
    assert not table.lacks_only_the_slash("/nope")


def test_the_first_route_that_fits_is_taken() -> None:
    routes = (
        Route(("GET",), "a", Right.GET, handler),
        Route(("GET",), "a/*", Right.STAT, handler),
        Route((), "*", Right.ALL, handler),
    )

    def right_of(method: str, path: str) -> Right:
        request = Request({"type": "http", "method": method, "path": path, "headers": []})
        route = route_of(mount("/x/", *routes), request, path)
        assert route is not None
        return route.right

    assert right_of("GET", "/x/a") == Right.GET
    assert right_of("GET", "/x/a/") == Right.STAT
    assert right_of("GET", "/x/a/b/c") == Right.STAT
    assert right_of("POST", "/x/a") == Right.ALL
    assert right_of("GET", "/x/ab") == Right.ALL
