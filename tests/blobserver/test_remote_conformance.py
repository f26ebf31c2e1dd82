"""A server behind the HTTP protocol keeps every promise of a storage."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from peatkeep.blobserver.conformance import StorageSuite
from peatkeep.blobserver.remote import Remote, Transport, discover
from peatkeep.blobserver.storage import Storage
from peatkeep.server.config import load
from tests.server.running import serving

from .small_server import small_server


class TestRemoteOnASmallServer(StorageSuite):
    @pytest.fixture(params=[False, True], ids=["perkeep", "multi-get"])
    def storage(self, request: pytest.FixtureRequest) -> Iterator[Storage]:
        with small_server(request.param) as server:
            server.allows_remove = True
            transport = Transport(server.url, retry_waits_s=())
            with Remote(transport, "/bs/", has_multi_get=request.param) as remote:
                yield remote


class TestRemoteOnOurServer(StorageSuite):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[Storage]:
        values = {
            "handlerConfig": True,
            "auth": "userpass:alice:secret",
            "listen": "127.0.0.1:0",
            "prefixes": {
                "/": {"handler": "root", "handlerArgs": {"blobRoot": "/bs/"}},
                "/bs/": {"handler": "storage-memory", "deletable": True},
            },
        }
        config = load.from_values(values, {"HOME": str(tmp_path), "USER": "u"})
        bound = socket.create_server(("127.0.0.1", 0))
        with serving(config, tmp_path, {"HOME": str(tmp_path), "USER": "u"}, bound) as server:
            transport = Transport(server.url, "userpass:alice:secret")
            found = discover(transport)
            with Remote(transport, found.blob_root, has_multi_get=found.has_multi_get) as remote:
                yield remote
