"""Each blob in one of several stores, by its digest."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Self, TypeVar

from ..blob import Ref, SizedRef
from ..errors import ConfigError, Invalid
from ..sorted.options import Options
from .fanout import FanOut, Found, fetched_side_by_side, joined_generation, reset_generations
from .merge import merged_listings
from .storage import Generation, Storage, StreamedBlob

T = TypeVar("T")


def shard_of(ref: Ref, count: int) -> int:
    """The number of the shard, of so many, where this blob belongs.

    The first 4 bytes of the digest, big-endian, modulo the count; a shorter digest is filled up
    with zeros (pkg/blobserver/COMBINATORS.md, "shard").
    """
    return int(ref.hex_digest[:8].ljust(8, "0"), 16) % count


class Shard(Storage):
    """Spreads blobs over stores, as Perkeep does.

    A blob in a store where it does not belong (the number of stores was changed) can't be
    fetched, so it is not listed either. The stores belong to whoever passed them in.
    """

    def __init__(self, shards: Sequence[Storage]) -> None:
        if not shards:
            raise ConfigError("configure", "storage-shard, backends", "needs one at least")
        self._shards = list(shards)
        self._fan_out = FanOut(len(shards), "shard")

    @classmethod
    def from_config(cls, args: Mapping[str, object], resolve: Callable[[str], Storage]) -> Self:
        """Arguments: backends."""
        with Options("storage-shard", args) as options:
            names = options.strings("backends")
        return cls([resolve(name) for name in names])

    # -- reading --------------------------------------------------------------------------------

    def fetch(self, ref: Ref) -> bytes:
        return self._home(ref).fetch(ref)

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._home(ref).fetch_range(ref, offset, length)

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._home(ref).read_range(ref, offset, length)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[Found]:
        """As one batch from each shard, side by side; in the order asked for."""
        return fetched_side_by_side(
            refs, self._number, lambda number, part: self._shards[number].fetch_many(part)
        )

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        parts = self._parted(dict.fromkeys(refs), lambda ref: ref)
        ask = [partial(_stat, self._shards[number], part) for number, part in parts.items()]
        for found in self._fan_out.run(ask):
            yield from found

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        return merged_listings([self._listed(number, after) for number in range(len(self._shards))])

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        """One shard after the other; the token is `<shard>:<token of the shard>`."""
        first, _, rest = token.partition(":")
        if token and not (first.isdecimal() and int(first) < len(self._shards) and rest):
            raise Invalid("stream", token, "no token of this store")
        for number in range(int(first or "0"), len(self._shards)):
            for blob in self._shards[number].stream(rest):
                if self._number(blob.ref) == number:
                    yield blob._replace(token=f"{number}:{blob.token}")
            rest = ""

    # -- writing --------------------------------------------------------------------------------

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = list(blobs)
        for number, part in self._parted(batch, lambda blob: blob[0]).items():
            self._shards[number].write_many(part)
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def sync(self) -> None:
        self._fan_out.run([store.sync for store in self._shards])

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        """All shards at the same time. After an error, those that did not fail have theirs."""
        batch = list(blobs)
        parts = self._parted(batch, lambda blob: blob[0])
        self._fan_out.run(
            [partial(self._shards[number].receive_many, part) for number, part in parts.items()]
        )
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def remove(self, refs: Iterable[Ref]) -> None:
        """Tries all shards; then raises the first error."""
        parts = self._parted(refs, lambda ref: ref)
        self._fan_out.run(
            [partial(self._shards[number].remove, part) for number, part in parts.items()]
        )

    # -- generation -----------------------------------------------------------------------------

    def generation(self) -> Generation | None:
        """That of all shards, joined; None unless each has one. (Perkeep's shard has none.)"""
        return joined_generation(self._shards)

    def reset_generation(self) -> None:
        reset_generations(self._shards, self)

    def close(self) -> None:
        self._fan_out.close()

    def _number(self, ref: Ref) -> int:
        return shard_of(ref, len(self._shards))

    def _home(self, ref: Ref) -> Storage:
        return self._shards[self._number(ref)]

    def _listed(self, number: int, after: str) -> Iterator[SizedRef]:
        """What is in a shard and belongs there."""
        for found in self._shards[number].enumerate(after):
            if self._number(found.ref) == number:
                yield found

    def _parted(self, items: Iterable[T], ref_of: Callable[[T], Ref]) -> dict[int, list[T]]:
        """The items by the number of their shard, each in the order given."""
        parts: dict[int, list[T]] = {}
        for item in items:
            parts.setdefault(self._number(ref_of(item)), []).append(item)
        return parts


def _stat(store: Storage, refs: Sequence[Ref]) -> list[SizedRef]:
    return list(store.stat(refs))
