"""Where a blob goes, when there are several places for it.

A policy ranks the places for one blob, best first. Policies are small, know nothing of stores,
and are put together: `Tiered(Hashed())`, `Spacious(Hashed(), reserve_size=10**9)`.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ..blob import Ref


class Place(NamedTuple):
    """One place. `name` must stay the same for ever: hashing goes by it, not by position."""

    name: str
    weight: float = 1.0  # its share, compared with the other places; more than 0
    tier: int = 0  # lower ones first
    free_size: Callable[[], int] | None = None  # bytes left; None: not known, taken as enough


class Policy(ABC):
    @abstractmethod
    def rank(self, ref: Ref, size: int, places: Sequence[Place]) -> list[int]:
        """The numbers of all the places, best first. size: of the blob, in bytes."""


class Listed(Policy):
    """As they are listed: all goes to the first; the others are there when it fails."""

    def rank(self, ref: Ref, size: int, places: Sequence[Place]) -> list[int]:  # noqa: ARG002
        return list(range(len(places)))


class Hashed(Policy):
    """By weighted rendezvous hashing.

    Each place gets its share by weight. When one is added or taken away, only the blobs move
    that go to it or lay on it. The score is -weight / ln(h), h being the first 52 bits of the
    SHA-256 of "<ref> <name>" as a fraction in (0, 1).
    """

    def rank(self, ref: Ref, size: int, places: Sequence[Place]) -> list[int]:  # noqa: ARG002
        scores = [-_score(ref, place) for place in places]
        return sorted(range(len(places)), key=scores.__getitem__)


_BITS: Final = 52


def _score(ref: Ref, place: Place) -> float:
    digest = hashlib.sha256(f"{ref} {place.name}".encode()).digest()
    fraction = ((int.from_bytes(digest[:8], "big") >> (64 - _BITS)) + 0.5) / 2**_BITS
    return -place.weight / math.log(fraction)


class Emptiest(Policy):
    """By free space, the most first; places that do not know theirs come last, as listed."""

    def rank(self, ref: Ref, size: int, places: Sequence[Place]) -> list[int]:  # noqa: ARG002
        free = [place.free_size() if place.free_size is not None else -1 for place in places]
        return sorted(range(len(places)), key=lambda number: -free[number])


class Spacious(Policy):
    """As another policy, but places without room come last."""

    def __init__(self, among: Policy, reserve_size: int = 0) -> None:
        """reserve_size: bytes to be left free on each place."""
        self._among = among
        self._reserve_size = reserve_size

    def rank(self, ref: Ref, size: int, places: Sequence[Place]) -> list[int]:
        ranked = self._among.rank(ref, size, places)
        return sorted(ranked, key=lambda number: not self._has_room(places[number], size))

    def _has_room(self, place: Place, size: int) -> bool:
        return place.free_size is None or place.free_size() - size >= self._reserve_size


class Tiered(Policy):
    """The lowest tier first; within a tier as another policy says."""

    def __init__(self, among: Policy) -> None:
        self._among = among

    def rank(self, ref: Ref, size: int, places: Sequence[Place]) -> list[int]:
        ranked = self._among.rank(ref, size, places)
        return sorted(ranked, key=lambda number: places[number].tier)


class BySize(Policy):
    """Small blobs by one policy, large ones by another."""

    def __init__(self, limit_size: int, small: Policy, large: Policy) -> None:
        """limit_size: bytes; the first size that counts as large."""
        self._limit_size = limit_size
        self._small = small
        self._large = large

    def rank(self, ref: Ref, size: int, places: Sequence[Place]) -> list[int]:
        policy = self._small if size < self._limit_size else self._large
        return policy.rank(ref, size, places)


class Reversed(Policy):
    """Another policy backwards: with BySize and Tiered, large blobs go to the highest tier."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def rank(self, ref: Ref, size: int, places: Sequence[Place]) -> list[int]:
        return self._policy.rank(ref, size, places)[::-1]
