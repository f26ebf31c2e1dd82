"""What a web page in the owner's browser can make it do: nothing."""

import pytest
from starlette.requests import Request

from peatkeep.server.auth import is_foreign

from .running import RunningServer, running_server

CROSS = {"Origin": "http://evil.example", "Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "cors"}
SIGN = "json=%7B%7D"


def request(method: str = "GET", **headers: str) -> Request:
    sent = {"host": "localhost:3179", **{k.replace("_", "-"): v for k, v in headers.items()}}
    return Request(
        {
            "type": "http",
            "method": method,
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        }
    )


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),
        ({"origin": "http://localhost:3179"}, False),
        ({"origin": "http://localhost:80"}, True),
        ({"origin": "http://evil.example"}, True),
        ({"origin": "null"}, True),
        ({"sec_fetch_site": "same-origin", "origin": "null"}, False),
        ({"sec_fetch_site": "none"}, False),
        ({"sec_fetch_site": "cross-site"}, True),
        ({"sec_fetch_site": "same-site"}, True),
    ],
)
def test_a_request_that_another_site_caused_is_foreign(
    headers: dict[str, str], foreign: bool
) -> None:
    assert is_foreign(request("POST", **headers)) == foreign
    assert is_foreign(request("GET", **headers)) == foreign


def test_a_link_from_another_site_may_be_followed_but_no_form_sent() -> None:
    link = {
        "sec_fetch_site": "cross-site",
        "sec_fetch_mode": "navigate",
        "sec_fetch_dest": "document",
    }
    assert not is_foreign(request("GET", **link))
    assert is_foreign(request("POST", **link))
    framed = {**link, "sec_fetch_dest": "iframe"}
    assert is_foreign(request("GET", **framed))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/sighelper/camli/sig/sign"),
        ("POST", "/bs/camli/upload"),
        ("POST", "/bs/camli/remove"),
        ("POST", "/ui/?camli.mode=uploadhelper"),
        ("POST", "/sync/"),
        ("POST", "/status/restart"),
        ("GET", "/?camli.mode=config&cb=steal"),
        ("GET", "/my-search/camli/search/recent"),
        ("GET", "/debug/config"),
    ],
)
def test_a_page_of_another_site_can_do_nothing(
    server: RunningServer, method: str, path: str
) -> None:
    """The browser adds a remembered password; the answer must not depend on it."""
    reply = server.ask(method, path, b"" if method == "POST" else None, **CROSS)
    assert reply.status == 403
    old_browser = {"Origin": "http://evil.example"}
    assert server.ask(method, path, b"" if method == "POST" else None, **old_browser).status == 403


def test_a_page_of_another_site_does_nothing_without_any_password_either(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running_server(tmp_path_factory.mktemp("open"), auth="none") as server:
        reply = server.ask("POST", "/sighelper/camli/sig/sign", b"json=x", auth="", **CROSS)
        assert reply.status == 403


def test_the_sign_helper_signs_for_its_own_pages(server: RunningServer) -> None:
    origin = {"Origin": server.url, "Sec_Fetch_Site": "same-origin"}
    reply = server.form("/sighelper/camli/sig/sign", "json=x", **origin)
    assert (reply.status, reply.body) == (400, b"json parse error\n")


@pytest.mark.parametrize("path", ["/status/", "/sync/", "/ui/", "/help/", "/importer/", "/?x"])
def test_our_pages_allow_no_script_and_no_frame(server: RunningServer, path: str) -> None:
    policy = server.ask("GET", path).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


def test_a_redirect_stays_on_this_server(server: RunningServer) -> None:
    for path in ("//evil.example/x/", "/\\evil.example//x", "/bs/..//evil.example"):
        reply = server.ask("GET", path, auth="")
        if reply.status == 307:
            assert reply.headers["location"].startswith("/")
            assert not reply.headers["location"].startswith("//")


def test_a_redirect_carries_no_line_break(server: RunningServer) -> None:
    reply = server.ask("GET", "/a//b%0d%0aSet-Cookie:%20x", auth="")
    assert reply.status == 307
    assert "set-cookie" not in reply.headers
