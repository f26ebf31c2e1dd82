"""Stores with one planted bug each, to see that the suite notices it."""

from collections.abc import Iterable, Iterator
from itertools import chain

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.storage import StreamedBlob
from peatkeep.errors import NotFound

Blobs = Iterable[tuple[Ref, bytes]]


class LosesOnSync(Memory):
    """Forgets the last blob of every group."""

    def sync(self) -> None:
        if self._unsynced:
            self._unsynced.popitem()
        super().sync()


class ListsUnsorted(Memory):
    """Lists in the order of arrival."""

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        for ref, data in list(self._blobs.items()):
            if ref > after:
                yield SizedRef(ref, len(data))


class ListsAfterInclusive(Memory):
    """Begins with the ref after which it should begin."""

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        first = [after] if after in self._blobs else []
        return chain(self.stat(Ref(ref) for ref in first), super().enumerate(after))


class ListsOnePage(Memory):
    """Ends its listing after fifty blobs."""

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        for number, found in enumerate(super().enumerate(after)):
            if number < 50:
                yield found


class ListsTwice(Memory):
    """Yields each blob twice."""

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        for found in super().enumerate(after):
            yield found
            yield found


class ListingBreaksOnWrites(Memory):
    """Walks the live dictionary."""

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        for ref in sorted(self._blobs):
            if ref > after:
                yield SizedRef(ref, len(self._blobs[ref]))


class ServesFlippedBytes(Memory):
    """One bit is wrong."""

    def fetch(self, ref: Ref) -> bytes:
        data = super().fetch(ref)
        return data[:-1] + bytes([data[-1] ^ 1]) if data else data


class ServesShort(Memory):
    """Cuts large blobs, silently."""

    def fetch(self, ref: Ref) -> bytes:
        return super().fetch(ref)[:1_000_000]


class ShowsBeforeSync(Memory):
    """Acknowledges before durable: what is written is visible at once."""

    def write_many(self, blobs: Blobs) -> list[SizedRef]:
        written = super().write_many(blobs)
        super().sync()
        return written


class ForgetsRemoves(Memory):
    """Removing does nothing."""

    def remove(self, refs: Iterable[Ref]) -> None: ...


class RefusesUnknownRemoves(Memory):
    """Raises for a blob that is not there."""

    def remove(self, refs: Iterable[Ref]) -> None:
        wanted = list(refs)
        for ref in wanted:
            if ref not in self._blobs:
                raise NotFound("remove", ref)
        super().remove(wanted)


class RemovesInWaitOnly(Memory):
    """A removal does not reach a blob that waits for its sync."""

    def remove(self, refs: Iterable[Ref]) -> None:
        with self._lock:
            waiting = dict(self._unsynced)
        super().remove(refs)
        with self._lock:
            self._unsynced.update(waiting)


class InventsBlobs(Memory):
    """Says that it has everything."""

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        for ref in refs:
            yield SizedRef(ref, len(self._blobs.get(ref, b"")))


class StatsTwice(Memory):
    """Answers once for each time a ref is asked for."""

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        for ref in refs:
            if ref in self._blobs:
                yield SizedRef(ref, len(self._blobs[ref]))


class LiesAboutSizes(Memory):
    """Sizes are one too large."""

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        for ref, size in super().stat(refs):
            yield SizedRef(ref, size + 1)


class AnswersInRefOrder(Memory):
    """Answers a batch sorted instead of as it was given."""

    def write_many(self, blobs: Blobs) -> list[SizedRef]:
        return sorted(super().write_many(blobs))


class RangesWithoutChecks(Memory):
    """Slices, whatever the numbers are."""

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        return self.fetch(ref)[offset : offset + length]


class RangesStrictly(Memory):
    """Refuses a range that goes past the end."""

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        data = super().fetch_range(ref, offset, length)
        if len(data) < length:
            raise NotFound("fetch range", ref)
        return data


class SkipsTheTokenBlob(Memory):
    """Goes on behind the token instead of at it."""

    def _from(self, token: str) -> Iterator[SizedRef]:
        return self.enumerate(token)


class StreamsForgetfully(Memory):
    """Begins again, whatever the token is."""

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        return super().stream("")


class DropsEmptyBlobs(Memory):
    """Takes the empty blob for none."""

    def write_many(self, blobs: Blobs) -> list[SizedRef]:
        batch = list(blobs)
        super().write_many(blob for blob in batch if blob[1])
        return [SizedRef(ref, len(data)) for ref, data in batch]


class KnowsOnlySha224(Memory):
    """Leaves blobs of other hashes out of its listing."""

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        return (found for found in super().enumerate(after) if found.ref.startswith("sha224-"))


class HidesWhatIsWrittenAgain(Memory):
    """Takes a blob away until the sync of its second copy."""

    def write_many(self, blobs: Blobs) -> list[SizedRef]:
        batch = list(blobs)
        self.remove(ref for ref, _ in batch)
        return super().write_many(batch)
