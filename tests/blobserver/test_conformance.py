"""The suite against every built-in storage."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peatkeep.blobserver.conformance import StorageSuite
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import BUILTIN
from peatkeep.blobserver.storage import Storage

EMPTY_STORES: dict[str, Callable[[Path], Storage]] = {
    "localdisk": LocalDisk,
    "memory": lambda _: Memory(),
}


@pytest.fixture(params=sorted(EMPTY_STORES))
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    with EMPTY_STORES[request.param](tmp_path) as store:
        yield store


class TestStorage(StorageSuite): ...


def test_every_builtin_backend_is_tested() -> None:
    assert EMPTY_STORES.keys() == BUILTIN.keys()
