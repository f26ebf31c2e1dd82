"""A union that takes writes: each blob goes where a policy says."""

import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final, Self

from ..blob import Ref, SizedRef
from ..errors import ConfigError, NotFound, StoreError, Unavailable
from ..sorted.options import Options
from .fanout import (
    FanOut,
    Found,
    fetched_side_by_side,
    joined_generation,
    reset_generations,
    streamed_by_ref,
)
from .merge import merged
from .placement import Emptiest, Hashed, Listed, Place, Policy, Spacious, Tiered
from .readers import Readers
from .rebalance import Rebalanced, rebalance
from .storage import Generation, Storage, StreamedBlob

_Blobs = list[tuple[Ref, bytes]]

_POLICIES: Final[Mapping[str, Callable[[int], Policy]]] = {
    "hash": lambda reserve: Spacious(Hashed(), reserve),
    "listed": lambda reserve: Spacious(Listed(), reserve),
    "space": lambda reserve: Spacious(Emptiest(), reserve),
    "tier": lambda reserve: Spacious(Tiered(Hashed()), reserve),
}


class Placed(Storage):
    """Keeps `copies` of each blob, on the places that rank best for it.

    Reads ask the places in rank order and take the first good copy from anywhere, so a policy
    may change and places may be added: nothing has to move for that. A place that has a blob
    already keeps it and counts as one of the copies. Where a place fails, the next in rank takes
    its part. The stores belong to whoever passed them in.
    """

    def __init__(
        self, places: Sequence[tuple[Place, Storage]], policy: Policy, copies: int = 1
    ) -> None:
        """copies: 1 up to the number of places; fewer that succeed are an error."""
        if not places:
            raise ConfigError("configure", "storage-placed, backends", "needs one at least")
        if len({place.name for place, _ in places}) < len(places):
            raise ConfigError("configure", "storage-placed, backends", "named twice")
        if not 1 <= copies <= len(places):
            raise ConfigError(
                "configure", "storage-placed, copies", f"{copies} of {len(places)} places"
            )
        self._places = [place for place, _ in places]
        self._stores = [store for _, store in places]
        self._policy = policy
        self._copies = copies
        self._fan_out = FanOut(len(places), "placed")
        self._removing = threading.Lock()
        self._lock = threading.Lock()
        self._unsynced: dict[int, int] = {}  # place -> writes that no sync has covered

    @classmethod
    def from_config(cls, args: Mapping[str, object], resolve: Callable[[str], Storage]) -> Self:
        """Arguments: backends, and optional: policy ("hash", "listed", "space" or "tier"), copies;
        weights, tiers, folders: lists beside `backends`; reserveBytes.

        folders: where the space that is left to a backend is measured.
        """
        with Options("storage-placed", args) as options:
            names = options.strings("backends")
            policy = options.string("policy", "hash")
            copies = options.integer("copies", 1)
            weights = options.integers("weights", [1] * len(names))
            tiers = options.integers("tiers", [0] * len(names))
            folders = options.strings("folders", [""] * len(names))
            reserve_size = options.integer("reserveBytes", 0)
        if policy not in _POLICIES:
            known = ", ".join(_POLICIES)
            raise ConfigError("configure", "storage-placed, policy", f"must be one of {known}")
        if not len(names) == len(weights) == len(tiers) == len(folders):
            raise ConfigError("configure", "storage-placed", "lists of different lengths")
        if any(weight <= 0 for weight in weights):
            raise ConfigError("configure", "storage-placed, weights", "must be more than 0")
        places = [
            Place(name, weight, tier, partial(_free_size, folder) if folder else None)
            for name, weight, tier, folder in zip(names, weights, tiers, folders, strict=True)
        ]
        stores = [resolve(name) for name in names]
        made = _POLICIES[policy](reserve_size)
        return cls(list(zip(places, stores, strict=True)), made, copies)

    # -- reading --------------------------------------------------------------------------------

    def fetch(self, ref: Ref) -> bytes:
        return self._readers(ref).fetch(ref)

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._readers(ref).fetch_range(ref, offset, length)

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._readers(ref).read_range(ref, offset, length)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[Found]:
        """As one batch from each place that ranks first for some; the rest one by one."""
        found = fetched_side_by_side(
            refs,
            lambda ref: self._rank(ref, 0)[0],
            lambda number, part: _answers(self._stores[number], part),
        )
        for ref, data in found:
            if isinstance(data, bytes):
                yield ref, data
            else:
                yield from super().fetch_many([ref])

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        return Readers(self._stores).stat(refs)

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        return merged(self._stores, after)

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        return streamed_by_ref(self, token)

    def _readers(self, ref: Ref) -> Readers:
        # Damaged copies are replaced; lacking ones are not: most places lack most blobs.
        stores = [self._stores[number] for number in self._rank(ref, 0)]
        return Readers(stores, heal=stores, lock=self._removing)

    def _rank(self, ref: Ref, size: int) -> list[int]:
        return self._policy.rank(ref, size, self._places)

    # -- writing --------------------------------------------------------------------------------

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        return self._spread(blobs, self._write_to)

    def sync(self) -> None:
        """Sync every place that took something since it was synced last."""
        with self._lock:
            begun = dict(self._unsynced)
        self._fan_out.run([self._stores[number].sync for number in begun])
        with self._lock:
            for number, count in begun.items():
                if self._unsynced.get(number) == count:
                    del self._unsynced[number]

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        return self._spread(blobs, lambda number, part: self._stores[number].receive_many(part))

    def _write_to(self, number: int, part: _Blobs) -> list[SizedRef]:
        written = self._stores[number].write_many(part)
        with self._lock:
            self._unsynced[number] = self._unsynced.get(number, 0) + 1
        return written

    def _spread(
        self, blobs: Iterable[tuple[Ref, bytes]], write: Callable[[int, _Blobs], list[SizedRef]]
    ) -> list[SizedRef]:
        """Write each blob to as many places as it needs; to others where some fail.

        Raises the first error when a blob found fewer places than `copies`.
        """
        batch = list(blobs)
        by_ref = dict(batch)
        candidates = self._candidates(by_ref)
        lacking = dict.fromkeys(by_ref, self._copies)
        failures: dict[int, StoreError] = {}
        while lacking:
            parts: dict[int, _Blobs] = {}
            for ref, copies in lacking.items():
                able = [number for number in candidates[ref] if number not in failures][:copies]
                if len(able) < copies:
                    raise next(iter(failures.values()))
                candidates[ref] = [n for n in candidates[ref] if n not in able]
                for number in able:
                    parts.setdefault(number, []).append((ref, by_ref[ref]))
            answers = self._fan_out.attempt([partial(write, n, part) for n, part in parts.items()])
            for (number, part), answer in zip(parts.items(), answers, strict=True):
                if isinstance(answer, StoreError):
                    failures[number] = answer
                    continue
                for ref, _ in part:
                    lacking[ref] -= 1
            lacking = {ref: copies for ref, copies in lacking.items() if copies}
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def _candidates(self, blobs: Mapping[Ref, bytes]) -> dict[Ref, list[int]]:
        """For each blob the places to write to, best first: those that have it, then by rank."""
        answers = self._fan_out.attempt(
            [partial(_refs_in, store, list(blobs)) for store in self._stores]
        )
        # A place that does not answer is not known to have anything; writing will tell.
        there = [set() if isinstance(answer, StoreError) else answer for answer in answers]
        found: dict[Ref, list[int]] = {}
        for ref, data in blobs.items():
            ranked = self._rank(ref, len(data))
            having = [number for number in ranked if ref in there[number]]
            found[ref] = having + [number for number in ranked if number not in having]
        return found

    def remove(self, refs: Iterable[Ref]) -> None:
        """Remove from every place; if one of them fails, raises, after trying all."""
        wanted = list(refs)
        with self._removing:
            self._fan_out.run([partial(store.remove, wanted) for store in self._stores])

    def rebalance(self, progress: Callable[[Rebalanced], None] | None = None) -> Rebalanced:
        """Move each blob to the places that the policy ranks first now (`rebalance.rebalance`)."""
        return rebalance(
            self._stores,
            lambda ref, size: self._rank(ref, size)[: self._copies],
            lock=self._removing,
            progress=progress,
        )

    # -- generation -----------------------------------------------------------------------------

    def generation(self) -> Generation | None:
        return joined_generation(self._stores)

    def reset_generation(self) -> None:
        reset_generations(self._stores, self)

    def close(self) -> None:
        self._fan_out.close()


def _refs_in(store: Storage, refs: Sequence[Ref]) -> set[Ref]:
    return {found.ref for found in store.stat(refs)}


def _answers(store: Storage, refs: list[Ref]) -> Iterator[Found]:
    """What the store fetches; when it gives up, the rest as not found there."""
    answered = 0
    try:
        for found in store.fetch_many(refs):
            yield found
            answered += 1
    except Unavailable:
        yield from ((ref, NotFound("fetch", ref)) for ref in refs[answered:])


def _free_size(folder: str) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0  # what can't be asked for its space gets a blob only when nothing else is left
