import pytest

from .running import RunningServer

PAGES = ["/debug/config", "/debug/vars", "/debug/pprof/", "/debug/pprof/cmdline"]
PAGES += ["/debug/goroutines", "/debug/logs/perkeepd"]


@pytest.mark.parametrize("path", PAGES)
def test_the_debug_pages_take_every_right(server: RunningServer, path: str) -> None:
    assert server.ask("GET", path, auth="").status == 401
    assert server.ask("GET", path, auth="alice:vivpass").status == 401
    assert server.ask("GET", path).status == 200


@pytest.mark.parametrize("path", [*PAGES, "/status/", "/status/status.json", "/sync/", "/help/"])
def test_no_page_for_the_operator_holds_a_secret(server: RunningServer, path: str) -> None:
    tokens = server.service.world.auth.tokens
    body = server.ask("GET", path).body.decode()
    for secret in ("alice:secret", "vivpass", tokens.full, tokens.limited, "BEGIN PGP PRIVATE"):
        assert secret not in body


def test_the_log_is_shown(server: RunningServer) -> None:
    path = next((server.data / "blobs").rglob("sha224-*.dat"))
    data = path.read_bytes()
    path.write_bytes(b"damaged")
    try:
        server.ask("GET", f"/bs/camli/{path.stem}")
    finally:
        path.write_bytes(data)
    assert path.stem in server.ask("GET", "/debug/logs/perkeepd").body.decode()
