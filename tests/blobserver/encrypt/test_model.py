"""Encrypted stores against a dictionary: reopening, crashes, damage, lost indexes, compaction."""

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule

from peatkeep.blob import Ref
from peatkeep.blobserver.encrypt.lines import Place
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.storage import Storage
from peatkeep.sorted.kv import Batch
from tests.blobserver.encrypt.stores import Below, Rows
from tests.blobserver.test_model import CONTENTS, Model


class CrashingRows(Rows):
    """Forgets in a power cut what was not committed durably."""

    def __init__(self) -> None:
        super().__init__()
        self._durable: list[tuple[bytes, bytes]] = []

    def commit(self, batch: Batch, durable: bool = True) -> None:
        super().commit(batch, durable)
        if durable:
            self._durable = list(self.find())

    def cut_power(self) -> None:
        rows = self._durable
        self.wipe()
        for key, value in rows:
            self.set(key, value)


class EncryptModel(Model):
    """Adds what happens to machines, and to the stores below."""

    def open(self) -> Storage:
        self.below = Below()
        self.below.rows, self.below.memory = CrashingRows(), CrashingRows()
        return self.below.open()

    def _again(self) -> None:
        # What was not synced is gone below as well.
        for store in self.below.stores:
            assert isinstance(store, Memory)
            store._unsynced.clear()
        self.waiting.clear()
        self.storage = self.below.open()

    @rule(is_index_lost=st.booleans(), is_memory_lost=st.booleans())
    def reopen(self, is_index_lost: bool, is_memory_lost: bool) -> None:
        self.storage.close()
        # A damaged copy that is not known to be one would be taken for gone by a new machine.
        if is_index_lost and not self.damaged:
            self.below.rows = CrashingRows()
        if is_memory_lost and not self.damaged:
            self.below.memory = CrashingRows()
        self._again()

    @rule()
    def lose_power(self) -> None:
        self.storage.close()
        for rows in (self.below.rows, self.below.memory):
            assert isinstance(rows, CrashingRows)
            rows.cut_power()
        self._again()

    @rule()
    def compact(self) -> None:
        self.storage.compact()  # type: ignore[attr-defined]

    @rule(content=CONTENTS)
    def damage(self, content: bytes) -> None:
        ref = Ref.of(content)
        row = self.below.rows.get(ref.encode())
        if row is None or ref in self.waiting:
            return
        place = Place.of_row(row)
        assert place is not None
        assert isinstance(self.below.blobs, Memory)
        self.below.blobs._blobs[place.sealed] = b"damaged"
        # Storing a damaged blob again leaves the old copy, which is damaged for good.
        self.damaged.add(ref)

    @rule(content=CONTENTS)
    def lose_a_meta_blob(self, content: bytes) -> None:
        listed = [ref for ref, _ in self.below.metas.enumerate()]
        if listed and not self.damaged:
            self.below.metas.remove([listed[len(content) % len(listed)]])


class TestEncrypt(EncryptModel.TestCase): ...  # type: ignore[name-defined]


TestEncrypt.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
