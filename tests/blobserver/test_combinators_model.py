"""Each combinator against a dictionary: random operations, failures below, opening again."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from peatkeep.blob import Ref
from peatkeep.blobserver.faulty import Fault, Faulty
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.migrating import Migrating
from peatkeep.blobserver.namespace import Namespace
from peatkeep.blobserver.overlay import Overlay
from peatkeep.blobserver.placed import Placed
from peatkeep.blobserver.placement import Hashed
from peatkeep.blobserver.proxycache import ProxyCache
from peatkeep.blobserver.replica import Replica
from peatkeep.blobserver.shard import Shard
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import NotFound, StoreError
from peatkeep.sorted.memory import MemoryKeyValue
from tests.blobserver.combinators import OVER, places
from tests.blobserver.test_model import BATCHES, CONTENTS, LIMITS, Model

QUICK = settings(LIMITS, max_examples=40, stateful_step_count=30)


class OverMemory(Model):
    """Any combinator, over stores that work."""

    name = ""

    def open(self) -> Storage:
        return OVER[self.name](Memory)

    @rule(contents=BATCHES)
    def receive(self, contents: list[bytes]) -> None:
        """Whether this makes durable what waits as well depends on where each blob lies."""
        self.sync()
        super().receive(contents)


class OverFaulty(Model):
    """A combinator over stores that fail from time to time, and that is opened anew.

    While they fail, an operation may fail, never give wrong data or call a blob absent; after it
    the blobs of the operation are there or not, so the operation is done again.
    """

    def open(self) -> Storage:
        self.below = [Faulty(Memory(), [], seed) for seed in range(3)]
        self.rows = KeptKeyValue()
        return self.combine()

    def combine(self) -> Storage:
        raise NotImplementedError

    @rule(contents=BATCHES)
    def write(self, contents: list[bytes]) -> None:
        """Nothing is left waiting: a copy that is healed would make it durable."""
        super().write(contents)
        super().sync()

    @rule()
    def reopen(self) -> None:
        self.storage.close()
        self.storage = self.combine()

    @rule(
        contents=BATCHES,
        wanted=CONTENTS,
        rate=st.sampled_from([0.1, 0.5, 1.0]),
        numbers=st.sets(st.integers(0, 2)),
    )
    def fail_below(
        self, contents: list[bytes], wanted: bytes, rate: float, numbers: set[int]
    ) -> None:
        batch = [(Ref.of(data), data) for data in contents]
        ref = Ref.of(wanted)
        for number in numbers:
            self.below[number].faults = [Fault("unavailable", rate=rate)]
        try:
            assert self.storage.fetch(ref) == wanted
            assert ref in self.there
        except NotFound:
            assert ref not in self.there
        except StoreError:
            pass
        try:
            listed = [found.ref for found in self.storage.enumerate()]
            assert listed == sorted(self.there)
        except StoreError:
            pass
        try:
            self.storage.receive_many(batch)
            stored = True
        except StoreError:
            stored = False
        for one in self.below:
            one.faults = []
        if stored:
            assert dict(self.storage.fetch_many(ref for ref, _ in batch)) == dict(batch)
        else:
            self.storage.receive_many(batch)
        self.there.update(batch)

    @rule(contents=BATCHES, numbers=st.sets(st.integers(0, 2), min_size=1))
    def fail_while_removing(self, contents: list[bytes], numbers: set[int]) -> None:
        refs = [Ref.of(data) for data in contents]
        for number in numbers:
            self.below[number].faults = [Fault("unavailable", rate=0.7)]
        try:
            self.storage.remove(refs)
        except StoreError:
            for one in self.below:
                one.faults = []
            self.storage.remove(refs)
        for one in self.below:
            one.faults = []
        for ref in refs:
            self.there.pop(ref, None)


class KeptKeyValue(MemoryKeyValue):
    """Keeps its rows over closing, as one on disk."""


class ShardModel(OverFaulty):
    def combine(self) -> Storage:
        return Shard(self.below)


class OverlayModel(OverFaulty):
    def combine(self) -> Storage:
        return Overlay(self.below[0], self.below[1], self.rows)

    @rule(contents=BATCHES)
    def arrive_below(self, contents: list[bytes]) -> None:
        """What comes into the lower store shows, unless it was removed up here."""
        batch = [(Ref.of(data), data) for data in contents]
        self.below[0].receive_many(batch)
        removed = {key.decode() for key, _ in self.rows.find()}
        self.there.update((ref, data) for ref, data in batch if ref not in removed)


class MigrateModel(OverFaulty):
    def combine(self) -> Storage:
        return Migrating(self.below[0], self.below[1], self.rows)

    @rule(wanted=CONTENTS)
    def migrate(self, wanted: bytes) -> None:
        """A blob of the old store moves unless it was removed; in the end the new one holds all."""
        ref = Ref.of(wanted)
        self.below[0].receive_many([(ref, wanted)])
        if not any(key == ref.encode() for key, _ in self.rows.find()):
            self.there[ref] = wanted
        assert isinstance(self.storage, Migrating)
        assert self.storage.migrate(lambda _: None).phase == "done"
        assert [found.ref for found in self.below[1].enumerate()] == sorted(self.there)

    @rule()
    def reopen(self) -> None:
        """Rows of an ended migration are wiped: the new store alone goes on."""
        assert isinstance(self.storage, Migrating)
        if self.storage.migrate(lambda _: None).phase == "done":
            self.below[0].remove([found.ref for found in self.below[0].enumerate()])
        super().reopen()


class NamespaceModel(OverFaulty):
    def combine(self) -> Storage:
        return Namespace(self.below[0], self.rows)

    @rule(contents=BATCHES)
    def arrive_below(self, contents: list[bytes]) -> None:
        """What others store does not show."""
        self.below[0].receive_many([(Ref.of(data), data) for data in contents])


class PlacedModel(OverFaulty):
    def combine(self) -> Storage:
        return Placed(places(*self.below), Hashed(), 2)


class ReplicaModel(OverFaulty):
    def combine(self) -> Storage:
        return AskedReplica(self.below, min_writes=2, queue=self.rows)

    @rule()
    def catch_up(self) -> None:
        assert isinstance(self.storage, Replica)
        assert self.storage.catch_up() == 0
        assert len({tuple(one.enumerate()) for one in self.below}) == 1

    @rule()
    def repair(self) -> None:
        assert isinstance(self.storage, Replica)
        assert self.storage.repair().damaged == ()
        assert len({tuple(one.enumerate()) for one in self.below}) == 1


class AskedReplica(Replica):
    """Catches up when it is asked to, not by itself: the same steps give the same calls."""

    def _catch_up_behind(self) -> None: ...


class ProxyCacheModel(OverFaulty):
    """The cache lies as well."""

    def combine(self) -> Storage:
        return ProxyCache(self.below[0], self.below[1], 400, "lfu", self.rows)

    @rule(effect=st.sampled_from(["empty", "partial", "late", "stale", "corrupt", "unavailable"]))
    def let_the_cache_misbehave(self, effect: str) -> None:
        self.below[1].faults = [Fault(effect, ["enumerate", "stat", "fetch", "fetch_range"], 0.5)]
        self.storage.close()
        self.storage = self.combine()
        for data in dict.fromkeys(self.there.values()):
            assert self.storage.fetch(Ref.of(data)) == data
        self.below[1].faults = []

    @rule()
    def count_the_cache(self) -> None:
        """After a sound listing the account is exact, and under the cap."""
        self.storage.close()
        self.storage = self.combine()
        held = sum(size for _, size in self.below[1].enumerate())
        assert self.storage.cached_size == held  # type: ignore[attr-defined]


MODELS = (
    *(ShardModel, OverlayModel, MigrateModel, NamespaceModel),
    *(PlacedModel, ReplicaModel, ProxyCacheModel),
)


def test_every_combinator_that_writes_has_a_model() -> None:
    plain = {"faulty", "limited", "readonly", "retry", "union"}
    assert {model.__name__.removesuffix("Model").lower() for model in MODELS} | plain == set(OVER)


@pytest.mark.parametrize("name", sorted(OVER))
def test_over_memory(name: str) -> None:
    kind = type(f"Over{name}", (OverMemory,), {"name": name})
    run = kind.TestCase
    run.settings = QUICK
    run("runTest").runTest()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_over_stores_that_fail(model: type[OverFaulty]) -> None:
    run = model.TestCase
    run.settings = QUICK
    run("runTest").runTest()
