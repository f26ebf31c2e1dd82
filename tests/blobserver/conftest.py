"""A server, and a store on it at the end of a line that tests cut and hold up."""

from collections.abc import Iterator

import pytest

from peatkeep.blobserver.remote import Remote
from tests.proxy import Line as Cable
from tests.proxy import line_to
from tests.server.running import RunningServer, running_server

from .remotes import remote_to


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def line(server: RunningServer) -> Iterator[Cable]:
    with line_to(server.url) as line:
        yield line


@pytest.fixture
def remote(server: RunningServer, line: Cable) -> Iterator[Remote]:
    with remote_to(line.url, server.auth) as remote:
        yield remote
