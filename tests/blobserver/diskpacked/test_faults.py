"""Full disks, failing syncs, power cuts between any two steps, two users of one store."""

import errno
import os
import random
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.conformance import run_together, sample
from peatkeep.blobserver.diskpacked import DiskPacked
from peatkeep.blobserver.diskpacked.files import PackFileSystem
from peatkeep.errors import ConfigError, NotFound, ReadOnly, Unavailable
from peatkeep.sorted.memory import MemoryKeyValue
from tests.blobserver.diskpacked.simulated import ROOT, Machine
from tests.blobserver.powercut import PowerCut
from tests.independent.diskpacked import walk_as_perkeep

BLOBS = sample(12)
ROWS = list(BLOBS.items())


# -- durability ---------------------------------------------------------------------------------


def test_an_acknowledgement_follows_a_sync_of_the_data_and_then_the_rows() -> None:
    machine = Machine(1 << 20)
    calls: list[str] = []
    machine.watch(lambda name, _path: calls.append(name))
    machine.store.receive_many(ROWS)
    assert calls == ["write_at", "sync_data", "commit", "committed"]


def test_a_new_pack_is_durable_before_anything_is_written_to_it() -> None:
    machine = Machine(0)
    machine.store.receive(*ROWS[0])
    calls: list[str] = []
    machine.watch(lambda name, path: None if path.endswith(".lock") else calls.append(name))
    machine.store.receive(*ROWS[1])
    steps = [name for name in calls if name in {"sync_data", "open_new", "fsync", "write_at"}]
    assert steps == ["sync_data", "open_new", "fsync", "write_at", "sync_data"]


def test_removing_is_durable_rows_first() -> None:
    machine = Machine()
    machine.store.receive_many(ROWS[:1])
    calls: list[str] = []
    machine.watch(lambda name, _path: calls.append(name))
    machine.store.remove([ROWS[0][0]])
    changing = {"commit", "write_at", "punch", "sync_data"}
    assert [name for name in calls if name in changing] == [
        "commit", "write_at", "punch", "sync_data",
    ]  # fmt: skip


def script(machine: Machine, promised: dict[Ref, bytes], gone: set[Ref]) -> None:
    """Store, remove and compact; note what was promised as soon as it was."""
    store = machine.store
    for begin in range(0, 12, 3):
        group = ROWS[begin : begin + 3]
        store.receive_many(group)
        promised.update(group)
    for begin in (0, 4, 8):
        refs = [ref for ref, _ in ROWS[begin : begin + 2]]
        for ref in refs:
            del promised[ref]
        store.remove(refs)
        gone.update(refs)
    store.compact(0.1)
    gone.discard(ROWS[0][0])
    store.receive(*ROWS[0])
    promised.update([ROWS[0]])


def count_steps() -> int:
    machine = Machine(150)
    steps = 0

    def count(_name: str, _path: str) -> None:
        nonlocal steps
        steps += 1

    machine.watch(count)
    script(machine, {}, set())
    return steps


STEPS = count_steps()


@pytest.mark.parametrize("luck", [None, 1, 2, 3])
def test_a_power_cut_at_any_step_loses_nothing_promised(luck: int | None, tmp_path: Path) -> None:
    assert STEPS > 100
    for step in range(STEPS):
        machine = Machine(150)
        machine.files.bytes_per_write = 40
        promised: dict[Ref, bytes] = {}
        gone: set[Ref] = set()
        left = step

        def before(name: str, _path: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise PowerCut(name)

        machine.watch(before)
        with suppress(PowerCut):
            script(machine, promised, gone)
        machine.leave_alone()
        machine.files.cut_power(None if luck is None else random.Random(luck * 1000 + step))
        check_after_a_break(machine, promised, gone)
        folder = machine.save(tmp_path / f"{step}")
        assert promised.items() <= {(Ref(ref), data) for _, ref, data in walk_as_perkeep(folder)}


def test_a_kill_at_any_step_loses_nothing_promised() -> None:
    for step in range(0, STEPS, 3):
        machine = Machine(150)
        promised: dict[Ref, bytes] = {}
        gone: set[Ref] = set()
        left = step

        def before(name: str, _path: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise PowerCut(name)

        machine.watch(before)
        with suppress(PowerCut):
            script(machine, promised, gone)
        machine.leave_alone()
        machine.files.start_again()
        check_after_a_break(machine, promised, gone)


def check_after_a_break(machine: Machine, promised: dict[Ref, bytes], gone: set[Ref]) -> None:
    store = machine.open()
    assert {ref: store.fetch(ref) for ref in promised} == promised
    listed = {ref for ref, _ in store.enumerate()}
    assert promised.keys() <= listed <= BLOBS.keys() - gone
    assert {ref: store.fetch(ref) for ref in listed}.items() <= BLOBS.items()
    assert [found for found in store.check() if found.ref is not None] == []
    store.receive_many(ROWS)
    assert {blob.ref: blob.data for blob in store.stream()} == BLOBS
    store.compact(0.1)
    assert {blob.ref: blob.data for blob in store.stream()} == BLOBS
    store.close()


# -- calls that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize("bytes_per_write", [10, 1 << 20])
def test_a_full_disk_leaves_no_torn_record(bytes_per_write: int, tmp_path: Path) -> None:
    machine = Machine(1 << 20)
    machine.store.receive_many(ROWS[:4])
    before = machine.packs()
    machine.files.bytes_per_write = bytes_per_write
    for after in range(5):
        machine.fail("write_at", errno.ENOSPC, after)
        if bytes_per_write == 10 or after == 0:
            with pytest.raises(Unavailable, match=r"pack-00000\.blobs: No space left"):
                machine.store.receive_many(ROWS[4:])
        machine.leave_alone()
        assert machine.packs() == before
    machine.store.receive_many(ROWS[4:])
    assert {ref: machine.store.fetch(ref) for ref in BLOBS} == BLOBS
    folder = machine.save(tmp_path / "packs")
    assert {ref: data for _, ref, data in walk_as_perkeep(folder)} == BLOBS


def test_a_torn_record_that_can_not_be_cut_off_ends_writing(tmp_path: Path) -> None:
    machine = Machine(1 << 20)
    machine.store.receive_many(ROWS[:4])

    def before(name: str, path: str) -> None:
        if name in {"write_at", "truncate"}:
            raise OSError(errno.EIO, "Input/output error", path)

    machine.watch(before)
    with pytest.raises(Unavailable):
        machine.store.receive(*ROWS[5])
    machine.leave_alone()
    with pytest.raises(ReadOnly):
        machine.store.receive(*ROWS[5])
    assert machine.store.fetch(ROWS[0][0]) == ROWS[0][1]
    machine.store.close()
    machine.open().receive_many(ROWS)
    folder = machine.save(tmp_path / "packs")
    assert {ref: data for _, ref, data in walk_as_perkeep(folder)} == BLOBS
    assert any("unreadable" in remark for remark in machine.store.remarks)


def test_after_a_failed_sync_nothing_is_promised_any_more() -> None:
    machine = Machine()
    machine.store.receive(*ROWS[0])
    machine.fail("sync_data")
    with pytest.raises(ReadOnly, match="sync failed"):
        machine.store.receive(*ROWS[1])
    machine.leave_alone()
    for write in (
        lambda: machine.store.receive(*ROWS[2]),
        lambda: machine.store.sync(),
        lambda: machine.store.remove([ROWS[0][0]]),
        lambda: machine.store.compact(0),
    ):
        with pytest.raises(ReadOnly):
            write()
    assert list(machine.store.stat(BLOBS)) == [(ROWS[0][0], len(ROWS[0][1]))]
    assert machine.store.fetch(ROWS[0][0]) == ROWS[0][1]
    with pytest.raises(NotFound):
        machine.store.fetch(ROWS[1][0])


def test_a_failed_sync_while_removing_ends_writing() -> None:
    machine = Machine()
    machine.store.receive_many(ROWS)
    machine.fail("sync_data")
    with pytest.raises(ReadOnly):
        machine.store.remove([ROWS[0][0]])
    machine.leave_alone()
    with pytest.raises(ReadOnly):
        machine.store.receive(*ROWS[0])


def test_rows_that_the_index_refuses_wait_for_the_next_sync() -> None:
    machine = Machine()
    machine.fail("commit", errno.ENOSPC)
    with pytest.raises(Unavailable):
        machine.store.receive_many(ROWS)
    assert list(machine.store.enumerate()) == []
    machine.leave_alone()
    before = machine.packs()
    machine.store.sync()
    assert {ref: machine.store.fetch(ref) for ref in BLOBS} == BLOBS
    assert machine.packs() == before


def test_a_new_pack_whose_name_can_not_be_synced_ends_writing() -> None:
    machine = Machine(0)
    machine.store.receive(*ROWS[0])
    machine.fail("fsync")
    with pytest.raises(ReadOnly):
        machine.store.receive(*ROWS[1])
    machine.leave_alone()
    with pytest.raises(ReadOnly):
        machine.store.receive(*ROWS[1])
    machine.store.close()
    assert machine.files.open_count == 0
    machine.open().receive_many(ROWS)


@pytest.mark.parametrize("operation", ["open_new", "open_lock"])
def test_a_pack_that_can_not_be_made_is_tried_again(operation: str, tmp_path: Path) -> None:
    machine = Machine(0)
    machine.store.receive(*ROWS[0])
    machine.fail(operation, errno.ENOSPC)
    with pytest.raises(Unavailable):
        machine.store.receive(*ROWS[1])
    machine.leave_alone()
    machine.store.receive_many(ROWS)
    machine.store.close()
    assert machine.files.open_count == 0
    assert {ref: machine.open().fetch(ref) for ref in [ROWS[0][0]]} == dict(ROWS[:1])
    folder = machine.save(tmp_path / "packs")
    assert {ref: data for _, ref, data in walk_as_perkeep(folder)} == BLOBS


@pytest.mark.parametrize(
    "operation", ["list_folder", "open_lock", "open_write", "sync_data", "open_new", "read_at"]
)
def test_an_opening_that_fails_leaves_nothing_open_or_locked(operation: str) -> None:
    machine = Machine()
    machine.store.receive_many(ROWS)
    machine.store.close()
    machine.rows.wipe()
    machine.files.unlink(f"{ROOT}/GENERATION.dat")
    machine.fail(operation, errno.EACCES if operation == "read_at" else errno.EIO)
    with pytest.raises(Unavailable):
        machine.open()
    machine.leave_alone()
    assert machine.files.open_count == 0
    store = machine.open()
    assert {ref: store.fetch(ref) for ref in BLOBS} == BLOBS


def test_a_store_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        DiskPacked(tmp_path / "missing", MemoryKeyValue())


# -- two users ----------------------------------------------------------------------------------


def test_a_second_store_of_the_same_process_is_refused(tmp_path: Path) -> None:
    with DiskPacked(tmp_path, MemoryKeyValue()) as store:
        with pytest.raises(Unavailable, match=r"pack-00000.blobs.lock.*another store"):
            DiskPacked(tmp_path, MemoryKeyValue())
        store.receive(*ROWS[0])
        with pytest.raises(Unavailable):
            DiskPacked(tmp_path, MemoryKeyValue())
    with DiskPacked(tmp_path, MemoryKeyValue()) as store:
        assert store.fetch(ROWS[0][0]) == ROWS[0][1]


OTHER = """
import sys
from pathlib import Path
from peatkeep.blobserver.diskpacked import DiskPacked
from peatkeep.sorted.memory import MemoryKeyValue
from peatkeep.errors import Unavailable
try:
    DiskPacked(Path(sys.argv[1]), MemoryKeyValue(), 0)
except Unavailable as error:
    print(error)
    sys.exit(3)
print("open", flush=True)
sys.stdin.read()
"""


def other_process(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", OTHER, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_second_process_is_refused_also_after_a_roll_over(tmp_path: Path) -> None:
    with DiskPacked(tmp_path, MemoryKeyValue(), 0) as store:
        for number in range(3):
            store.receive(*ROWS[number])
            output, _ = other_process(tmp_path).communicate()
            assert f"pack-{number:05}.blobs.lock" in output
    assert not list(tmp_path.glob("*.lock"))


def test_a_killed_process_leaves_a_lock_file_in_nobodys_way(tmp_path: Path) -> None:
    other = other_process(tmp_path)
    assert other.stdout is not None
    assert other.stdout.readline() == "open\n"
    with pytest.raises(Unavailable, match="another program"):
        DiskPacked(tmp_path, MemoryKeyValue())
    other.kill()
    other.communicate()
    assert (tmp_path / "pack-00000.blobs.lock").exists()
    with DiskPacked(tmp_path, MemoryKeyValue()) as store:
        store.receive(*ROWS[0])


# -- threads ------------------------------------------------------------------------------------


def test_one_blob_from_many_threads_makes_one_record(tmp_path: Path) -> None:
    data = os.urandom(5000)
    ref = Ref.of(data)
    with DiskPacked(tmp_path, MemoryKeyValue()) as store:
        work: Callable[[], None] = lambda: store.receive(ref, data) and None  # noqa: E731
        run_together(*[work] * 8)
    assert [found for _, found, _ in walk_as_perkeep(tmp_path)] == [ref]


def test_reading_goes_on_while_packs_are_compacted(tmp_path: Path) -> None:
    blobs = sample(300)
    with DiskPacked(tmp_path, MemoryKeyValue(), 2000) as store:
        store.receive_many(blobs.items())
        kept = dict(list(blobs.items())[::3])
        store.remove(ref for ref in blobs if ref not in kept)

        def read() -> None:
            for _ in range(6):
                for ref, data in kept.items():
                    assert store.fetch(ref) == data
                    assert store.fetch_range(ref, 2, 5) == data[2:7]
                assert dict(store.fetch_many(kept)) == kept
                assert {ref for ref, _ in store.stat(kept)} == kept.keys()
                assert [ref for ref, _ in store.enumerate()] == sorted(kept)
                assert {blob.ref for blob in store.stream()} == kept.keys()

        def compact() -> None:
            for _ in range(4):
                store.compact(0)

        run_together(read, read, compact)
        assert list(store.check()) == []


def test_a_pack_that_an_earlier_process_left_unsynced_is_synced_first(tmp_path: Path) -> None:
    synced: list[int] = []

    class Watched(PackFileSystem):
        def sync_data(self, descriptor: int) -> None:
            synced.append(descriptor)
            super().sync_data(descriptor)

    with DiskPacked(tmp_path, MemoryKeyValue()) as store:
        store.receive(*ROWS[0])
    with DiskPacked(tmp_path, MemoryKeyValue(), files=Watched()) as store:
        assert synced
        assert store.fetch(ROWS[0][0]) == ROWS[0][1]
