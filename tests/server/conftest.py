"""One usual server for each test module that asks for it: tests in it do not disturb each other."""

from collections.abc import Iterator

import pytest

from .running import RunningServer, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running
