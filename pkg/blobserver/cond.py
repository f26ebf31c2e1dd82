"""Routes blobs by their content: schema blobs to one store, the rest to another."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Self

from ..blob import Ref, SizedRef
from ..errors import ConfigError, Corrupt, NotFound, Unsupported
from ..schema.parse import parse_object
from ..sorted.options import Options
from .storage import Generation, Storage, StreamedBlob

_JSON_BEGINS: Final = (b"{", b" ", b"\t", b"\r", b"\n")


def is_routed_as_schema(data: bytes) -> bool:
    """Whether a blob goes to `then`: a JSON object with a camliType and members of their types.

    Not a test of validity: version and type may be anything (pkg/blobserver/README.md, "cond").
    """
    if data[:1] not in _JSON_BEGINS:
        return False  # most chunks of files: spared the parser
    schema = parse_object(data)
    return schema is not None and schema.type != ""


class Cond(Storage):
    """Writes schema blobs to `then`, others to `otherwise`; reads from `read`.

    Removes from `remove`, where one is given. The stores belong to whoever passed them in: they
    are not closed with this one.
    """

    def __init__(
        self, read: Storage, then: Storage, otherwise: Storage, remove: Storage | None = None
    ) -> None:
        self._read = read
        self._then = then
        self._otherwise = otherwise
        self._remove = remove

    @classmethod
    def from_config(cls, args: Mapping[str, object], resolve: Callable[[str], Storage]) -> Self:
        """Arguments: read, write (a prefix, or a table of if, then, else), remove (optional)."""
        with Options("storage-cond", args) as options:
            read, remove = options.string("read"), options.string("remove", "")
            write = options.string_or_table("write")
        if isinstance(write, str):
            then = otherwise = write
        else:
            with Options("storage-cond, write", write) as options:
                condition = options.string("if")
                then, otherwise = options.string("then"), options.string("else")
            if condition != "isSchema":
                raise ConfigError("configure", "storage-cond, if", f"unknown: {condition!r}")
        return cls(
            resolve(read),
            resolve(then),
            resolve(otherwise),
            resolve(remove) if remove else None,
        )

    def fetch(self, ref: Ref) -> bytes:
        return self._read.fetch(ref)

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._read.fetch_range(ref, offset, length)

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self._read.read_range(ref, offset, length)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, bytes | NotFound | Corrupt]]:
        return self._read.fetch_many(refs)

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        return self._read.stat(refs)

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        return self._read.enumerate(after)

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        return self._read.stream(token)

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch, schemas, others = _parted(blobs)
        if others:
            self._otherwise.write_many(others)
        if schemas:
            self._then.write_many(schemas)
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def sync(self) -> None:
        self._otherwise.sync()
        if self._then is not self._otherwise:
            self._then.sync()

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch, schemas, others = _parted(blobs)
        # Where both targets end in one store, the sync of the schema blobs covers the others
        # that were written before, and the sync of the others has nothing left to do.
        if others:
            self._otherwise.write_many(others)
        try:
            if schemas:
                self._then.receive_many(schemas)
        finally:
            if others:
                self._otherwise.sync()
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def remove(self, refs: Iterable[Ref]) -> None:
        if self._remove is None:
            raise Unsupported("remove", "blobs", "this cond storage is configured without remove")
        self._remove.remove(refs)

    def generation(self) -> Generation | None:
        return self._read.generation()

    def reset_generation(self) -> None:
        self._read.reset_generation()


_Blobs = list[tuple[Ref, bytes]]


def _parted(blobs: Iterable[tuple[Ref, bytes]]) -> tuple[_Blobs, _Blobs, _Blobs]:
    """All blobs, the schema blobs, the others; each in the order given."""
    batch = list(blobs)
    schemas: _Blobs = []
    others: _Blobs = []
    for blob in batch:
        (schemas if is_routed_as_schema(blob[1]) else others).append(blob)
    return batch, schemas, others
