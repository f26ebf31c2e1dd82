"""The bytes of files, fetched in the order in which they lie there."""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Final, Protocol, runtime_checkable

from ..blob import Ref
from ..errors import Corrupt, NotFound
from ..schema import filereader
from ..schema.filereader import Leaf, zeros
from .progress import Progress

_ZEROS: Final = bytes(1024 * 1024)
_ZEROS_REF: Final = Ref.of(_ZEROS)

Found = bytes | NotFound | Corrupt


class Source(Protocol):
    """Where blobs come from; `Remote` is one."""

    def fetch(self, ref: Ref) -> bytes: ...

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, Found]]: ...


@runtime_checkable
class Pusher(Protocol):
    """A source that can send the blobs of a file before they are asked for."""

    def push_file(
        self, ref: Ref, offset: int, length: int
    ) -> "AbstractContextManager[Source] | None":
        """A source for who reads these bytes in order; None where there is no such thing."""
        ...


def contents(source: Source, leaves: Iterable[Leaf], progress: Progress) -> Iterator[bytes]:
    """The bytes of leaves, as they are stored; of zeros at most 1 MiB at a time.

    They are asked for in one go, so the source keeps some on their way; the chunk that sparse
    files consist of is not asked for. Raises NotFound, Corrupt.
    """
    met: deque[Leaf] = deque()
    data = b""
    for ref, found in source.fetch_many(_refs(leaves, met)):
        while met[0].ref != ref:
            yield from cut(met.popleft(), data)
        if not isinstance(found, bytes):
            raise found
        data = found
        progress.sent(len(data))
        yield filereader.cut(met.popleft(), data)
        while met and met[0].ref in (ref, None, _ZEROS_REF):
            yield from cut(met.popleft(), data)
    while met:
        yield from cut(met.popleft(), data)


def _refs(leaves: Iterable[Leaf], met: deque[Leaf]) -> Iterator[Ref]:
    """What has to be fetched, in order; each leaf goes to `met` before."""
    last: Ref | None = None
    for leaf in leaves:
        met.append(leaf)
        if leaf.ref is not None and leaf.ref not in (_ZEROS_REF, last):
            last = leaf.ref
            yield leaf.ref


def cut(leaf: Leaf, data: bytes) -> Iterator[bytes]:
    """The bytes of a leaf, of whose blob this is the content. Raises Corrupt."""
    if leaf.ref is None:
        yield from zeros(leaf.length)
    else:
        yield filereader.cut(leaf, _ZEROS if leaf.ref == _ZEROS_REF else data)
