"""A peatkeepd with a planted bug: it reads on for streams whose clients take nothing."""

import sys

from peatkeep.blobserver.wire import ServerMachine
from peatkeep.cli.peatkeepd import main


def room(_self: ServerMachine, _priority: int) -> int:
    """There is always room."""
    return 1 << 20


ServerMachine.room = room  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
