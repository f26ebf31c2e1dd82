"""Packs in a bucket: few requests for many small blobs, and nothing on disk that is needed."""

import random
from collections.abc import Iterator

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.blobpacked import BlobPacked
from peatkeep.blobserver.conformance import StorageSuite
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.objects import S3
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.schema.directory import static_set_blobs
from peatkeep.schema.filewriter import write_file
from peatkeep.schema.text import encode
from peatkeep.sorted.memory import MemoryKeyValue
from tests.blobserver.objects.radosgw import GROUP, RadosGateway

pytestmark = GROUP


class Packed(BlobPacked):
    """Loose blobs and packs below one prefix of a bucket, rows in memory."""

    def __init__(self, args: dict[str, object]) -> None:
        self.parts: list[S3] = []
        for part in ("loose", "packed"):
            of_part = args | {"bucket": f"{args['bucket']}/{part}"}
            store = open_storage("s3", of_part, lambda _: Memory())
            assert isinstance(store, S3)
            self.parts.append(store)
        super().__init__(*self.parts, MemoryKeyValue(), in_background=False)

    def close(self) -> None:
        super().close()
        for part in self.parts:
            part.close()

    @property
    def counts(self) -> list[int]:
        """Objects: loose, packed."""
        return [len(list(part.enumerate())) for part in self.parts]


class TestPackedInABucket(StorageSuite):
    @pytest.fixture
    def storage(self, radosgw: RadosGateway) -> Iterator[Storage]:
        with Packed(radosgw.args()) as store:
            yield store


def test_a_large_file_is_one_object_and_a_new_machine_reads_it(radosgw: RadosGateway) -> None:
    args, content = radosgw.args(), random.Random(1).randbytes(3_000_000)
    blobs: list[tuple[Ref, bytes]] = []
    written = write_file(lambda *blob: blobs.append(blob), [content], {"fileName": "big"})
    assert len(blobs) > 10
    with Packed(args) as store:
        store.receive_many(blobs)
        store.pack(written.ref)
        assert store.counts == [0, 1]
    with Packed(args) as again:  # no rows are left: they come from the pack
        assert dict(again.fetch_many(ref for ref, _ in blobs)) == dict(blobs)
        assert b"".join(again.open_whole(Ref.of(content))) == content
        assert len(list(again.enumerate())) == len(blobs)


def test_the_small_files_of_a_folder_are_one_object(radosgw: RadosGateway) -> None:
    args, chooser = radosgw.args(), random.Random(2)
    blobs: list[tuple[Ref, bytes]] = []
    files = []
    for number in range(200):
        content = chooser.randbytes(5000)
        name = {"fileName": f"{number}.jpg"}
        files.append(write_file(lambda *blob: blobs.append(blob), [content], name).ref)
    entries = static_set_blobs(files)
    folder = encode({"camliType": "directory", "fileName": "f", "entries": entries[-1][0]})
    blobs += [*entries, (Ref.of(folder), folder)]
    with Packed(args) as store:
        store.receive_many(blobs)
        assert store.counts == [402, 0]
        assert store.bundle_loose() == 200
        assert store.counts[1] == 1
        assert store.counts[0] <= 2
    with Packed(args) as again:
        assert dict(again.fetch_many(ref for ref, _ in blobs)) == dict(blobs)
        again.remove(files[:1])
    with Packed(args) as once_more:
        assert [ref for ref, _ in once_more.stat(files[:2])][-1:] == files[1:2]
