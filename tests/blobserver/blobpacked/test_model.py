"""blobpacked against a dictionary: packing, removing, and the power going at any step."""

import random
from collections.abc import Iterable
from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import precondition, rule

from peatkeep.blob import Ref
from peatkeep.blobserver.blobpacked import BlobPacked
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import NotFound
from peatkeep.schema.text import encode
from peatkeep.sorted.kv import Batch
from peatkeep.sorted.memory import MemoryKeyValue
from tests.blobserver.powercut import PowerCut, SimulatedFiles
from tests.blobserver.test_model import BATCHES, ROOT, Model

CHUNKS = [random.Random(number).randbytes(180_000 + number) for number in range(4)]
FILES = st.lists(st.integers(0, 3), min_size=3, max_size=4)
BURSTS = st.integers(1, 400)


def file_blobs(numbers: Iterable[int]) -> dict[Ref, bytes]:
    """The blobs of a file with these chunks, its file blob last; two levels deep."""
    chunks = [CHUNKS[number] for number in numbers]
    blobs = {Ref.of(chunk): chunk for chunk in chunks}
    parts: list[dict[str, object]] = [
        {"blobRef": Ref.of(chunk), "size": len(chunk)} for chunk in chunks
    ]
    inner = encode({"camliType": "bytes", "parts": parts[:2]})
    size = len(chunks[0]) + len(chunks[1])
    outer = encode(
        {"camliType": "file", "parts": [{"bytesRef": Ref.of(inner), "size": size}, *parts[2:]]}
    )
    return {**blobs, Ref.of(inner): inner, Ref.of(outer): outer}


class Rows(MemoryKeyValue):
    """Rows that survive; `before` is called ahead of each commit."""

    def __init__(self, world: "BlobPackedModel") -> None:
        super().__init__()
        self._world = world

    def commit(self, batch: Batch, durable: bool = True) -> None:
        assert durable, "rows must be durable before loose copies go"
        self._world.step("commit", "")
        super().commit(batch, durable)


class BlobPackedModel(Model):
    """Adds files, power cuts at any step, and the loss of the rows."""

    def open(self) -> Storage:
        self.steps_left = -1
        self.small, self.large, self.rows = SimulatedFiles(), SimulatedFiles(), Rows(self)
        return self.reopened()

    def reopened(self) -> BlobPacked:
        self.small.before = self.large.before = self.step
        small, large = LocalDisk(ROOT, self.small), LocalDisk(ROOT, self.large)
        return BlobPacked(small, large, self.rows, lambda: 1_700_000_000, in_background=False)

    def step(self, _operation: str, _path: str) -> None:
        if self.steps_left > 0:
            self.steps_left -= 1
        if self.steps_left == 0:
            raise PowerCut

    @property
    def packed(self) -> BlobPacked:
        assert isinstance(self.storage, BlobPacked)
        return self.storage

    @rule(numbers=FILES)
    def put_file(self, numbers: list[int]) -> None:
        blobs = file_blobs(numbers)
        self.storage.receive_many(blobs.items())
        self.there.update(self.waiting, **blobs)
        self.waiting.clear()

    @rule()
    def pack(self) -> None:
        assert self.packed.settle()
        self.see_what_was_synced()

    @rule()
    def tidy(self) -> None:
        self.packed.pack_loose()
        self.packed.compact()
        self.see_what_was_synced()

    def see_what_was_synced(self) -> None:
        """Unpacking stores blobs, and a sync is one for all who wait."""
        for ref, _ in list(self.storage.stat(self.waiting)):
            self.there[ref] = self.waiting.pop(ref)

    @rule(numbers=FILES)
    def read_whole(self, numbers: list[int]) -> None:
        content = b"".join(CHUNKS[number] for number in numbers)
        try:
            assert b"".join(self.packed.open_whole(Ref.of(content), 5)) == content[5:]
            assert all(Ref.of(CHUNKS[number]) in self.there for number in numbers)
        except NotFound:
            pass  # not packed

    @rule(numbers=FILES, which=st.integers(0, 5))
    def remove_some(self, numbers: list[int], which: int) -> None:
        victims = list(file_blobs(numbers))[which : which + 2]
        self.storage.remove(victims)
        for ref in victims:
            self.there.pop(ref, None)
            self.waiting.pop(ref, None)

    @rule()
    def stream_all(self) -> None:
        streamed = [(blob.ref, blob.data) for blob in self.storage.stream()]
        assert dict(streamed) == self.there
        assert len(streamed) == len(self.there)
        tokens = [blob.token for blob in self.storage.stream()]
        for (first, second), token in zip(pairwise(streamed), tokens, strict=False):
            again = self.storage.stream(token)
            assert [next(again).ref, next(again).ref] == [first[0], second[0]]

    @rule()
    def reopen(self) -> None:
        self.storage.close()
        self.waiting.clear()
        self.storage = self.reopened()

    @rule(forget=st.booleans())
    def recover(self, forget: bool) -> None:
        self.packed.recover(forget)

    @rule()
    @precondition(lambda self: not list(self.rows.prefixed(b"d:")))
    def lose_the_rows(self) -> None:
        """Removals that were not yet carried out in the zips are lost with them; others are not."""
        self.storage.close()
        self.waiting.clear()
        self.rows = Rows(self)
        self.storage = self.reopened()

    @rule(
        work=st.sampled_from(["put", "receive", "pack", "remove", "tidy", "reopen", "recover"]),
        numbers=FILES,
        contents=BATCHES,
        steps=BURSTS,
        seed=st.integers(0, 100),
    )
    def lose_power(
        self, work: str, numbers: list[int], contents: list[bytes], steps: int, seed: int
    ) -> None:
        blobs = file_blobs(numbers)
        if work == "receive":
            blobs = {Ref.of(data): data for data in contents}
        unsure = {**self.waiting, **blobs}
        self.steps_left = steps
        try:
            if work in ("put", "receive"):
                self.storage.receive_many(blobs.items())
                self.there.update(blobs)
            elif work == "remove":
                self.storage.remove(blobs)
            elif work == "reopen":
                self.storage = self.reopened()
            elif work == "recover":
                self.packed.recover()
            elif work == "tidy":
                self.tidy()
            else:
                self.pack()
        except PowerCut:
            pass
        self.steps_left = -1
        luck = random.Random(seed) if seed else None
        self.small.cut_power(luck)
        self.large.cut_power(luck)
        self.waiting.clear()
        self.storage = self.reopened()
        found = {ref for ref, _ in self.storage.enumerate()}
        for ref, data in unsure.items():
            if ref in found and (ref not in self.there or work == "remove"):
                assert self.storage.fetch(ref) == data
                self.there[ref] = data
            elif ref not in found and work == "remove":
                self.there.pop(ref, None)

    def teardown(self) -> None:
        self.steps_left = -1
        assert {ref: self.storage.fetch(ref) for ref in self.there} == self.there
        self.storage.close()


TestBlobPackedModel = BlobPackedModel.TestCase
TestBlobPackedModel.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
