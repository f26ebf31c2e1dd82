"""S3 against a real server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.conformance import StorageSuite
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.migrating import Migrating, Progress, Stopped
from peatkeep.blobserver.objects import S3
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import Forbidden, NotFound, Unavailable
from tests.blobserver.objects.radosgw import GROUP, SECRET_KEY, RadosGateway

pytestmark = GROUP

HELLO = Ref.of(b"hello")


def opened(args: dict[str, object]) -> S3:
    store = open_storage("storage-s3", args, lambda _: Memory())
    assert isinstance(store, S3)
    return store


class TestS3(StorageSuite):
    @pytest.fixture
    def storage(self, radosgw: RadosGateway) -> Iterator[Storage]:
        with opened(radosgw.args()) as store:
            yield store


def test_a_blob_is_the_object_with_prefix_and_ref(radosgw: RadosGateway) -> None:
    bucket = radosgw.new_bucket()
    with opened(radosgw.args(f"{bucket}/some/dir")) as store, opened(radosgw.args(bucket)) as whole:
        store.receive(HELLO, b"hello")
        assert store.generation() is not None
        assert [entry.key for entry in whole.bucket.entries("")] == [
            "some/dir/peatkeep/generation",
            f"some/dir/{HELLO}",
        ]
        assert list(whole.enumerate()) == []  # keys further down are not its own


def test_objects_of_others_are_neither_listed_nor_deleted(radosgw: RadosGateway) -> None:
    with opened(radosgw.args()) as store:
        for key in ("README.txt", "sha224-12", f"{HELLO}.dat", f"deeper/{HELLO}"):
            store.bucket.put(key, b"foreign")
        store.receive(HELLO, b"hello")
        assert [ref for ref, _ in store.enumerate()] == [HELLO]
        store.remove([HELLO])
        assert len(list(store.bucket.entries(""))) == 4


def test_a_listing_of_many_pages_is_whole_and_in_order(radosgw: RadosGateway) -> None:
    blobs = {Ref.of(data): data for data in (b"%d" % number for number in range(2100))}
    with opened(radosgw.args() | {"maxRequests": 32}) as store:
        store.receive_many(blobs.items())
        listed = [ref for ref, _ in store.enumerate()]
        assert listed == sorted(blobs)
        assert [ref for ref, _ in store.enumerate(listed[1000])] == listed[1001:]
        store.remove(blobs)
        assert list(store.enumerate()) == []


def test_a_blob_over_one_part_goes_up_in_parts(radosgw: RadosGateway) -> None:
    data = bytes(range(251)) * 40_000
    with opened(radosgw.args()) as store:
        store.receive(Ref.of(data), data)
        assert store.fetch(Ref.of(data)) == data
        assert store.bucket.head(Ref.of(data)).tag.endswith('-2"')


def test_a_bucket_that_is_gone_is_unavailable_and_lists_nothing_as_absent(
    radosgw: RadosGateway,
) -> None:
    bucket = radosgw.new_bucket()
    with opened(radosgw.args(bucket)) as store:
        store.receive(HELLO, b"hello")
        with pytest.raises(NotFound):
            store.fetch(Ref.of(b"missing"))
        radosgw.remove_bucket(bucket)
        for work in (
            lambda: store.fetch(HELLO),
            lambda: list(store.fetch_many([HELLO])),
            lambda: store.fetch_range(HELLO, 0, 1),
            lambda: list(store.stat([HELLO])),
            lambda: list(store.enumerate()),
            lambda: store.receive(HELLO, b"hello"),
            lambda: store.generation(),
        ):
            with pytest.raises(Unavailable, match=f"s3://{bucket}/"):
                work()


def test_a_bucket_that_is_not_there_is_told_when_the_store_is_opened(radosgw: RadosGateway) -> None:
    with pytest.raises(Unavailable, match="s3://no-such-bucket/"):
        opened(radosgw.args("no-such-bucket"))
    opened(radosgw.args("no-such-bucket") | {"skipStartupCheck": True}).close()


def test_a_wrong_key_is_forbidden_and_told_nowhere(radosgw: RadosGateway) -> None:
    secret = SECRET_KEY + "x"
    args = radosgw.args() | {"aws_secret_access_key": secret}
    with pytest.raises(Forbidden) as refused:
        opened(args)
    with opened(args | {"skipStartupCheck": True}) as store:
        for work in (
            lambda: store.fetch(HELLO),
            lambda: list(store.stat([HELLO])),
            lambda: list(store.enumerate()),
            lambda: store.receive(HELLO, b"hello"),
            lambda: store.remove([HELLO]),
        ):
            with pytest.raises(Forbidden, match="s3://") as refused:
                work()
            assert secret not in str(refused.value) + repr(store) + repr(vars(store.bucket))


def test_a_flipped_object_is_corrupt_by_name_and_healed_by_storing_it(
    radosgw: RadosGateway,
) -> None:
    with opened(radosgw.args()) as store:
        store.receive(HELLO, b"hello")
        assert store.fetch_range(HELLO, 0, 2) == store.fetch_range(HELLO, 0, 2) == b"he"
        store.bucket.put(HELLO, b"jello")
        with pytest.raises(Exception, match=f"{HELLO}: the bytes have another digest"):
            store.fetch_range(HELLO, 1, 2)
        assert store.read_range(HELLO, 1, 2) == b"el"
        store.receive(HELLO, b"hello")
        assert store.fetch(HELLO) == b"hello"


def test_blobs_move_into_a_bucket_and_an_interrupted_move_goes_on(
    radosgw: RadosGateway, tmp_path: Path
) -> None:
    blobs = {Ref.of(data): data for data in (bytes([n]) * 5_000_000 for n in range(8))}
    stores: dict[str, Storage] = {"/old/": Memory(), "/new/": opened(radosgw.args())}
    stores["/old/"].receive_many(blobs.items())
    args = {
        "from": "/old/", "to": "/new/",
        "removed": {"type": "leveldb", "file": str(tmp_path / "removed")},
    }  # fmt: skip

    def moving() -> Migrating:
        store = open_storage("storage-migrate", args, stores.__getitem__)
        assert isinstance(store, Migrating)
        return store

    def stop(progress: Progress) -> None:
        if progress.blobs:
            raise Stopped

    gone = min(blobs)
    with stores["/new/"] as bucket:
        with moving() as store, pytest.raises(Stopped):
            store.migrate(stop)
        copied = {ref for ref, _ in bucket.enumerate()}
        assert 0 < len(copied) < len(blobs)
        with moving() as store:
            store.remove([gone])
            assert store.migrate(lambda _: None).phase == "done"
        del blobs[gone]
        assert dict(bucket.fetch_many(ref for ref, _ in bucket.enumerate())) == blobs
