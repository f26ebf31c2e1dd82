"""Stores against a dictionary: random operations, reopening, power cuts, damage."""

import errno
import random
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.loose import folder_of
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import Corrupt, NotFound, ReadOnly, Unavailable
from tests.blobserver.powercut import SimulatedFiles

CONTENTS = st.integers(0, 25).map(lambda n: b"" if n == 0 else b"content %d" % n * n)
BATCHES = st.lists(CONTENTS, max_size=30)
ROOT = Path("/store")


class Model(RuleBasedStateMachine):
    """What every store must do. `there`: durable blobs; `waiting`: written, not synced."""

    def __init__(self) -> None:
        super().__init__()
        self.there: dict[Ref, bytes] = {}
        self.waiting: dict[Ref, bytes] = {}
        self.damaged: set[Ref] = set()
        self.storage: Storage = self.open()

    def open(self) -> Storage:
        return Memory()

    @rule(contents=BATCHES)
    def write(self, contents: list[bytes]) -> None:
        batch = [(Ref.of(data), data) for data in contents]
        answer = self.storage.write_many(batch)
        assert answer == [SizedRef(ref, len(data)) for ref, data in batch]
        self.waiting.update(batch)

    @rule()
    def sync(self) -> None:
        self.storage.sync()
        self.there.update(self.waiting)
        self.damaged -= self.waiting.keys()
        self.waiting.clear()

    @rule(contents=BATCHES)
    def receive(self, contents: list[bytes]) -> None:
        self.storage.receive_many([(Ref.of(data), data) for data in contents])
        self.waiting.update((Ref.of(data), data) for data in contents)
        self.there.update(self.waiting)
        self.damaged -= self.waiting.keys()
        self.waiting.clear()

    @rule(contents=BATCHES)
    def remove(self, contents: list[bytes]) -> None:
        refs = [Ref.of(data) for data in contents]
        self.storage.remove(refs)
        for ref in refs:
            self.there.pop(ref, None)
            self.waiting.pop(ref, None)
            self.damaged.discard(ref)

    @rule(content=CONTENTS, offset=st.integers(0, 30), length=st.integers(0, 30))
    def fetch(self, content: bytes, offset: int, length: int) -> None:
        ref = Ref.of(content)
        try:
            data = self.storage.fetch(ref)
            assert ref in self.there
            assert data == content
            if offset <= len(content):
                part = self.storage.fetch_range(ref, offset, length)
                assert part == content[offset : offset + length]
        except NotFound:
            assert ref not in self.there
        except Corrupt:
            assert ref in self.damaged

    @rule(after=st.one_of(CONTENTS.map(Ref.of), st.text("sha24-0f~", max_size=12)))
    def list_after(self, after: str) -> None:
        listed = [ref for ref, _ in self.storage.enumerate(after)]
        assert listed == sorted(ref for ref in self.there if ref > after)

    @invariant()
    def exactly_the_durable_blobs_are_seen(self) -> None:
        sizes = {ref: len(data) for ref, data in self.there.items() if ref not in self.damaged}
        assert [ref for ref, _ in self.storage.enumerate()] == sorted(self.there)
        found = dict(self.storage.stat([*self.there, *self.waiting]))
        assert found.keys() == self.there.keys()
        assert {ref: found[ref] for ref in sizes} == sizes

    def teardown(self) -> None:
        self.storage.close()


class LocalDiskModel(Model):
    """Adds what happens to disks."""

    @initialize(can_sync_all=st.booleans(), bytes_per_write=st.sampled_from([3, 1000]))
    def choose_files(self, can_sync_all: bool, bytes_per_write: int) -> None:
        self.storage.close()
        self.files = SimulatedFiles(can_sync_all)
        self.files.bytes_per_write = bytes_per_write
        self.storage = LocalDisk(ROOT, self.files)

    def open(self) -> Storage:
        return Memory()  # until the files are chosen

    @rule()
    def reopen(self) -> None:
        self.storage.close()
        self.waiting.clear()
        self.storage = LocalDisk(ROOT, self.files)

    @rule(seed=st.integers(0, 1000))
    def lose_power(self, seed: int) -> None:
        self.files.cut_power(random.Random(seed) if seed else None)
        self.storage = LocalDisk(ROOT, self.files)
        self.waiting.clear()

    @rule(content=CONTENTS, damage=st.sampled_from([b"", b"wrong", b"content 3"]))
    def damage(self, content: bytes, damage: bytes) -> None:
        ref = Ref.of(content)
        if ref in self.there and damage != content:
            self.files.damage(f"{folder_of(ref)}/{ref}.dat", damage)
            self.damaged.add(ref)
            # A copy that waits is intact, but whether one waits depends on when it was written.
            if ref in self.waiting:
                self.storage.write_many([(ref, content)])
                self.storage.sync()
                self.there.update(self.waiting)
                self.damaged -= self.waiting.keys()
                self.waiting.clear()

    @rule(
        contents=BATCHES,
        operation=st.sampled_from(["open_new", "write", "rename", "make_folder"]),
        after=st.integers(0, 10),
    )
    def fill_the_disk(self, contents: list[bytes], operation: str, after: int) -> None:
        calls = 0

        def before(name: str, path: str) -> None:
            nonlocal calls
            calls += name == operation
            if name == operation and calls > after:
                raise OSError(errno.ENOSPC, "No space left on device", path)

        self.files.before = before
        batch = [(Ref.of(data), data) for data in contents]
        try:
            self.storage.receive_many(batch)
        except Unavailable:
            self.files.work_again()
            self.storage.receive_many(batch)
        self.files.work_again()
        self.waiting.update(batch)
        self.there.update(self.waiting)
        self.damaged -= self.waiting.keys()
        self.waiting.clear()

    @rule(contents=BATCHES)
    @precondition(lambda self: len(self.there) > 3)
    def fail_a_sync(self, contents: list[bytes]) -> None:
        def before(name: str, path: str) -> None:
            if name in {"fsync", "sync_all"}:
                raise OSError(errno.EIO, "Input/output error", path)

        batch = [(Ref.of(data), data) for data in contents]
        self.files.before = before
        try:
            self.storage.receive_many(batch)
        except ReadOnly:
            self.waiting.update(batch)
        else:
            assert {ref for ref, _ in batch} <= self.there.keys()
        self.files.work_again()
        self.storage.close()
        self.storage = LocalDisk(ROOT, self.files)
        # The sync failed: what was on its way may have arrived or not, and nobody was told yes.
        for ref, _ in self.storage.enumerate():
            if ref not in self.there:
                assert self.storage.fetch(ref) == self.waiting[ref]
                self.there[ref] = self.waiting[ref]
        for ref in list(self.damaged & self.waiting.keys()):
            try:
                self.storage.fetch(ref)
                self.damaged.discard(ref)
            except Corrupt:
                pass
        self.waiting.clear()


LIMITS = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


class TestMemory(Model.TestCase): ...  # type: ignore[name-defined]


class TestLocalDisk(LocalDiskModel.TestCase): ...  # type: ignore[name-defined]


TestMemory.settings = LIMITS
TestLocalDisk.settings = LIMITS
