"""Sealing, naming, compacting and removing."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from peatkeep.blob import MAX_BLOB_SIZE, Ref, SizedRef
from peatkeep.blobserver.conformance import StorageSuite, sample
from peatkeep.blobserver.encrypt.lines import Line, Place, text_of
from peatkeep.blobserver.encrypt.sealing import MAX_PLAIN_SIZE, read_key_file
from peatkeep.blobserver.encrypt.store import Encrypt
from peatkeep.blobserver.fanout import Found
from peatkeep.blobserver.faulty import Fault, Faulty
from peatkeep.blobserver.forward import Forward
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import ConfigError, NotFound, TooLarge, Unavailable
from peatkeep.sorted.memory import MemoryKeyValue
from tests.blobserver.combinators import patient, unreliable
from tests.blobserver.encrypt.age_files import age_file, for_key, stanza
from tests.blobserver.encrypt.stores import PUBLIC, SEALER, TEST_ONLY_IDENTITY, Below
from tests.independent import encrypt as independent

BLOBS = sample(60)
IDENTITY = independent.Identity.from_str(TEST_ONLY_IDENTITY)


class TestOverUnreliableStores(StorageSuite):
    @pytest.fixture
    def storage(self) -> Iterator[Storage]:
        blobs, metas = patient(unreliable(1)), patient(unreliable(2))
        with Encrypt(SEALER, blobs, metas, MemoryKeyValue()) as store:
            yield store


class TestRetryOverTheStoreOnUnreliableStores(StorageSuite):
    @pytest.fixture
    def storage(self) -> Iterator[Storage]:
        blobs, metas = unreliable(3, 0.04), unreliable(4, 0.0)
        with Encrypt(SEALER, blobs, metas, MemoryKeyValue()) as store:
            metas.faults = [Fault("unavailable", rate=0.04)]
            retry = patient(store, 100)
            retry.max_blob_size = store.max_blob_size  # type: ignore[attr-defined]
            yield retry


class Switch(Forward):
    """Lets calls fail for a while."""

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        sound = self._inner
        self._inner = Faulty(sound, [fault], seed=1)
        try:
            yield
        finally:
            self._inner = sound


def metas_of(below: Below) -> list[Ref]:
    return [ref for ref, _ in below.metas.enumerate()]


def served(below: Below) -> dict[Ref, bytes]:
    """By a machine that knows nothing yet."""
    below.forget_all()
    with below.open() as store:
        found = dict(store.fetch_many([ref for ref, _ in store.enumerate()]))
    assert all(isinstance(data, bytes) for data in found.values())
    return found  # type: ignore[return-value]


# -- meta blobs -----------------------------------------------------------------------------------


def test_a_batch_is_named_by_one_meta_blob() -> None:
    below = Below()
    with below.open() as store:
        store.receive_many(BLOBS.items())
        assert len(metas_of(below)) == 1
        store.receive_many(BLOBS.items())
        assert len(metas_of(below)) == 1
    assert served(below) == BLOBS


def test_small_meta_blobs_become_few_by_themselves() -> None:
    below = Below()
    with below.open() as store:
        for ref, data in sample(200).items():
            store.receive(ref, data)
    assert len(metas_of(below)) < 45
    assert served(below) == sample(200)


def test_compacting_goes_on_to_the_end() -> None:
    below = Below()
    with below.open() as store:
        for ref, data in sample(130).items():
            store.receive(ref, data)
        store.compact()
        assert len(metas_of(below)) == 1
        store.compact()
        assert len(metas_of(below)) == 1
        assert list(store.check()) == []
    assert served(below) == sample(130)


class OrderOfCalls(Forward):
    """Notes what is written and removed."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.calls: list[tuple[str, list[Ref]]] = []

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        done = super().receive_many(blobs)
        self.calls.append(("stored", [ref for ref, _ in done]))
        return done

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[Found]:
        asked = list(refs)
        self.calls.append(("read", asked))
        return super().fetch_many(asked)

    def remove(self, refs: Iterable[Ref]) -> None:
        gone = list(refs)
        super().remove(gone)
        self.calls.append(("removed", gone))


def test_small_meta_blobs_go_when_what_replaces_them_was_read_back() -> None:
    below = Below()
    with below.open() as store:
        for ref, data in sample(12).items():
            store.receive(ref, data)
    small = metas_of(below)
    below.metas = noting = OrderOfCalls(below.metas)
    with below.open() as store:
        noting.calls.clear()
        store.compact()
    (made,) = metas_of(below)
    assert noting.calls == [
        ("read", small),
        ("stored", [made]),
        ("read", [made]),
        ("removed", small),
    ]


@pytest.mark.parametrize("operation", ["write_many", "sync", "remove", "fetch_many"])
@pytest.mark.parametrize("after", range(3))
def test_a_compaction_that_breaks_off_loses_nothing(operation: str, after: int) -> None:
    below = Below()
    with below.open() as store:
        for ref, data in sample(40).items():
            store.receive(ref, data)
    below.metas = switch = Switch(below.metas)
    with below.open() as store:
        with switch.failing(Fault("unavailable", [operation], calls=range(after + 1, 100))):
            try:
                store.compact()
            except Unavailable:
                pass
        assert dict(store.fetch_many(sample(40))) == sample(40)
    assert served(below) == sample(40)
    with below.open() as store:
        store.compact()
        assert len(metas_of(below)) == 1
    assert served(below) == sample(40)


def test_two_processes_on_the_same_stores_lose_nothing() -> None:
    here, there = Below(), Below()
    there.blobs, there.metas = here.blobs, here.metas
    rows = list(sample(80).items())
    with here.open() as one, there.open() as other:
        for number, (ref, data) in enumerate(rows):
            (one if number % 3 else other).receive(ref, data)
        one.compact()
        other.compact()
        one.remove([rows[1][0]])
        other.compact()
    for below in (here, there):
        with below.open() as store:
            for ref, data in rows:
                if ref != rows[1][0]:
                    assert store.fetch(ref) == data
    assert served(here).keys() == {ref for ref, _ in rows} - {rows[1][0]}


# -- removing -------------------------------------------------------------------------------------


def test_removing_leaves_nothing_of_a_blob(tmp_path: Path) -> None:
    below = Below()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "metas").mkdir()
    below.blobs, below.metas = LocalDisk(tmp_path / "blobs"), LocalDisk(tmp_path / "metas")
    first, *others = BLOBS
    with below.open() as store:
        store.receive_many(BLOBS.items())
        store.remove([first])
        assert list(store.stat([first])) == []
        with pytest.raises(NotFound):
            store.fetch(first)
    assert first not in independent.rows_of_metas(tmp_path / "metas", IDENTITY)
    assert len(independent.files(tmp_path / "blobs")) == len(others)
    assert served(below).keys() == set(others)


@pytest.mark.parametrize("side", ["blobs", "metas"])
@pytest.mark.parametrize("call", range(8))
@pytest.mark.parametrize("is_tried_again", [False, True])
def test_a_removal_that_breaks_off_is_finished_later(
    side: str, call: int, is_tried_again: bool
) -> None:
    below = Below()
    with below.open() as store:
        store.receive_many(BLOBS.items())
    first, *others = BLOBS
    switch = Switch(getattr(below, side))
    setattr(below, side, switch)
    operations = ["fetch_many", "write_many", "sync", "remove"]
    fault = Fault("unavailable", operations[call % 4 :], calls=[1 + call // 4])
    with below.open() as store, switch.failing(fault):
        for _ in range(6 if is_tried_again else 1):
            try:
                store.remove([first])
                break
            except Unavailable:
                pass
    if is_tried_again:
        assert len(list(below.blobs.enumerate())) == len(others)
        assert served(below).keys() == set(others)
    with below.open() as store:
        assert [ref for ref, _ in store.enumerate()] == others
        assert list(store.check()) == []
    assert len(list(below.blobs.enumerate())) == len(others)
    assert served(below).keys() == set(others)


# -- limits and keys ------------------------------------------------------------------------------


def test_what_does_not_fit_when_sealed_is_refused_before_the_answer() -> None:
    below = Below()
    data = bytes(MAX_BLOB_SIZE)
    with below.open() as store:
        with pytest.raises(TooLarge):
            store.receive(Ref.of(data), data)
        assert list(store.enumerate()) == []
    assert list(below.blobs.enumerate()) == []


def test_the_largest_blob_that_is_taken_fills_a_sealed_one() -> None:
    data = bytes(MAX_PLAIN_SIZE)
    sealed = SEALER.seal(Ref.of(data), data)
    assert len(sealed) == MAX_BLOB_SIZE
    assert independent.decrypt(sealed, IDENTITY) == data
    with pytest.raises(TooLarge):
        SEALER.seal(Ref.of(data), data + b"1")


def test_sizes_are_those_of_the_blobs_whatever_others_pad_them_with() -> None:
    data, below, sizes = b"always the same", Below(), set()
    for stanzas in ([], [stanza(b"x-grease", bytes(50))]):
        file = b"\x02" + age_file([*stanzas, for_key(PUBLIC)], [data])
        text = text_of([Line(Ref.of(data), Place(len(data), Ref.of(file)))])
        meta = SEALER.seal(Ref.of(text), text)
        below = Below()
        below.blobs.receive(Ref.of(file), file)
        below.metas.receive(Ref.of(meta), meta)
        with below.open() as store:
            assert list(store.enumerate()) == [SizedRef(Ref.of(data), len(data))]
            assert store.fetch(Ref.of(data)) == data
        sizes.add(len(file))
    assert len(sizes) == 2


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        (TEST_ONLY_IDENTITY, 0o644),
        (TEST_ONLY_IDENTITY, 0o640),
        (f"# a comment\n{TEST_ONLY_IDENTITY}", 0o600),
        ("", 0o600),
        (TEST_ONLY_IDENTITY[:-1], 0o600),
        (TEST_ONLY_IDENTITY.replace("G", "\u011e"), 0o600),
    ],
)
def test_a_key_file_is_one_line_that_only_its_owner_reads(
    tmp_path: Path, text: str, mode: int
) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        read_key_file(path)
    assert str(path) in str(caught.value)
    assert TEST_ONLY_IDENTITY[20:40] not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"I_AGREE": "yes"}, {"meta": "/b/"}, {"keyFile": "/nonexistent"}, {"extra": 1}],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "key"
    path.write_text(TEST_ONLY_IDENTITY)
    path.chmod(0o600)
    agreement = (
        "that encryption support hasn't been peer-reviewed, isn't finished, and its format"
        " might change."
    )
    args: dict[str, object] = {
        "I_AGREE": agreement,
        "keyFile": str(path),
        "blobs": "/b/",
        "meta": "/m/",
        "metaIndex": {"type": "memory"},
    }
    with open_storage("encrypt", args, lambda _: Memory()) as store:
        store.receive(Ref.of(b"x"), b"x")
    with pytest.raises(ConfigError):
        open_storage("encrypt", args | change, lambda _: Memory())


# -- by others ------------------------------------------------------------------------------------


def test_a_reader_of_others_reads_thousands_of_mixed_blobs(tmp_path: Path) -> None:
    for name in ("blobs", "metas"):
        (tmp_path / name).mkdir()
    contents = [b"%d " % n * (n % 97) for n in range(3000)] + [bytes(n << 16) for n in range(9)]
    blobs = {Ref.of(data): data for data in contents}
    blobs[Ref("sha1-aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d")] = b"hello"
    stores = {f"/{name}/": LocalDisk(tmp_path / name) for name in ("blobs", "metas")}
    below = Below()
    below.blobs, below.metas = stores["/blobs/"], stores["/metas/"]
    with below.open() as store:
        rows = list(blobs.items())
        for begin in range(0, len(rows), 40):
            store.receive_many(rows[begin : begin + 40])
    rows_of_metas = independent.rows_of_metas(tmp_path / "metas", IDENTITY)
    assert independent.read_all(rows_of_metas, tmp_path / "blobs", IDENTITY) == blobs


class FarAway(Forward):
    """Answers a question for many blobs when four such questions wait."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.together = threading.Barrier(4, timeout=60)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[Found]:
        asked = list(refs)
        self.together.wait()
        return super().fetch_many(asked)


def test_meta_blobs_of_a_store_far_away_are_asked_for_many_at_a_time() -> None:
    below = Below()
    with below.open() as store:
        store.receive_many(BLOBS.items())
    (one,) = metas_of(below)
    text = SEALER.unseal(one, below.metas.fetch(one))
    for _ in range(255):  # 256 meta blobs: eight questions
        sealed = SEALER.seal(one, text)
        below.metas.receive(Ref.of(sealed), sealed)
    below.forget_all()
    below.metas = FarAway(below.metas)
    with below.open() as store:
        assert dict(store.fetch_many(BLOBS)) == BLOBS
    below.metas = Switch(below.metas._inner)
    with below.open() as store:  # known by now: none is read again
        assert store.remarks == []
