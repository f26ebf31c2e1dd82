"""Google Cloud Storage against a double of its XML interface."""

from collections.abc import Iterator

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.conformance import StorageSuite
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.objects import GoogleCloudStorage
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import ConfigError, Unavailable
from tests.blobserver.objects.google import BUCKET, google


def opened(url: str, bucket: str) -> GoogleCloudStorage:
    args = {"bucket": bucket, "auth": {"client_id": "none"}, "endpoint": url, "retries": 1}
    store = open_storage("storage-googlecloudstorage", args, lambda _: Memory())
    assert isinstance(store, GoogleCloudStorage)
    return store


class TestGoogle(StorageSuite):
    @pytest.fixture
    def storage(self) -> Iterator[Storage]:
        with google() as url, opened(url, f"{BUCKET}/some/dir/") as store:
            yield store


def test_a_blob_is_the_object_with_prefix_and_ref() -> None:
    ref = Ref.of(b"hello")
    with google() as url, opened(url, f"{BUCKET}/dir") as store, opened(url, BUCKET) as whole:
        store.receive(ref, b"hello")
        assert [entry.key for entry in whole.bucket.entries("")] == [f"dir/{ref}"]


def test_a_bucket_that_is_not_there_is_unavailable() -> None:
    with google() as url, pytest.raises(Unavailable, match="gs://elsewhere/"):
        opened(url, "elsewhere")


def test_an_account_needs_its_refresh_token() -> None:
    args = {"bucket": "b", "auth": {"client_id": "somebody", "client_secret": "s"}}
    with pytest.raises(ConfigError, match="refresh_token"):
        open_storage("googlecloudstorage", args, lambda _: Memory())
