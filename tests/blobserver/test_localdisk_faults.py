"""localdisk when calls of the file system fail, and when the power does."""

import errno
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.conformance import run_together, sample
from peatkeep.blobserver.filesystem import FileSystem
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.loosewriter import SMALL_GROUP
from peatkeep.errors import Corrupt, NotFound, ReadOnly, Unavailable
from tests.blobserver.powercut import PowerCut, SimulatedFiles

STORE = Path("/store")
SMALL = sample(2)
LARGE = sample(SMALL_GROUP * 5)


# -- writing ------------------------------------------------------------------------------------


def test_short_writes_are_completed() -> None:
    files = SimulatedFiles()
    files.bytes_per_write = 3
    with LocalDisk(STORE, files) as store:
        store.receive_many(LARGE.items())
        assert {ref: store.fetch(ref) for ref in LARGE} == LARGE


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.EROFS]
)
@pytest.mark.parametrize("operation", ["open_new", "write", "make_folder"])
def test_a_batch_that_cannot_be_written_leaves_nothing(operation: str, number: int) -> None:
    files = SimulatedFiles()
    files.bytes_per_write = 5
    with LocalDisk(STORE, files) as store:
        calls = 0

        def before(name: str, path: str) -> None:
            nonlocal calls
            calls += name == operation
            if name == operation and calls > 7:
                raise OSError(number, os.strerror(number), path)

        files.before = before
        error = ReadOnly if number == errno.EROFS else Unavailable
        with pytest.raises(error, match=f"/store/sha224.*{os.strerror(number)}"):
            store.receive_many(LARGE.items())
        assert calls == 8
        assert set(files.files()) == {"GENERATION.dat"}
        assert files.open_count == 1
        files.work_again()
        assert list(store.enumerate()) == []
        store.receive_many(LARGE.items())  # works again without restart
        assert {ref: store.fetch(ref) for ref in LARGE} == LARGE


@pytest.mark.parametrize("blobs", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_rename_that_fails_can_be_repeated(blobs: dict[Ref, bytes], number: int) -> None:
    files = SimulatedFiles()
    with LocalDisk(STORE, files) as store:
        files.fail("rename", number, f"{list(blobs)[1]}.dat")
        with pytest.raises(Unavailable, match="/store/sha224"):
            store.receive_many(blobs.items())
        assert list(store.enumerate()) == []
        with pytest.raises(Unavailable):
            store.sync()
        files.work_again()
        store.sync()
        assert [ref for ref, _ in store.enumerate()] == list(blobs)
        files.cut_power()
    with LocalDisk(STORE, files) as store:
        assert {ref: store.fetch(ref) for ref in blobs} == blobs


@pytest.mark.parametrize("blobs", [SMALL, LARGE], ids=["small", "large"])
def test_after_a_failed_sync_the_store_is_read_only(blobs: dict[Ref, bytes]) -> None:
    files = SimulatedFiles()
    there = Ref.of(b"there")
    with LocalDisk(STORE, files) as store:
        store.receive(there, b"there")
        failed = files.fail("fsync" if blobs is SMALL else "sync_all", errno.EIO)
        with pytest.raises(ReadOnly, match=r"/store.*sync failed"):
            store.receive_many(blobs.items())
        assert failed == [errno.EIO]
        files.work_again()
        for work in (
            store.sync,
            lambda: store.receive_many(blobs.items()),
            lambda: store.write_many(SMALL.items()),
            lambda: store.remove([there]),
        ):
            with pytest.raises(ReadOnly, match="restart"):
                work()
        assert store.fetch(there) == b"there"
        assert list(store.enumerate()) == [SizedRef(there, 5)]


def test_a_vanished_temporary_file_is_never_acknowledged() -> None:
    files = SimulatedFiles()
    with LocalDisk(STORE, files) as store:
        store.write_many(SMALL.items())
        for name in [name for name in files.files() if ".tmp" in name][:1]:
            files.unlink(f"/store/{name}")
        for _ in range(2):
            with pytest.raises(ReadOnly):
                store.sync()


def test_a_failed_sync_at_the_start_leaves_the_store_readable() -> None:
    files = SimulatedFiles()
    with LocalDisk(STORE, files) as store:
        store.receive_many(SMALL.items())
    files.fail("sync_all", errno.EIO)
    with LocalDisk(STORE, files) as store:
        assert {ref: store.fetch(ref) for ref in SMALL} == SMALL
        with pytest.raises(ReadOnly):
            store.receive_many(SMALL.items())


def test_what_is_there_undamaged_is_not_written_again() -> None:
    files = SimulatedFiles()
    with LocalDisk(STORE, files) as store:
        store.receive_many(LARGE.items())
        files.calls.clear()
        for _ in range(2):
            store.receive_many(LARGE.items())
        assert not {"open_new", "rename", "write"} & set(files.calls)
        assert files.calls.count("read") <= 2 * len(LARGE)
        files.calls.clear()
        store.receive_many(LARGE.items())
        assert set(files.calls) == {"status"}


def test_a_blob_given_many_times_is_written_once() -> None:
    files = SimulatedFiles()
    ref = Ref.of(b"twin")
    with LocalDisk(STORE, files) as store:
        files.calls.clear()
        assert store.write_many([(ref, b"twin")] * 9) == [SizedRef(ref, 4)] * 9
        store.write_many([(ref, b"twin")])
        store.sync()
        assert files.calls.count("write") == files.calls.count("rename") == 1


class Overtaken(FileSystem):
    """While the first blob is written, somebody else stores it."""

    def __init__(self) -> None:
        self.overtake: list[Callable[[], object]] = []

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.overtake:
            self.overtake.pop()()
        return super().write(descriptor, data)


def test_a_blob_stays_visible_that_another_has_stored_while_we_wrote_it(tmp_path: Path) -> None:
    files = Overtaken()
    with LocalDisk(tmp_path, files) as store:
        ref, data = Ref.of(b"the same"), b"the same"
        files.overtake.append(lambda: store.receive(ref, data))
        store.write_many([(ref, data)])
        assert [found.ref for found in store.stat([ref])] == [ref]
        assert store.fetch(ref) == data
        store.sync()
        assert store.fetch(ref) == data
    assert [path.suffix for path in tmp_path.rglob("sha224-*")] == [".dat"]


def test_a_failed_sync_reaches_everyone_who_waits(tmp_path: Path) -> None:
    class Failing(FileSystem):
        entered = threading.Event()
        leave = threading.Event()

        def fsync(self, descriptor: int) -> None:
            self.entered.set()
            assert self.leave.wait(60)
            raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "GENERATION.dat").write_text("A" * 26 + "\n")
    files = Failing()
    answers: list[str] = []

    def store_one(data: bytes) -> None:
        try:
            store.receive(Ref.of(data), data)
            answers.append("stored")
        except ReadOnly:
            answers.append("read-only")

    with LocalDisk(tmp_path, files) as store:
        leader = threading.Thread(target=store_one, args=(b"leader",))
        leader.start()
        assert files.entered.wait(60)
        waiters = [threading.Thread(target=store_one, args=(b"%d" % n,)) for n in range(5)]
        for waiter in waiters:
            waiter.start()
        files.leave.set()
        for thread in (leader, *waiters):
            thread.join(60)
        assert answers == ["read-only"] * 6
        assert list(store.enumerate()) == []


def test_one_sync_serves_those_who_wait_for_it(tmp_path: Path) -> None:
    class Slow(FileSystem):
        syncs = 0
        entered = threading.Event()
        leave = threading.Event()

        def fsync(self, descriptor: int) -> None:
            self._wait()
            super().fsync(descriptor)

        def sync_all(self, descriptor: int) -> None:
            self._wait()
            super().sync_all(descriptor)

        def _wait(self) -> None:
            Slow.syncs += 1
            self.entered.set()
            assert self.leave.wait(60)

    files = Slow()
    files.leave.set()
    blobs = sample(40)
    with LocalDisk(tmp_path, files) as store:
        files.leave.clear()
        files.entered.clear()
        written = threading.Semaphore(0)
        plain_wrote = store._writer._group.wrote

        def wrote() -> None:
            plain_wrote()
            written.release()

        store._writer._group.wrote = wrote  # type: ignore[method-assign]
        works = [lambda ref=ref, data=data: store.receive(ref, data) for ref, data in blobs.items()]

        def let_go() -> None:
            for _ in works:
                assert written.acquire(timeout=60)
            Slow.syncs = 0
            files.leave.set()

        run_together(let_go, *works)
        assert list(store.enumerate()) == [SizedRef(r, len(d)) for r, d in blobs.items()]
    # The first leader had what was written when it began; one or two more groups take the rest.
    assert Slow.syncs < len(blobs)


# -- power cuts ---------------------------------------------------------------------------------


class Forgetful(SimulatedFiles):
    """The planted bug: folders are never synced."""

    def sync_folder(self, path: str) -> None: ...


def cut_everywhere(make: Callable[[], SimulatedFiles], seed: int) -> list[str]:
    """Cut the power at every call of a run; returns what went wrong, if anything did."""
    problems: list[str] = []
    for cut in range(10_000):
        files = make()
        acknowledged: dict[Ref, bytes] = {}
        removed: set[Ref] = set()
        calls = 0

        def before(_name: str, _path: str, cut: int = cut) -> None:
            nonlocal calls
            calls += 1
            if calls > cut:
                raise PowerCut

        files.before = before
        finished = True
        try:
            store = LocalDisk(STORE, files)
            for batch in (SMALL, LARGE, sample(1), sample(SMALL_GROUP * 5 + 3)):
                store.receive_many(batch.items())
                acknowledged |= batch
                removed -= set(batch)
            victims = list(SMALL)
            for ref in victims:
                acknowledged.pop(ref)
            store.remove(victims)
            removed.update(victims)
        except PowerCut:
            finished = False
        files.cut_power(random.Random(seed * 10_007 + cut) if seed else None)
        with LocalDisk(STORE, files) as store:
            for ref, data in acknowledged.items():
                try:
                    assert store.fetch(ref) == data
                except (NotFound, Corrupt) as error:
                    problems.append(f"cut at call {cut}: {error}")
            for ref, _ in store.enumerate():
                if ref in removed:
                    problems.append(f"cut at call {cut}: {ref} is back")
                try:
                    store.fetch(ref)
                except Corrupt as error:
                    problems.append(f"cut at call {cut}: {error}")
            store.receive_many(LARGE.items())
        if finished:
            return problems
    raise AssertionError("the run never ends")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("can_sync_all", [True, False])
def test_a_power_cut_loses_nothing_acknowledged(can_sync_all: bool, seed: int) -> None:
    assert cut_everywhere(lambda: SimulatedFiles(can_sync_all), seed) == []


def test_the_power_cut_test_notices_folders_that_are_not_synced() -> None:
    assert cut_everywhere(Forgetful, 0) != []


def test_a_store_opened_after_a_power_cut_adopts_what_was_left() -> None:
    """A blob renamed by an earlier process, whose folder nobody synced, is durable once listed."""
    files = SimulatedFiles()

    def before(name: str, _path: str) -> None:
        if name == "fsync" and "rename" in files.calls:
            raise PowerCut

    store = LocalDisk(STORE, files)
    files.calls.clear()
    files.before = before
    with pytest.raises(PowerCut):
        store.receive_many(SMALL.items())
    files.work_again()  # the process died, the machine did not
    with LocalDisk(STORE, files) as store:
        listed = [ref for ref, _ in store.enumerate()]
        assert listed == list(SMALL)
        files.cut_power()
    with LocalDisk(STORE, files) as store:
        assert {ref: store.fetch(ref) for ref in SMALL} == SMALL


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_takes_no_files_is_readable_without_a_generation(number: int) -> None:
    files = SimulatedFiles()
    with LocalDisk(STORE, files) as store:
        store.receive_many(SMALL.items())
    files.unlink("/store/GENERATION.dat")
    files.fail("open_new", number)
    with LocalDisk(STORE, files) as store:
        assert store.generation() is None
        assert {ref: store.fetch(ref) for ref in SMALL} == SMALL
        with pytest.raises((Unavailable, ReadOnly)):
            store.receive_many(LARGE.items())


def test_a_power_cut_leaves_no_half_generation_file() -> None:
    for cut in range(30):
        files = SimulatedFiles()
        calls = 0

        def before(_name: str, _path: str, cut: int = cut) -> None:
            nonlocal calls
            calls += 1
            if calls > cut:
                raise PowerCut

        files.before = before
        try:
            LocalDisk(STORE, files)
        except PowerCut:
            pass
        files.cut_power(random.Random(cut))
        assert len(files.files().get("GENERATION.dat", b"." * 100)) >= 100
