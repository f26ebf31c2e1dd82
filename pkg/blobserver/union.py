"""Several stores read as one."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Self

from ..blob import Ref, SizedRef
from ..errors import ConfigError
from ..sorted.options import Options
from .fanout import Found, joined_generation, streamed_by_ref
from .merge import merged
from .readers import Readers
from .readonly import NoWrites
from .storage import Generation, Storage, StreamedBlob


class Union(NoWrites):
    """Read-only; the stores are asked in the order given, and the first good copy counts.

    For a union that takes writes see `placed`. The stores belong to whoever passed them in.
    """

    def __init__(self, subsets: Sequence[Storage]) -> None:
        if not subsets:
            raise ConfigError("configure", "storage-union, subsets", "needs one at least")
        self._subsets = list(subsets)
        self._readers = Readers(subsets)

    @classmethod
    def from_config(cls, args: Mapping[str, object], resolve: Callable[[str], Storage]) -> Self:
        """Arguments: subsets."""
        with Options("storage-union", args) as options:
            names = options.strings("subsets")
        return cls([resolve(name) for name in names])

    def fetch(self, ref: Ref) -> bytes:
        return self._readers.fetch(ref)

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._readers.fetch_range(ref, offset, length)

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._readers.read_range(ref, offset, length)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[Found]:
        return self._readers.fetch_many(refs)

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        return self._readers.stat(refs)

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        return merged(self._subsets, after)

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        return streamed_by_ref(self, token)

    def generation(self) -> Generation | None:
        return joined_generation(self._subsets)
