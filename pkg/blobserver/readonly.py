"""Stores that take no writes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Self

from ..blob import Ref, SizedRef
from ..errors import ReadOnly
from ..sorted.options import Options
from .forward import Forward
from .storage import Storage


class NoWrites(Storage):
    """The writing half of a store that is read-only by nature: everything is ReadOnly."""

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:  # noqa: ARG002
        raise self._refusal("write")

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:  # noqa: ARG002
        raise self._refusal("receive")

    def sync(self) -> None:
        """Nothing was written, so nothing is left to be made durable."""

    def remove(self, refs: Iterable[Ref]) -> None:  # noqa: ARG002
        raise self._refusal("remove")

    def reset_generation(self) -> None:
        raise self._refusal("reset the generation of")

    def _refusal(self, operation: str) -> ReadOnly:
        return ReadOnly(
            operation, "blobs", f"a {type(self).__name__.lower()} store takes no writes"
        )


class Readonly(NoWrites, Forward):
    """Passes reads on."""

    @classmethod
    def from_config(cls, args: Mapping[str, object], resolve: Callable[[str], Storage]) -> Self:
        """Arguments: storage."""
        with Options("storage-readonly", args) as options:
            inner = options.string("storage")
        return cls(resolve(inner))
