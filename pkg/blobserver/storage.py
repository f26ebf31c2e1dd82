"""The storage contract: what every backend and combinator promises."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, Self, runtime_checkable

from ..blob import Ref, SizedRef
from ..errors import Corrupt, Invalid, NotFound, Unsupported


class Generation(NamedTuple):
    """One incarnation of a store. Clients key their "already uploaded" caches by `token`."""

    initialised: datetime  # aware, UTC
    token: str


class StreamedBlob(NamedTuple):
    """A blob met by `stream`. Streaming again from `token` yields this blob first."""

    token: str
    ref: Ref
    data: bytes


class Storage(ABC):
    """Keeps blobs. Methods may block and are safe to call from many threads.

    A blob is at most MAX_BLOB_SIZE bytes, so it travels whole.
    Callers store through `receive.receive`, which checks size and digest first: backends trust
    what they are given, and verify what they read back.

    Generators (`stat`, `enumerate`, `fetch_many`, `stream`) are used by one thread at a time,
    closed by the caller, and stay usable while others write.

    remarks: what opening found and mended, a sentence each, for the log. No secrets.
    """

    remarks: Sequence[str] = ()

    # -- primitives: every backend writes these -------------------------------------------------

    @abstractmethod
    def fetch(self, ref: Ref) -> bytes:
        """Return the blob. Raises NotFound; Corrupt when the bytes do not match the ref."""

    @abstractmethod
    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        """Take blobs without making them durable; the result is in the order given.

        Until `sync`, `stat` and `enumerate` leave them out. A blob that is there already may be
        written again, which replaces a damaged copy.
        """

    @abstractmethod
    def sync(self) -> None:
        """Make all that was written before this call durable and visible.

        Raises ReadOnly when durability can't be promised any more: after a failed fsync the
        store never says yes again.
        """

    @abstractmethod
    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        """Yield the blobs that are there, each once, in any order; the others are left out."""

    @abstractmethod
    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        """Yield every blob whose ref text is greater than `after`, in ascending order.

        `after` may be any text, also no ref.
        """

    @abstractmethod
    def remove(self, refs: Iterable[Ref]) -> None:
        """Remove blobs durably; absent ones are no error. Raises Unsupported where impossible."""

    # -- defaults: correct, overridden where a backend knows better -----------------------------

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        """Store blobs durably: one sync for all of them (group commit)."""
        written = self.write_many(blobs)
        self.sync()
        return written

    def receive(self, ref: Ref, data: bytes) -> SizedRef:
        """Store one blob durably."""
        return self.receive_many([(ref, data)])[0]

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset`; at the end of the blob, b"".

        Raises Invalid when a number is negative or `offset` lies past the end.
        """
        data = self.fetch(ref)
        check_range(ref, offset, length, len(data))
        return data[offset : offset + length]

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        """As `fetch_range`, unverified: for callers who check by digests of their own what they
        read, and want what is left of a damaged blob.

        Override where a backend can read without verifying; the default verifies.
        """
        return self.fetch_range(ref, offset, length)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, bytes | NotFound | Corrupt]]:
        """Yield each blob in the order asked for; an absent or damaged one as its error."""
        for ref in refs:
            try:
                yield ref, self.fetch(ref)
            except (NotFound, Corrupt) as error:
                yield ref, error

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        """Yield every readable blob with its data, in the cheapest order; damaged ones left out.

        token: empty, or that of a blob yielded earlier, which then comes first again.
        The default streams in ref order with the ref as the token.
        """
        for found in self._from(token):
            try:
                data = self.fetch(found.ref)
            except (NotFound, Corrupt):
                continue
            yield StreamedBlob(found.ref, found.ref, data)

    def _from(self, token: str) -> Iterator[SizedRef]:
        if token:
            yield from self.stat([Ref(token)])
        yield from self.enumerate(token)

    def generation(self) -> Generation | None:
        """This incarnation of the store, or None where a store has none (memory)."""
        return None

    def reset_generation(self) -> None:
        """Begin a new generation; call it after any loss. Raises Unsupported."""
        raise Unsupported("reset generation", type(self).__name__)

    def close(self) -> None:  # noqa: B027 - most backends hold nothing open
        """Give back locks and files. Further calls are undefined."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@runtime_checkable
class Recoverable(Protocol):
    """A store that keeps rows about its blobs, and can write them anew from what it holds."""

    def recover(self, forget_missing: bool = False) -> None:
        """forget_missing: also delete the rows of what is not there any more."""
        ...


def check_range(ref: Ref, offset: int, length: int, size: int) -> None:
    """Raise Invalid unless offset and length, in bytes, make a range of a blob of this size."""
    if offset < 0 or length < 0:
        raise Invalid("fetch range", ref, f"negative offset or length ({offset}, {length})")
    if offset > size:
        raise Invalid("fetch range", ref, f"offset {offset} lies past the end ({size})")
