"""Where extraction gets blobs from: the batch in hand before the store."""

from collections.abc import Mapping

from ..blob import Fetcher, Ref


class LocalFirst:
    """A Fetcher that looks into a batch first: no blob of it is read back from the store."""

    __slots__ = ("_batch", "_blobs")

    def __init__(self, batch: Mapping[Ref, bytes], blobs: Fetcher) -> None:
        self._batch = batch
        self._blobs = blobs

    def fetch(self, ref: Ref) -> bytes:
        data = self._batch.get(ref)
        return data if data is not None else self._blobs.fetch(ref)
