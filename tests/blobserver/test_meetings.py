"""Between any two steps of one call, another thread's call comes and goes.

A step is a call of what lies below: another store, rows, a bucket. At each of them in turn a deed
is begun in a thread of its own. Where the store makes it wait it ends later; what is asserted
holds for every order.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Final, NamedTuple

import obstore.store
import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.blobpacked import BlobPacked
from peatkeep.blobserver.conformance import sample
from peatkeep.blobserver.encrypt.store import Encrypt
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.namespace import Namespace
from peatkeep.blobserver.objects.bucket import Bucket
from peatkeep.blobserver.objects.store import Objects
from peatkeep.blobserver.overlay import Overlay
from peatkeep.blobserver.placed import Placed
from peatkeep.blobserver.placement import Hashed
from peatkeep.blobserver.proxycache import ProxyCache
from peatkeep.blobserver.replica import Replica
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import NotFound
from peatkeep.sorted.memory import MemoryKeyValue
from tests.blobserver.combinators import places
from tests.blobserver.encrypt.stores import SEALER

BLOBS: Final = sample(2)
REFS: Final = list(BLOBS)
WAIT_S: Final = 0.02
"""For a deed before the call goes on: long enough for one that need not wait, mostly."""

LIMIT_S: Final = 60


class Steps:
    """Counts calls of what lies below, and starts a deed at one of them."""

    def __init__(self) -> None:
        self._deed: threading.Thread | None = None
        self._left = -1
        self._lock = threading.Lock()
        self.goes_on = threading.Event()

    def plan(self, step: int, deed: threading.Thread) -> None:
        """deed: sets `goes_on` where the call is to go on."""
        self._left, self._deed = step, deed

    def take(self) -> None:
        with self._lock:
            self._left -= 1
            deed = self._deed if self._left == -1 else None
        if deed is not None:
            deed.start()
            self.goes_on.wait(WAIT_S)

    def watched(self, below: object) -> object:
        """The same, whose calls count, before they begin and when they have ended."""
        return _Watched(below, self)


class _Watched:
    def __init__(self, inner: object, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        if not callable(found) or name in ("close", "name_of"):
            return found

        def call(*args: object, **named: object) -> object:
            self._steps.take()
            answer = found(*args, **named)
            if isinstance(answer, Iterator) and name != "parallel":
                answer = iter(list(answer))
            self._steps.take()
            return answer

        return call


class Built(NamedTuple):
    """lose: takes away what lies below a blob, where a store can be told to store it again."""

    store: Storage
    upkeep: Callable[[], object] = lambda: None
    lose: Callable[[], object] | None = None


def encrypt(watched: Callable[[object], object]) -> Built:
    below = Memory()
    parts = [watched(part) for part in (below, Memory(), MemoryKeyValue(), MemoryKeyValue())]
    store = Encrypt(SEALER, *parts)  # type: ignore[arg-type]
    return Built(store, store.compact, lambda: below.remove([ref for ref, _ in below.enumerate()]))


def namespace(watched: Callable[[object], object]) -> Built:
    below = Memory()
    rows = MemoryKeyValue()
    store = Namespace(watched(below), watched(rows))  # type: ignore[arg-type]
    return Built(store, lose=lambda: below.remove(REFS))


def overlay(watched: Callable[[object], object]) -> Built:
    parts = [watched(part) for part in (Memory(), Memory(), MemoryKeyValue())]
    return Built(Overlay(*parts))  # type: ignore[arg-type]


def proxycache(watched: Callable[[object], object]) -> Built:
    origin, cache = Memory(), Memory()
    store = ProxyCache(watched(origin), watched(cache), 10_000)  # type: ignore[arg-type]
    return Built(store, lose=lambda: cache.remove(REFS))


def replica(watched: Callable[[object], object]) -> Built:
    stores = [Memory() for _ in range(3)]
    store = Replica([watched(one) for one in stores])  # type: ignore[misc]
    return Built(store, store.repair, lambda: stores[0].remove(REFS))


def placed(watched: Callable[[object], object]) -> Built:
    stores = [Memory() for _ in range(3)]
    parts = places(*(watched(store) for store in stores))  # type: ignore[arg-type]
    store = Placed(parts, Hashed(), copies=2)
    return Built(store, store.rebalance, lambda: stores[0].remove(REFS))


def blobpacked(watched: Callable[[object], object]) -> Built:
    parts = [watched(part) for part in (Memory(), Memory(), MemoryKeyValue())]
    store = BlobPacked(*parts, in_background=False)  # type: ignore[arg-type]
    return Built(store, lambda: store.bundle_loose() + store.compact())


def objects(watched: Callable[[object], object]) -> Built:
    bucket = Bucket(obstore.store.MemoryStore(), "memory://bucket")
    return Built(Objects(watched(bucket)))  # type: ignore[arg-type]


STORES: Final[dict[str, Callable[[Callable[[object], object]], Built]]] = {
    "blobpacked": blobpacked,
    "encrypt": encrypt,
    "namespace": namespace,
    "objects": objects,
    "overlay": overlay,
    "placed": placed,
    "proxycache": proxycache,
    "replica": replica,
}


def receive(store: Storage) -> None:
    store.receive_many(BLOBS.items())


def write(store: Storage) -> None:
    store.write_many(BLOBS.items())
    store.sync()


def remove(store: Storage) -> None:
    store.remove(REFS)


def renew(store: Storage) -> None:
    remove(store)
    write(store)


def renew_late(store: Storage, steps: Steps, is_over: threading.Event) -> None:
    """Its sync comes when the other call is over."""
    remove(store)
    store.write_many(BLOBS.items())
    steps.goes_on.set()
    assert is_over.wait(LIMIT_S)
    store.sync()


def read(store: Storage) -> None:
    list(store.fetch_many(REFS))
    for ref in REFS:
        with suppress(NotFound):
            store.fetch(ref)


def look(store: Storage) -> None:
    list(store.stat(REFS))
    list(store.enumerate())


WRITES: Final = {"receive": receive, "write": write, "remove": remove, "renew": renew}
CALLS: Final = {"receive": receive, "write": write, "remove": remove, "read": read, "look": look}
ENDS_WITH_BLOBS: Final = {
    "receive": True, "write": True, "renew": True, "renew late": True, "remove": False
}  # fmt: skip


def there(store: Storage) -> set[Ref]:
    """The blobs, on which all ways of asking must agree."""
    listed = dict(store.enumerate())
    assert listed == dict(store.stat(REFS))
    fetched = {ref: data for ref, data in store.fetch_many(REFS) if isinstance(data, bytes)}
    assert fetched == {ref: BLOBS[ref] for ref in listed}
    return set(listed)


def met(
    build: Callable[[], tuple[Built, Steps]], before: str, call: str, deed: str, step: int
) -> bool:
    """Whether the call has so many steps."""
    built, steps = build()
    failures: list[BaseException] = []
    is_over = threading.Event()
    with built.store as store:
        if before != "absent":
            receive(store)
        if before == "lost" and built.lose is not None:
            built.lose()
            look(store)

        def act() -> None:
            try:
                if deed == "renew late":
                    renew_late(store, steps, is_over)
                else:
                    WRITES[deed](store)
            except BaseException as error:
                failures.append(error)
            steps.goes_on.set()

        other = threading.Thread(target=act)
        steps.plan(step, other)
        if call == "upkeep":
            built.upkeep()
        else:
            CALLS[call](store)
        is_over.set()
        if other.ident is None:
            return False
        other.join(LIMIT_S)
        assert not other.is_alive()
        assert not failures, failures
        last = {ENDS_WITH_BLOBS[name] for name in (call, deed) if name in ENDS_WITH_BLOBS}
        found = there(store)
        if len(last) == 1:
            assert found == (set(REFS) if last.pop() else set()), f"at step {step}"
        receive(store)
        assert there(store) == set(REFS), f"afterwards, at step {step}"
        remove(store)
        assert there(store) == set(), f"removed afterwards, at step {step}"
    return True


@pytest.mark.parametrize("deed", [*WRITES, "renew late"])
@pytest.mark.parametrize("call", [*CALLS, "upkeep"])
@pytest.mark.parametrize("name", STORES)
def test_what_another_does_between_two_steps_holds(name: str, call: str, deed: str) -> None:
    def build() -> tuple[Built, Steps]:
        steps = Steps()
        return STORES[name](steps.watched), steps

    states = ["absent", "present"]
    if build()[0].lose is not None:
        states.append("lost")
    for before in states:
        for step in count():
            if not met(build, before, call, deed, step):
                break
