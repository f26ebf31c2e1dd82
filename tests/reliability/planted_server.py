"""A peatkeepd with a planted bug: it acknowledges blobs first and writes them a moment later."""

import sys
import threading
from collections.abc import Iterable

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.cli.peatkeepd import main

LATE_S = 0.3

write_now = LocalDisk.write_many
sync_now = LocalDisk.sync


def write_later(self: LocalDisk, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
    kept = list(blobs)

    def work() -> None:
        write_now(self, kept)
        sync_now(self)

    timer = threading.Timer(LATE_S, work)
    timer.daemon = True
    timer.start()
    return [SizedRef(ref, len(data)) for ref, data in kept]


LocalDisk.write_many = write_later  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
