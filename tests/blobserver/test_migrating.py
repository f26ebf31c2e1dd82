"""Moving between two stores: interrupted, with damage, while others write and remove."""

from collections.abc import Iterable

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.migrating import Migrating, Progress, Stopped
from peatkeep.blobserver.receive import receive, receive_many
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import Corrupt, NotFound
from peatkeep.sorted.memory import MemoryKeyValue


def blobs(count: int, name: str = "") -> dict[Ref, bytes]:
    texts = (f"blob {name} {number}".encode() for number in range(count))
    return {Ref.of(text): text for text in texts}


def silent(_: Progress) -> None: ...


def contents(store: Storage) -> dict[Ref, bytes]:
    return {found.ref: store.fetch(found.ref) for found in store.enumerate()}


@pytest.fixture
def old() -> Memory:
    store = Memory()
    receive_many(store, blobs(1500).items())
    return store


def test_all_blobs_move_and_the_old_store_keeps_them(old: Memory) -> None:
    new = Memory()
    progress = Migrating(old, new, MemoryKeyValue()).migrate(silent)
    assert (progress.phase, progress.blobs, progress.damaged) == ("done", 1500, ())
    assert contents(new) == contents(old) == blobs(1500)


def test_a_migration_that_was_stopped_goes_on(old: Memory) -> None:
    new, rows = Memory(), MemoryKeyValue()

    def stop(progress: Progress) -> None:
        if progress.blobs >= 500:
            raise Stopped

    with pytest.raises(Stopped):
        Migrating(old, new, rows).migrate(stop)
    assert 0 < len(contents(new)) < 1500
    copied: list[int] = []
    again = Migrating(old, new, rows)
    again.migrate(lambda p: copied.append(p.blobs) if p.phase == "copying" else None)
    assert copied[-1] == 1000
    assert contents(new) == blobs(1500)


def test_what_is_written_or_removed_meanwhile_counts(old: Memory) -> None:
    new = Memory()
    store = Migrating(old, new, MemoryKeyValue())
    gone = list(blobs(1500))[::100]
    added = blobs(30, "new")

    def meanwhile(progress: Progress) -> None:
        if progress.blobs == 500:
            store.remove(gone)
            receive_many(store, added.items())

    assert store.migrate(meanwhile).phase == "done"
    expected = {ref: data for ref, data in blobs(1500).items() if ref not in gone} | added
    assert contents(new) == contents(store) == expected


def test_what_was_removed_and_stored_again_is_there(old: Memory) -> None:
    new = Memory()
    store = Migrating(old, new, MemoryKeyValue())
    ref, data = next(iter(blobs(1).items()))
    store.remove([ref])
    with pytest.raises(NotFound):
        store.fetch(ref)
    receive(store, ref, data)
    store.migrate(silent)
    assert new.fetch(ref) == data


def test_a_removal_that_a_crash_cut_short_is_finished_at_the_next_opening(old: Memory) -> None:
    new, rows = Memory(), MemoryKeyValue()
    ref, data = next(iter(blobs(1).items()))
    receive(new, ref, data)
    rows.set(ref.encode(), b"1")
    Migrating(old, new, rows)
    assert list(new.stat([ref])) == []


class Damaging(Memory):
    """Keeps one blob damaged."""

    def __init__(self, victim: Ref) -> None:
        super().__init__()
        self.victim = victim

    def fetch(self, ref: Ref) -> bytes:
        if ref == self.victim:
            raise Corrupt("fetch", ref, "flipped")
        return super().fetch(ref)


def test_a_damaged_blob_is_named_and_the_migration_does_not_end() -> None:
    victim = list(blobs(20))[7]
    old, new = Damaging(victim), Memory()
    receive_many(old, blobs(20).items())
    store = Migrating(old, new, MemoryKeyValue())
    progress = store.migrate(silent)
    assert (progress.phase, progress.damaged, progress.damaged_count) == ("damaged", (victim,), 1)
    receive(store, victim, blobs(20)[victim])
    assert store.migrate(silent).phase == "done"


def test_damaged_blobs_may_be_left_behind() -> None:
    victim = list(blobs(20))[7]
    old, new, rows = Damaging(victim), Memory(), MemoryKeyValue()
    receive_many(old, blobs(20).items())
    with Migrating(old, new, rows, leave_damaged=True) as store:
        progress = store.migrate(silent)
    assert (progress.phase, progress.damaged, progress.damaged_count) == ("done", (victim,), 1)
    assert contents(new) == {ref: data for ref, data in blobs(20).items() if ref != victim}


class Flipping(Memory):
    """Damages the first copy of one blob."""

    def __init__(self, victim: Ref) -> None:
        super().__init__()
        self.victim = victim
        self.copies = 0

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = list(blobs)
        self.copies += sum(ref == self.victim for ref, _ in batch)
        return super().write_many(batch)

    def fetch(self, ref: Ref) -> bytes:
        if ref == self.victim and self.copies == 1:
            raise Corrupt("fetch", ref, "flipped")
        return super().fetch(ref)


def test_a_copy_that_went_bad_is_made_again(old: Memory) -> None:
    victim = list(blobs(1500))[700]
    new = Flipping(victim)
    assert Migrating(old, new, MemoryKeyValue()).migrate(silent).phase == "done"
    assert new.copies >= 2
    assert contents(new) == blobs(1500)
