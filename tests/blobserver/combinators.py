"""Each combinator over stores that somebody else makes."""

from collections.abc import Callable, Iterable, Mapping

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.faulty import Fault, Faulty
from peatkeep.blobserver.forward import Forward
from peatkeep.blobserver.limited import Limited, Rate
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.migrating import Migrating
from peatkeep.blobserver.namespace import Namespace
from peatkeep.blobserver.overlay import Overlay
from peatkeep.blobserver.placed import Placed
from peatkeep.blobserver.placement import Hashed, Place
from peatkeep.blobserver.proxycache import ProxyCache
from peatkeep.blobserver.readonly import Readonly
from peatkeep.blobserver.replica import Replica
from peatkeep.blobserver.retry import Patience, Retry
from peatkeep.blobserver.shard import Shard
from peatkeep.blobserver.storage import Storage
from peatkeep.blobserver.union import Union
from peatkeep.sorted.memory import MemoryKeyValue

Make = Callable[[], Storage]


class WrittenBehind(Forward):
    """Reads through a store that takes no writes, and writes to one of those below it."""

    def __init__(self, face: Storage, below: Storage) -> None:
        super().__init__(face)
        self._below = below

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        return self._below.write_many(blobs)

    def sync(self) -> None:
        self._below.sync()

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        return self._below.receive_many(blobs)

    def remove(self, refs: Iterable[Ref]) -> None:
        self._below.remove(refs)


def _readonly(make: Make) -> Storage:
    below = make()
    return WrittenBehind(Readonly(below), below)


def _union(make: Make) -> Storage:
    stores = [make() for _ in range(3)]
    return WrittenBehind(Union(stores), stores[1])


def places(*stores: Storage) -> list[tuple[Place, Storage]]:
    return [(Place(f"/{number}/", number + 1), store) for number, store in enumerate(stores)]


def patient(inner: Storage, attempts: int = 60) -> Retry:
    """Tries again and again, without waiting."""
    return Retry(inner, Patience(attempts), clock=lambda: 0.0, sleep=lambda _: None)


OVER: Mapping[str, Callable[[Make], Storage]] = {
    "faulty": lambda make: Faulty(make(), []),
    "limited": lambda make: Limited(make(), Rate(2**40), Rate(2**40)),
    "migrate": lambda make: Migrating(make(), make(), MemoryKeyValue()),
    "namespace": lambda make: Namespace(make(), MemoryKeyValue()),
    "overlay": lambda make: Overlay(make(), make(), MemoryKeyValue()),
    "placed": lambda make: Placed(places(make(), make(), make()), Hashed(), 2),
    "proxycache": lambda make: ProxyCache(make(), make(), 300),
    "readonly": _readonly,
    "replica": lambda make: Replica([make(), make(), make()]),
    "retry": lambda make: patient(make()),
    "shard": lambda make: Shard([make(), make(), make()]),
    "union": _union,
}


def unreliable(seed: int, rate: float = 0.15) -> Faulty:
    """Every operation fails now and then, before, in the midst of or after its work."""
    return Faulty(Memory(), [Fault("unavailable", rate=rate)], seed)
