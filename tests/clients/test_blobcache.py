"""Blobs kept on disk: only small ones, only good ones, only so many."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.framing import Found
from peatkeep.blobserver.memory import Memory
from peatkeep.clients import blobcache
from peatkeep.clients.blobcache import BlobCache, CachedSource
from peatkeep.errors import NotFound

A = Ref.of(b"a")


def test_a_blob_is_kept(tmp_path: Path) -> None:
    BlobCache(tmp_path).put(A, b"a")
    assert BlobCache(tmp_path).get(A) == b"a"
    assert BlobCache(tmp_path).get(Ref.of(b"b")) is None


def test_a_damaged_blob_counts_as_absent_and_goes(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path)
    cache.put(A, b"a")
    (place,) = tmp_path.glob("*/*")
    place.write_bytes(b"b")
    assert cache.get(A) is None
    assert not place.exists()


def test_large_blobs_and_more_than_one_run_may_add_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobcache, "LARGEST_BYTES", 100)
    monkeypatch.setattr(blobcache, "WRITTEN_BYTES", 250)
    cache = BlobCache(tmp_path)
    for letter, size in (("a", 101), ("b", 100), ("c", 100), ("d", 100)):
        data = letter.encode() * size
        cache.put(Ref.of(data), data)
    assert len(list(tmp_path.glob("*/*"))) == 2


def test_the_blobs_unused_for_longest_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setattr(blobcache, "WRITTEN_BYTES", 10)
    monkeypatch.setattr(blobcache, "KEPT_BYTES", 30)
    for number in range(5):
        BlobCache(tmp_path).put(Ref.of(b"%d" % number * 9), b"%d" % number * 9)
        for place in tmp_path.glob(f"*/{Ref.of(b'%d' % number * 9)}"):
            os.utime(place, (number, number))
    assert BlobCache(tmp_path).get(Ref.of(b"0" * 9)) is None
    assert BlobCache(tmp_path).get(Ref.of(b"4" * 9)) is not None


def test_a_place_that_can_not_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = BlobCache(tmp_path / "file" / "blobs")
    cache.put(A, b"a")
    assert cache.get(A) is None


def test_only_what_is_not_kept_is_asked_for(tmp_path: Path) -> None:
    class Asked(Memory):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[Ref] = []

        def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, Found]]:
            wanted = list(refs)
            self.asked += wanted
            return super().fetch_many(wanted)

    store = Asked()
    blobs = [(Ref.of(b"%d" % number), b"%d" % number) for number in range(5)]
    store.receive_many(blobs)
    source = CachedSource(BlobCache(tmp_path), lambda: store)
    assert source.fetch(blobs[2][0]) == b"2"
    absent = Ref.of(b"absent")
    found = dict(source.fetch_many([*(ref for ref, _ in blobs), absent]))
    assert isinstance(found.pop(absent), NotFound)
    assert found == dict(blobs)
    assert blobs[2][0] not in store.asked
    assert dict(source.fetch_many(ref for ref, _ in blobs)) == dict(blobs)
    assert len(store.asked) == 5
