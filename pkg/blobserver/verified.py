"""Which files this process has read and found right, and whether they are still the same."""

import os
import threading
from collections import OrderedDict
from typing import Final, NamedTuple, Self

from ..blob import Ref

LIMIT: Final = 32_768
"""Files remembered; the oldest are forgotten. About 12 MB."""

RACY_NS: Final = 50_000_000
"""A file changed so shortly before it was read may change again without a new time stamp."""


class Identity(NamedTuple):
    """Equal identities mean an unchanged file, unless somebody sets the clock back."""

    device: int
    inode: int
    size: int  # bytes
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


class Verified:
    """A bounded memory of verified files. Safe to use from many threads."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._files: OrderedDict[Ref, Identity] = OrderedDict()

    def remember(self, ref: Ref, identity: Identity, read_ns: int) -> None:
        """Note that the file held the blob.

        identity: as it was before the reading, which began at `read_ns` by the file system's clock.
        """
        if read_ns - identity.ctime_ns < RACY_NS:
            return
        with self._lock:
            self._files.pop(ref, None)
            self._files[ref] = identity
            if len(self._files) > self._limit:
                self._files.popitem(last=False)

    def knows(self, ref: Ref, identity: Identity) -> bool:
        """Whether exactly this file was verified under this ref."""
        return self._files.get(ref) == identity
