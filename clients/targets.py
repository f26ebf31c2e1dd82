"""Where a backup can go instead of a server: a store in this process, or nowhere."""

from collections.abc import Sequence

from ..blob import Ref, SizedRef
from ..blobserver.receive import receive_many
from ..blobserver.remote import Uploaded
from ..blobserver.storage import Storage
from ..errors import Unsupported

Blob = tuple[Ref, bytes]


class StorageTarget:
    """An UploadTarget that stores through the checked door."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def upload(self, batch: Sequence[Blob], vivify: bool = False) -> Uploaded:
        if vivify:
            raise Unsupported("vivify", "files", "only a server can")
        return Uploaded(receive_many(self._storage, batch), [])


class Discard:
    """An UploadTarget that keeps nothing: for refs alone, and for measuring."""

    def upload(self, batch: Sequence[Blob], vivify: bool = False) -> Uploaded:  # noqa: ARG002
        return Uploaded([SizedRef(ref, len(data)) for ref, data in batch], [])
