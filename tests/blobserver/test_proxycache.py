"""What a cache holds, evicts and never loses."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.conformance import sample
from peatkeep.blobserver.faulty import LIES, Fault, Faulty
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.proxycache import ProxyCache
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import ConfigError, Corrupt, NotFound, TooLarge, Unavailable
from peatkeep.sorted.leveldb import LevelDBKeyValue


def blobs_of(count: int, size: int = 100) -> dict[Ref, bytes]:
    contents = [b"%d " % number + b"x" * (size - len(b"%d " % number)) for number in range(count)]
    return {Ref.of(data): data for data in contents}


def refs_in(store: Storage) -> set[Ref]:
    return {ref for ref, _ in store.enumerate()}


def size_of(store: Storage) -> int:
    return sum(size for _, size in store.enumerate())


class Counting(Memory):
    """Counts the blobs that it was asked for."""

    fetched = 0

    def fetch(self, ref: Ref) -> bytes:
        self.fetched += 1
        return super().fetch(ref)


BLOBS = blobs_of(20)
REFS = list(BLOBS)


@pytest.fixture
def origin() -> Counting:
    store = Counting()
    store.receive_many(BLOBS.items())
    return store


def test_the_second_read_comes_from_the_cache(origin: Counting) -> None:
    cached = ProxyCache(origin, Memory())
    for _ in range(3):
        assert cached.fetch(REFS[0]) == BLOBS[REFS[0]]
        assert cached.fetch_range(REFS[1], 2, 5) == BLOBS[REFS[1]][2:7]
        assert dict(cached.fetch_many(REFS[2:8])) == {ref: BLOBS[ref] for ref in REFS[2:8]}
    assert origin.fetched == 8


def test_an_empty_blob_is_cached_as_well(origin: Counting) -> None:
    empty = Ref.of(b"")
    origin.receive(empty, b"")
    cached = ProxyCache(origin, Memory())
    assert [cached.fetch(empty) for _ in range(3)] == [b""] * 3
    assert origin.fetched == 1


def test_what_is_written_is_cached_when_it_is_durable(origin: Counting) -> None:
    cache = Memory()
    cached = ProxyCache(origin, cache)
    cached.write_many([(Ref.of(b"new"), b"new")])
    assert refs_in(cache) == set()
    cached.sync()
    cached.receive(Ref.of(b"newer"), b"newer")
    assert refs_in(cache) == {Ref.of(b"new"), Ref.of(b"newer")}


@pytest.mark.parametrize("eviction", ["lru", "lfu"])
def test_the_cache_stays_under_its_cap(origin: Counting, eviction: str) -> None:
    cache = Memory()
    cached = ProxyCache(origin, cache, 1000, eviction)
    for ref in REFS + REFS[::2] + REFS:
        cached.fetch(ref)
        assert size_of(cache) == cached.cached_size <= 1000
    assert dict(cached.fetch_many(REFS)) == BLOBS
    assert size_of(cache) == cached.cached_size <= 1000


def test_lru_keeps_what_was_used_last(origin: Counting) -> None:
    cache = Memory()
    cached = ProxyCache(origin, cache, 1000, "lru")
    for ref in REFS[:10]:
        cached.fetch(ref)
    cached.fetch(REFS[0])
    cached.fetch(REFS[10])
    assert {REFS[0], REFS[10]} <= refs_in(cache)
    assert REFS[1] not in refs_in(cache)


def test_lfu_keeps_what_was_used_often(origin: Counting) -> None:
    cache = Memory()
    cached = ProxyCache(origin, cache, 1000, "lfu")
    for _ in range(5):
        cached.fetch(REFS[0])
    for ref in REFS[1:15]:
        cached.fetch(ref)
    assert REFS[0] in refs_in(cache)


def test_small_metadata_goes_last(origin: Counting) -> None:
    schema = b'{"camliVersion": 1, "camliType": "permanode", "random": "abc"}'
    origin.receive(Ref.of(schema), schema)
    cache = Memory()
    cached = ProxyCache(origin, cache, 1000)
    cached.fetch(Ref.of(schema))
    for ref in REFS * 2:
        cached.fetch(ref)
    assert Ref.of(schema) in refs_in(cache)


def test_pinned_blobs_stay(origin: Counting, tmp_path: Path) -> None:
    cache = Memory()
    cached = ProxyCache(origin, cache, 1000, "lru", LevelDBKeyValue(tmp_path / "rows"))
    cached.pin(REFS[:3])
    for ref in REFS * 2:
        cached.fetch(ref)
    assert set(REFS[:3]) <= refs_in(cache)
    cached.close()
    with ProxyCache(origin, cache, 1000, "lru", LevelDBKeyValue(tmp_path / "rows")) as again:
        for ref in REFS * 2:
            again.fetch(ref)
        assert set(REFS[:3]) <= refs_in(cache)
        with pytest.raises(TooLarge):
            again.pin(REFS)
        again.unpin(REFS)
        for ref in REFS[3:] * 2:
            again.fetch(ref)
        assert not set(REFS[:3]) & refs_in(cache)


def test_a_blob_over_the_cap_is_not_cached(origin: Counting) -> None:
    big = b"big" * 1000
    origin.receive(Ref.of(big), big)
    cache = Memory()
    cached = ProxyCache(origin, cache, 1000)
    assert cached.fetch(Ref.of(big)) == big
    assert cached.fetch_range(Ref.of(big), 3, 6) == b"bigbig"
    assert refs_in(cache) == set()


# -- the account, where Perkeep's goes wrong ----------------------------------------------------


def test_asking_does_not_count_as_caching(origin: Counting) -> None:
    cached = ProxyCache(origin, Memory(), 1000)
    assert len(list(cached.stat(REFS))) == 20
    assert len(list(cached.enumerate())) == 20
    assert cached.cached_size == 0


def test_a_cache_on_disk_is_known_after_opening_again(origin: Counting, tmp_path: Path) -> None:
    for _ in range(3):
        with LocalDisk(tmp_path) as disk, ProxyCache(origin, disk, 1000) as cached:
            assert cached.cached_size == size_of(disk)
            for ref in REFS:
                cached.fetch(ref)
            assert cached.cached_size == size_of(disk) <= 1000
    with LocalDisk(tmp_path) as disk, ProxyCache(origin, disk, 400) as smaller:
        smaller.fetch(next(ref for ref in REFS if ref not in refs_in(disk)))
        assert smaller.cached_size == size_of(disk) <= 400


def test_rows_remember_what_was_used_last(origin: Counting, tmp_path: Path) -> None:
    cache = Memory()
    with ProxyCache(origin, cache, 1000, "lru", LevelDBKeyValue(tmp_path / "rows")) as cached:
        for ref in [*REFS[:10], REFS[0]]:
            cached.fetch(ref)
    with ProxyCache(origin, cache, 1000, "lru", LevelDBKeyValue(tmp_path / "rows")) as cached:
        cached.fetch(REFS[10])
        assert REFS[0] in refs_in(cache)
        assert REFS[1] not in refs_in(cache)


def test_what_vanished_from_the_cache_is_not_counted_any_more(origin: Counting) -> None:
    cache = Memory()
    cached = ProxyCache(origin, cache)
    list(cached.fetch_many(REFS))
    cache.remove(REFS[:5])
    assert dict(cached.fetch_many(REFS)) == BLOBS
    assert cached.cached_size == size_of(cache) == 2000
    cache.remove(REFS[:5])
    cached.fetch(REFS[0])
    cached.remove(REFS[1:5])
    assert cached.cached_size == size_of(cache) == 1600


# -- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", ["unavailable", "readonly", "corrupt", "notfound", *LIES])
@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_a_cache_that_fails_costs_only_time(origin: Counting, effect: str, rate: float) -> None:
    cache = Faulty(Memory(), [Fault(effect, rate=rate)], seed=5)
    cached = ProxyCache(origin, cache, 1000)
    for ref in REFS * 3:
        assert cached.fetch(ref) == BLOBS[ref]
        assert cached.fetch_range(ref, 3, 4) == BLOBS[ref][3:7]
    assert dict(cached.fetch_many(REFS)) == BLOBS
    cached.receive(Ref.of(b"new"), b"new")
    assert origin.fetch(Ref.of(b"new")) == b"new"


def test_wrong_bytes_of_the_origin_are_neither_given_nor_cached(origin: Counting) -> None:
    cache = Memory()
    bad = Faulty(origin, [Fault("flip", rate=1.0)])
    cached = ProxyCache(bad, cache)
    with pytest.raises(Corrupt):
        cached.fetch(REFS[0])
    assert all(isinstance(data, Corrupt) for _, data in cached.fetch_many(REFS))
    assert refs_in(cache) == set()


def test_a_damaged_copy_in_the_cache_is_replaced(origin: Counting, tmp_path: Path) -> None:
    with LocalDisk(tmp_path) as disk, ProxyCache(origin, disk) as cached:
        cached.fetch(REFS[0])
        next(tmp_path.rglob(f"{REFS[0]}.dat")).write_bytes(b"y" * 100)
        assert cached.fetch(REFS[0]) == BLOBS[REFS[0]]
        assert disk.fetch(REFS[0]) == BLOBS[REFS[0]]


def test_the_last_copy_is_not_evicted(origin: Counting) -> None:
    cache = Memory()
    cached = ProxyCache(origin, cache, 1000)
    list(cached.fetch_many(REFS[:10]))
    origin.remove(REFS[:5])  # the provider lost them
    for ref in REFS[5:] * 2:
        cached.fetch(ref)
    assert set(REFS[:5]) <= refs_in(cache)
    assert {ref: cached.fetch(ref) for ref in REFS[:5]} == {ref: BLOBS[ref] for ref in REFS[:5]}
    assert cached.cached_size == size_of(cache) <= 1000
    # The origin is asked, so uploading again heals it.
    assert list(cached.stat(REFS[:5])) == []


@pytest.mark.parametrize("effect", ["unavailable", *(lie for lie in LIES if lie != "stale")])
def test_an_origin_that_lies_about_its_blobs_has_nothing_evicted(
    origin: Counting, effect: str
) -> None:
    """Every copy that goes is in the origin, whatever the origin says of others."""
    lying = Faulty(origin, [])
    cache = Memory()
    cached = ProxyCache(lying, cache, 1000)
    list(cached.fetch_many(REFS[:10]))
    lost = set(REFS[:4])
    origin.remove(lost)
    lying.faults = [Fault(effect, ["stat", "enumerate"], 0.7)]
    for ref in REFS[4:] * 3:
        cached.fetch(ref)
    assert lost <= refs_in(cache)


def test_a_blob_removed_while_it_is_read_does_not_come_back(origin: Counting) -> None:
    class Removing(Memory):
        """While it stores, somebody removes."""

        def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
            written = super().write_many(blobs)
            cached.remove([REFS[0]])
            return written

    cached = ProxyCache(origin, Removing())
    assert cached.fetch(REFS[0]) == BLOBS[REFS[0]]
    with pytest.raises(NotFound):
        cached.fetch(REFS[0])
    assert cached.cached_size == 0


def test_an_origin_that_is_away_is_not_called_empty(origin: Counting) -> None:
    class Away(Memory):
        def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
            raise Unavailable("stat", "origin")

        def fetch(self, ref: Ref) -> bytes:
            raise Unavailable("fetch", "origin")

    cache = Memory()
    cache.receive(REFS[0], BLOBS[REFS[0]])
    cached = ProxyCache(Away(), cache)
    assert cached.fetch(REFS[0]) == BLOBS[REFS[0]]
    with pytest.raises(Unavailable):
        cached.fetch(REFS[1])
    with pytest.raises(Unavailable):
        list(cached.stat(REFS))


# -- configuration ------------------------------------------------------------------------------


def test_a_configuration_names_origin_and_cache(tmp_path: Path) -> None:
    stores: dict[str, Storage] = {"/o/": Memory(), "/c/": Memory()}
    args: dict[str, object] = {"origin": "/o/", "cache": "/c/", "maxCacheBytes": 1000.0}
    args |= {"eviction": "lfu", "accounting": {"type": "leveldb", "file": str(tmp_path / "rows")}}
    with open_storage("storage-proxycache", args, stores.__getitem__) as cached:
        for ref, data in sample(5).items():
            cached.receive(ref, data)
    assert refs_in(stores["/o/"]) == refs_in(stores["/c/"]) == set(sample(5))


@pytest.mark.parametrize(
    "wrong", [{"maxCacheBytes": 0}, {"eviction": "fifo"}, {"accounting": {}}, {"size": 1}]
)
def test_a_configuration_that_does_not_fit_is_refused(wrong: dict[str, object]) -> None:
    args = {"origin": "/o/", "cache": "/c/", **wrong}
    with pytest.raises(ConfigError):
        open_storage("storage-proxycache", args, lambda _: Memory())
