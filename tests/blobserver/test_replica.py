"""The same blobs in several stores, some of which fail."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.conformance import sample
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.replica import Replica
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import ConfigError, Corrupt, NotFound, StoreError, Unavailable, Unsupported

BLOBS = sample(5)
REF, DATA = next(iter(BLOBS.items()))


class Down(Memory):
    """Fails in everything while `error` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.error: StoreError | None = Unavailable("reach", "backend")

    def fetch(self, ref: Ref) -> bytes:
        self._check()
        return super().fetch(ref)

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        self._check()
        return super().stat(refs)

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        self._check()
        return super().enumerate(after)

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        self._check()
        return super().write_many(blobs)

    def remove(self, refs: Iterable[Ref]) -> None:
        self._check()
        super().remove(refs)

    def _check(self) -> None:
        if self.error is not None:
            raise self.error


def filled(blobs: dict[Ref, bytes]) -> Memory:
    store = Memory()
    store.receive_many(blobs.items())
    return store


def test_every_backend_gets_every_blob() -> None:
    stores = [Memory() for _ in range(4)]
    Replica(stores).receive_many(BLOBS.items())
    for store in stores:
        assert {ref: store.fetch(ref) for ref, _ in store.enumerate()} == BLOBS


@pytest.mark.parametrize(
    ("min_writes", "down", "stored"),
    [
        (0, 0, True),
        (0, 1, False),
        (3, 0, True),
        (2, 1, True),
        (2, 2, False),
        (1, 2, True),
        (1, 3, False),
    ],
)
@pytest.mark.parametrize("first_is_down", [True, False])
def test_enough_backends_make_a_success(
    min_writes: int, down: int, stored: bool, first_is_down: bool
) -> None:
    stores: list[Storage] = [Memory() for _ in range(3 - down)]
    failing: list[Storage] = [Down() for _ in range(down)]
    backends = failing + stores if first_is_down else stores + failing
    replica = Replica(backends, min_writes=min_writes)
    if stored:
        answer = replica.receive_many(BLOBS.items())
        assert answer == [SizedRef(ref, len(data)) for ref, data in BLOBS.items()]
        assert all(len(list(store.enumerate())) == len(BLOBS) for store in stores)
    else:
        with pytest.raises(Unavailable):
            replica.receive_many(BLOBS.items())


def test_the_two_steps_alone_need_every_backend() -> None:
    replica = Replica([Memory(), Down()], min_writes=1)
    with pytest.raises(Unavailable):
        replica.write_many(BLOBS.items())


def test_the_first_backend_has_a_blob_before_the_others_are_told() -> None:
    base = Memory()

    class Index(Memory):
        def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
            batch = list(blobs)
            assert {ref: base.fetch(ref) for ref, _ in batch} == dict(batch)
            return super().write_many(batch)

    Replica([base, Index(), Index()]).receive_many(BLOBS.items())


@pytest.mark.parametrize("min_writes", [-1, 3])
def test_more_writes_than_backends_are_refused(min_writes: int) -> None:
    with pytest.raises(ConfigError, match="minWritesForSuccess"):
        Replica([Memory(), Memory()], min_writes=min_writes)
    with pytest.raises(ConfigError, match="backends"):
        Replica([])


@pytest.mark.parametrize("error", [Unavailable("reach", "a"), NotFound("fetch", "a")])
def test_reads_go_on_to_the_next_backend(error: StoreError) -> None:
    down = Down()
    down.error = error
    replica = Replica([down, filled(BLOBS)])
    assert replica.fetch(REF) == DATA
    assert replica.fetch_range(REF, 1, 3) == DATA[1:4]
    wanted = list(BLOBS)[::-1]
    assert list(replica.fetch_many(wanted)) == [(ref, BLOBS[ref]) for ref in wanted]


def test_a_backend_that_gives_up_in_the_middle_is_left() -> None:
    class Tired(Memory):
        def fetch_many(
            self, refs: Iterable[Ref]
        ) -> Iterator[tuple[Ref, bytes | NotFound | Corrupt]]:
            for number, found in enumerate(super().fetch_many(refs)):
                if number == 2:
                    raise Unavailable("fetch", "backend")
                yield found

    tired = Tired()
    tired.receive_many(BLOBS.items())
    assert dict(Replica([tired, filled(BLOBS)]).fetch_many(BLOBS)) == BLOBS


def test_a_blob_counts_as_absent_only_if_every_backend_says_so() -> None:
    with pytest.raises(NotFound):
        Replica([Memory(), Memory()]).fetch(REF)
    with pytest.raises(Unavailable):
        Replica([Memory(), Down(), Memory()]).fetch(REF)
    damaged = filled({REF: b"wrong"})
    with pytest.raises(Corrupt):
        Replica([Memory(), damaged]).fetch(REF)


def test_a_damaged_copy_is_replaced_from_a_good_one(tmp_path: Path) -> None:
    with LocalDisk(tmp_path) as disk:
        replica = Replica([disk, Memory()])
        replica.receive_many(BLOBS.items())
        path = next(tmp_path.rglob(f"{REF}.dat"))
        path.write_bytes(DATA[:-1] + b"?")
        with pytest.raises(Corrupt):
            disk.fetch(REF)
        assert replica.fetch(REF) == DATA
        assert disk.fetch(REF) == DATA


def test_the_read_succeeds_though_the_damaged_copy_cannot_be_replaced() -> None:
    class Stuck(Down):
        def fetch(self, ref: Ref) -> bytes:
            raise Corrupt("fetch", ref)

    assert Replica([Stuck(), filled(BLOBS)]).fetch(REF) == DATA


def test_stat_asks_the_next_backend_for_what_is_missing() -> None:
    refs = list(BLOBS)
    first = filled({ref: BLOBS[ref] for ref in refs[:2]})
    second = filled({ref: BLOBS[ref] for ref in refs[1:4]})
    replica = Replica([first, second])
    assert sorted(replica.stat(refs)) == [SizedRef(ref, len(BLOBS[ref])) for ref in refs[:4]]
    assert [ref for ref, _ in replica.enumerate()] == refs[:4]
    assert [ref for ref, _ in replica.enumerate(refs[0])] == refs[1:4]


def test_stat_fails_only_if_a_blob_may_be_on_the_backend_that_is_down() -> None:
    replica = Replica([Down(), filled(BLOBS)])
    assert len(list(replica.stat(BLOBS))) == len(BLOBS)
    with pytest.raises(Unavailable):
        list(replica.stat([Ref.of(b"nowhere")]))


def test_a_listing_without_one_backend_is_no_listing() -> None:
    with pytest.raises(Unavailable):
        list(Replica([filled(BLOBS), Down()]).enumerate())


def test_remove_tries_all_and_tells_a_failure() -> None:
    first, last = filled(BLOBS), filled(BLOBS)
    with pytest.raises(Unavailable):
        Replica([first, Down(), last]).remove(BLOBS)
    assert list(first.enumerate()) == list(last.enumerate()) == []


def test_the_generation_is_that_of_all(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with LocalDisk(tmp_path / "a") as a, LocalDisk(tmp_path / "b") as b:
        replica = Replica([a, Memory(), b])
        ours, first, second = replica.generation(), a.generation(), b.generation()
        assert ours is not None
        assert first is not None
        assert second is not None
        assert ours.token == f"{first.token}/{second.token}"
        assert ours.initialised == max(first.initialised, second.initialised)
        replica.reset_generation()
        assert a.generation() != first
        assert b.generation() != second
    assert Replica([Memory()]).generation() is None
    with pytest.raises(Unsupported):
        Replica([Memory()]).reset_generation()


def test_a_configuration_names_backends_and_readers() -> None:
    stores: dict[str, Storage] = {"/a/": Memory(), "/b/": Memory(), "/c/": Memory()}
    args = {"backends": ["/a/", "/b/"], "readBackends": ["/c/"], "minWritesForSuccess": 1.0}
    replica = open_storage("storage-replica", args, stores.__getitem__)
    replica.receive(REF, DATA)
    assert stores["/a/"].fetch(REF) == stores["/b/"].fetch(REF) == DATA
    with pytest.raises(NotFound):
        replica.fetch(REF)
    for bad in ({"backends": []}, {"backends": "/a/"}, {}, {"backends": ["/a/"], "min": 1}):
        with pytest.raises(ConfigError):
            open_storage("storage-replica", bad, stores.__getitem__)
