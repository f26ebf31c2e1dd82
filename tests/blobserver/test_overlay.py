"""Stores that show another one changed: overlay, namespace, union, readonly."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.conformance import run_together, sample, sized
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.namespace import Namespace
from peatkeep.blobserver.overlay import Overlay
from peatkeep.blobserver.readonly import Readonly
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.blobserver.union import Union
from peatkeep.errors import ConfigError, Corrupt, NotFound, ReadOnly, Unavailable, Unsupported
from peatkeep.sorted.kv import Batch, KeyValue
from peatkeep.sorted.memory import MemoryKeyValue

BLOBS = sample(40)
REFS = list(BLOBS)
REF, DATA = REFS[0], BLOBS[REFS[0]]


def filled(refs: Iterable[Ref] = REFS) -> Memory:
    store = Memory()
    store.receive_many((ref, BLOBS[ref]) for ref in refs)
    return store


def refs_in(store: Storage) -> list[Ref]:
    return [ref for ref, _ in store.enumerate()]


# -- overlay ------------------------------------------------------------------------------------


def test_the_lower_store_stays_as_it_is() -> None:
    lower = Readonly(filled(REFS[:20]))
    overlay = Overlay(lower, Memory(), MemoryKeyValue())
    overlay.receive_many((ref, BLOBS[ref]) for ref in REFS[20:])
    overlay.remove(REFS[10:30])
    assert refs_in(overlay) == REFS[:10] + REFS[30:]
    assert refs_in(lower) == REFS[:20]
    assert dict(overlay.fetch_many(refs_in(overlay))).items() <= BLOBS.items()
    assert isinstance(dict(overlay.fetch_many(REFS))[REFS[15]], NotFound)
    assert {blob.ref for blob in overlay.stream()} == set(refs_in(overlay))


def test_reading_copies_nothing_up() -> None:
    upper = Memory()
    overlay = Overlay(filled(), upper, MemoryKeyValue())
    assert dict(overlay.fetch_many(REFS)) == BLOBS
    assert overlay.fetch(REF) == DATA
    assert refs_in(upper) == []


def test_what_was_removed_comes_back_when_it_is_durable() -> None:
    rows = MemoryKeyValue()
    overlay = Overlay(filled(), Memory(), rows)
    overlay.remove([REF])
    overlay.write_many([(REF, DATA)])
    assert list(overlay.stat([REF])) == []
    with pytest.raises(NotFound):
        overlay.fetch(REF)
    overlay.sync()
    assert overlay.fetch(REF) == DATA
    assert list(rows.find()) == []


def test_without_a_list_of_the_deleted_nothing_is_removed() -> None:
    overlay = Overlay(filled(), Memory())
    with pytest.raises(Unsupported):
        overlay.remove([REF])
    assert refs_in(overlay) == REFS


def test_a_removal_that_breaks_off_hides_the_blob() -> None:
    class Stuck(Memory):
        def remove(self, refs: Iterable[Ref]) -> None:
            raise Unavailable("remove", "upper")

    overlay = Overlay(filled(), Stuck(), MemoryKeyValue())
    overlay.receive(REF, DATA)
    with pytest.raises(Unavailable):
        overlay.remove([REF])
    with pytest.raises(NotFound):
        overlay.fetch(REF)


def test_a_damaged_upper_copy_is_replaced_from_the_lower_one(tmp_path: Path) -> None:
    with LocalDisk(tmp_path) as upper:
        overlay = Overlay(filled(), upper, MemoryKeyValue())
        overlay.receive(REF, DATA)
        next(tmp_path.rglob(f"{REF}.dat")).write_bytes(b"?" * len(DATA))
        with pytest.raises(Corrupt):
            upper.fetch(REF)
        assert overlay.fetch(REF) == DATA
        assert upper.fetch(REF) == DATA


@pytest.mark.parametrize("kind", [Overlay, Namespace])
def test_a_removal_during_a_sync_wins(kind: type[Overlay] | type[Namespace]) -> None:
    """Between the sync of the store below and the rows, somebody removes."""

    class Removing(Memory):
        def sync(self) -> None:
            super().sync()
            if face:
                face.pop().remove([REF])

    below, face = Removing(), list[Storage]()
    store: Storage = (
        Overlay(filled(), below, MemoryKeyValue())
        if kind is Overlay
        else Namespace(below, MemoryKeyValue())
    )
    store.write_many([(REF, DATA)])
    face.append(store)
    store.sync()
    assert list(store.stat([REF])) == []
    face.append(store)
    store.receive(REF, DATA)
    assert list(store.stat([REF])) == []
    store.receive(REF, DATA)
    assert store.fetch(REF) == DATA


# -- namespace ----------------------------------------------------------------------------------


def test_two_namespaces_share_a_store_and_see_only_theirs() -> None:
    master = Memory()
    first, second = Namespace(master, MemoryKeyValue()), Namespace(master, MemoryKeyValue())
    run_together(
        lambda: first.receive_many((r, BLOBS[r]) for r in REFS[:30]) and None,
        lambda: second.receive_many((r, BLOBS[r]) for r in REFS[20:]) and None,
    )
    assert refs_in(first) == REFS[:30]
    assert refs_in(second) == REFS[20:]
    first.remove(REFS)
    assert refs_in(first) == []
    assert dict(second.fetch_many(REFS[20:])) == {ref: BLOBS[ref] for ref in REFS[20:]}
    assert refs_in(master) == REFS
    with pytest.raises(NotFound):
        first.fetch_range(REFS[25], 0, 1)


def test_a_row_alone_is_not_a_blob() -> None:
    """Somebody removed it from the store below: saying "have it" would keep it from coming back."""
    master = Memory()
    namespace = Namespace(master, MemoryKeyValue())
    namespace.receive_many(BLOBS.items())
    master.remove(REFS[:10])
    assert refs_in(namespace) == REFS[10:]
    assert sorted(namespace.stat(REFS)) == sized({ref: BLOBS[ref] for ref in REFS[10:]})
    namespace.receive_many(BLOBS.items())
    assert dict(namespace.fetch_many(REFS)) == BLOBS


@pytest.mark.parametrize("value", [b"1", b"x", b"", b"-1", b"99999999999999999999"])
def test_a_row_that_does_not_fit_hides_the_blob_until_it_is_stored_again(value: bytes) -> None:
    rows = MemoryKeyValue()
    namespace = Namespace(filled(), rows)
    namespace.receive(REF, DATA)
    batch = Batch()
    batch.set(REF.encode(), value)
    batch.set(b"no ref", b"1")
    rows.commit(batch)
    assert refs_in(namespace) == list(namespace.stat([REF])) == list(namespace.stream()) == []
    for read in (namespace.fetch, lambda ref: namespace.fetch_range(ref, 0, 1)):
        with pytest.raises(NotFound):
            read(REF)
    assert isinstance(dict(namespace.fetch_many([REF]))[REF], NotFound)
    namespace.receive(REF, DATA)
    assert namespace.fetch(REF) == DATA


def test_storing_again_heals_the_store_below(tmp_path: Path) -> None:
    with LocalDisk(tmp_path) as master:
        namespace = Namespace(master, MemoryKeyValue())
        namespace.receive(REF, DATA)
        next(tmp_path.rglob(f"{REF}.dat")).write_bytes(b"?" * len(DATA))
        with pytest.raises(Corrupt):
            namespace.fetch(REF)
        namespace.receive(REF, DATA)
        assert namespace.fetch(REF) == DATA


def test_a_write_is_not_acknowledged_without_its_row() -> None:
    class Full(MemoryKeyValue):
        def commit(self, batch: Batch, durable: bool = True) -> None:
            raise Unavailable("commit", "rows", "disk full")

    rows: KeyValue = Full()
    namespace = Namespace(Memory(), rows)
    with pytest.raises(Unavailable):
        namespace.receive(REF, DATA)
    namespace.write_many([(REF, DATA)])
    for _ in range(2):
        with pytest.raises(Unavailable):
            namespace.sync()
    assert refs_in(namespace) == []


# -- union and readonly -------------------------------------------------------------------------


def test_a_union_reads_from_whichever_has_a_good_copy(tmp_path: Path) -> None:
    with LocalDisk(tmp_path) as disk:
        disk.receive_many((ref, BLOBS[ref]) for ref in REFS[:20])
        next(tmp_path.rglob(f"{REF}.dat")).write_bytes(b"?" * len(DATA))
        union = Union([disk, filled(REFS[20:]), filled([REF])])
        assert dict(union.fetch_many(REFS)) == BLOBS
        assert list(union.enumerate()) == sorted(union.stat(REFS)) == sized(BLOBS)
        assert {blob.ref: blob.data for blob in union.stream()} == BLOBS
        with pytest.raises(Corrupt):
            disk.fetch(REF)  # a union writes nothing, not even a better copy


@pytest.mark.parametrize("store", [Union([filled()]), Readonly(filled())], ids=["union", "ro"])
def test_stores_that_take_no_writes_say_so(store: Storage) -> None:
    for write in (
        lambda: store.receive(REF, DATA),
        lambda: store.receive_many([]),
        lambda: store.write_many([(REF, DATA)]),
        lambda: store.remove([REF]),
        store.reset_generation,
    ):
        with pytest.raises(ReadOnly):
            write()  # type: ignore[no-untyped-call]
    store.sync()
    assert list(store.stat([REF])) == [SizedRef(REF, len(DATA))]


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("overlay", {"lower": "/a/"}),
        ("overlay", {"lower": "/a/", "upper": "/b/", "deleted": "x"}),
        ("namespace", {"storage": "/a/"}),
        ("namespace", {"storage": "/a/", "inventory": {"type": "nosuch"}}),
        ("union", {"subsets": []}),
        ("union", {"subsets": "/a/"}),
        ("readonly", {}),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(kind: str, args: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        open_storage(kind, args, lambda _: Memory())
