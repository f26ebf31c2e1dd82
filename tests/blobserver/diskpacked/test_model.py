"""Packs against a dictionary: random operations, reopening, power cuts, damage, full disks."""

import errno
import random
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import initialize, precondition, rule

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import Corrupt, NotFound, ReadOnly, Unavailable
from tests.blobserver.diskpacked.simulated import Machine
from tests.blobserver.test_model import BATCHES, CONTENTS, Model
from tests.independent.diskpacked import walk_as_perkeep


class DiskPackedModel(Model):
    """Adds what happens to disks."""

    @initialize(
        max_file_size=st.sampled_from([0, 300, 2000, 1 << 20]),
        bytes_per_write=st.sampled_from([50, 1000]),
    )
    def choose_machine(self, max_file_size: int, bytes_per_write: int) -> None:
        self.storage.close()
        self.machine = Machine(max_file_size)
        self.was_opened_blind = False
        self.machine.files.bytes_per_write = bytes_per_write
        self.storage = self.machine.store

    def open(self) -> Storage:
        return Memory()  # until the machine is chosen

    def open_again(self) -> Storage:
        """Where there are no rows, what is unreadable may be damage, and is left for a reindex."""
        self.was_opened_blind |= next(iter(self.machine.rows.find()), None) is None
        return self.machine.open()

    def become_durable(self) -> None:
        self.there.update(self.waiting)
        self.damaged -= self.waiting.keys()
        self.waiting.clear()

    def settle(self) -> None:
        """After a break nobody was told of what waited: it may be there or not."""
        for ref, _ in self.storage.enumerate():
            if ref not in self.there:
                assert self.storage.fetch(ref) == self.waiting[ref]
                self.there[ref] = self.waiting[ref]
        for ref in self.damaged & self.waiting.keys():
            try:
                self.storage.fetch(ref)
            except (Corrupt, NotFound):
                continue
            self.damaged.discard(ref)
        self.waiting.clear()

    @rule()
    def reopen(self) -> None:
        self.storage.close()
        assert self.machine.files.open_count == 0
        self.storage = self.open_again()
        self.settle()

    @rule(seed=st.integers(0, 1000))
    def lose_power(self, seed: int) -> None:
        self.machine.files.cut_power(random.Random(seed) if seed else None)
        self.storage = self.open_again()
        self.settle()

    @rule(content=CONTENTS)
    def flip_a_byte(self, content: bytes) -> None:
        ref = Ref.of(content)
        row = self.machine.rows.get(ref.encode())
        if row is None or not content or ref in self.waiting:
            return
        pack, offset, size = (int(part) for part in row.split())
        name = f"pack-{pack:05}.blobs"
        data = bytearray(self.machine.packs()[name])
        data[offset + size // 2] ^= 1
        self.machine.files.damage(name, bytes(data))
        # Flipping it a second time brings it back.
        self.damaged ^= {ref}

    @rule(
        contents=BATCHES,
        operation=st.sampled_from(["open_new", "write_at", "open_lock", "commit"]),
        after=st.integers(0, 10),
    )
    def fill_the_disk(self, contents: list[bytes], operation: str, after: int) -> None:
        self.machine.fail(operation, errno.ENOSPC, after)
        batch = [(Ref.of(data), data) for data in contents]
        try:
            self.storage.receive_many(batch)
        except Unavailable:
            self.machine.leave_alone()
            self.storage.receive_many(batch)
        self.machine.leave_alone()
        self.waiting.update(batch)
        self.become_durable()

    @rule(contents=BATCHES)
    @precondition(lambda self: len(self.there) > 3)
    def fail_a_sync(self, contents: list[bytes]) -> None:
        self.machine.fail("sync_data")
        batch = [(Ref.of(data), data) for data in contents]
        try:
            self.storage.receive_many(batch)
        except ReadOnly:
            pass
        self.machine.leave_alone()
        self.waiting.update(batch)
        self.storage.close()
        self.storage = self.open_again()
        self.settle()

    @rule(share=st.sampled_from([0.0, 0.25, 0.9]))
    def compact(self, share: float) -> None:
        self.storage.compact(share)  # type: ignore[attr-defined]
        self.become_durable()

    @rule()
    def reindex(self) -> None:
        found = self.storage.reindex()  # type: ignore[attr-defined]
        self.become_durable()
        named = {damaged.ref for damaged in found.damaged} - {None}
        assert named <= self.damaged
        self.damaged = named  # of the others a second record was found

    @rule()
    def lose_the_index(self) -> None:
        """Every blob whose bytes are intact comes back with the packs alone."""
        self.storage.sync()
        self.become_durable()
        self.storage.close()
        before = dict(self.machine.rows.find())
        self.machine.rows.wipe()
        self.storage = self.open_again()
        for ref, data in self.there.items():
            if ref not in self.damaged:
                assert self.storage.fetch(ref) == data
        assert {ref for ref, _ in self.storage.enumerate()} <= self.there.keys()
        self.storage.close()
        self.machine.rows.wipe()
        for key, value in before.items():
            self.machine.rows.set(key, value)
        self.storage = self.open_again()

    def teardown(self) -> None:
        if hasattr(self, "machine") and self.was_opened_blind:
            self.reindex()
        super().teardown()
        if hasattr(self, "machine"):
            with tempfile.TemporaryDirectory() as name:
                folder = self.machine.save(Path(name))
                seen = {(ref, data) for _, ref, data in walk_as_perkeep(folder)}
            assert {blob for blob in self.there.items() if blob[0] not in self.damaged} <= seen


class TestDiskPacked(DiskPackedModel.TestCase): ...  # type: ignore[name-defined]


TestDiskPacked.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
