"""Azure's protocol against azurite."""

from collections.abc import Iterator

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.conformance import StorageSuite
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.objects import Azure
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import Forbidden, Unavailable
from tests.blobserver.objects.azurite import GROUP, Azurite

pytestmark = GROUP


def opened(args: dict[str, object]) -> Azure:
    store = open_storage("storage-azure", args, lambda _: Memory())
    assert isinstance(store, Azure)
    return store


class TestAzure(StorageSuite):
    @pytest.fixture
    def storage(self, azurite: Azurite) -> Iterator[Storage]:
        with opened(azurite.args()) as store:
            yield store


def test_a_container_of_more_than_one_page_is_listed_whole(azurite: Azurite) -> None:
    blobs = {Ref.of(data): data for data in (b"%d" % number for number in range(1100))}
    with opened(azurite.args(azurite.new_container())) as store:
        store.receive_many(blobs.items())
        assert [ref for ref, _ in store.enumerate()] == sorted(blobs)
        assert [entry.key for entry in store.bucket.entries("")] == sorted(blobs)


def test_a_container_that_is_not_there_is_unavailable(azurite: Azurite) -> None:
    with pytest.raises(Unavailable, match="azure://devstoreaccount1/nowhere/"):
        opened(azurite.args("nowhere"))


def test_a_wrong_key_is_forbidden(azurite: Azurite) -> None:
    with pytest.raises(Forbidden):
        opened(azurite.args() | {"azure_access_key": "d3Jvbmc="})
