"""Another server as a store of a configuration."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import ConfigError, Forbidden, Unavailable
from peatkeep.server.config import load, support
from peatkeep.server.topology import Topology

from .small_server import small_server

HELLO = Ref.of(b"hello")


def opened(**args: object) -> Storage:
    return open_storage("storage-remote", args, lambda _: Memory())


@pytest.mark.parametrize(
    "args",
    [{}, {"url": "http://h"}, {"url": 1, "auth": "none"}, {"url": "h", "auth": "none"},
     {"url": "http://h", "auth": "magic:x"}, {"url": "http://h", "auth": "none", "more": 1}],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(args: Mapping[str, object]) -> None:
    with pytest.raises(ConfigError):
        opened(**args)


@pytest.mark.parametrize("multi_get", [False, True])
def test_the_server_says_where_its_blobs_are(multi_get: bool) -> None:
    with small_server(multi_get) as server:
        server.put(b"hello")
        with opened(url=server.url, auth="userpass:a:b") as store:
            assert server.requests[1].startswith("GET /bs/camli/enumerate-blobs")
            assert dict(store.fetch_many([HELLO])) == {HELLO: b"hello"}
            assert store.generation() is None
        assert server.authorizations[0] == "Basic YTpi"


def test_a_path_names_the_blobs_themselves() -> None:
    with small_server() as server, opened(url=f"{server.url}/my/bs/", auth="none") as store:
        assert server.requests[0].startswith("GET /my/bs/camli/enumerate-blobs")
        assert list(store.enumerate()) == []


def test_a_server_that_is_away_is_found_out_at_once() -> None:
    with small_server() as server:
        url = server.url
    with pytest.raises(Unavailable):
        opened(url=url, auth="none")


def test_credentials_are_checked_at_once_and_not_repeated_in_the_error() -> None:
    with small_server() as server:
        server.password = "Basic other"
        with pytest.raises(Forbidden) as failure:
            opened(url=server.url, auth="userpass:a:secretive")
        assert "secretive" not in str(failure.value)


def test_without_the_check_nothing_is_asked_before_it_is_needed() -> None:
    with small_server() as server:
        server.put(b"hello")
        with opened(url=server.url, auth="none", skipStartupCheck=True) as store:
            assert server.requests == []
            assert store.fetch(HELLO) == b"hello"


def test_a_configuration_mounts_another_server(tmp_path: Path) -> None:
    with small_server() as server:
        server.put(b"hello")
        args = {"url": server.url, "auth": "none"}
        file = tmp_path / "server-config.json"
        prefixes = {"/far/": {"handler": "storage-remote", "handlerArgs": args}}
        values = {"handlerConfig": True, "auth": "none", "listen": "127.0.0.1:0"}
        file.write_text(json.dumps(values | {"prefixes": prefixes}))
        config = load.load(str(file), {"HOME": str(tmp_path), "USER": "u"})
        assert support.check_supported(config) == []
        with Topology(config) as topology:
            assert topology.storage("/far/").fetch(HELLO) == b"hello"
