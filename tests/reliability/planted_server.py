"""A peatkeepd with a planted bug: it acknowledges blobs first and writes them a moment later."""

import sys
import threading
from collections.abc import Iterable

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.diskpacked.store import DiskPacked
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.cli.peatkeepd import main

LATE_S = 0.3


def plant(store: type[DiskPacked] | type[LocalDisk]) -> None:
    write_now, sync_now = store.write_many, store.sync

    def write_later(
        self: DiskPacked | LocalDisk, blobs: Iterable[tuple[Ref, bytes]]
    ) -> list[SizedRef]:
        kept = list(blobs)

        def work() -> None:
            write_now(self, kept)  # type: ignore[arg-type]
            sync_now(self)  # type: ignore[arg-type]

        timer = threading.Timer(LATE_S, work)
        timer.daemon = True
        timer.start()
        return [SizedRef(ref, len(data)) for ref, data in kept]

    store.write_many = write_later  # type: ignore[method-assign]


plant(DiskPacked)
plant(LocalDisk)

if __name__ == "__main__":
    sys.exit(main())
