"""Moving the blobs of a running server to another store (config/README.md, "Migration")."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..blobserver.migrating import Migrating, Progress, Stopped
from ..errors import ConfigError, StoreError
from .config.rewriting import finish_migration

log = logging.getLogger("peatkeep.server")

RETRY_WAIT_S: Final = 60.0
"""After a failure of one of the stores."""


class Migration:
    """One migration, in a thread of its own; goes on where an earlier process was stopped.

    progress: for the status page and `pk storage migrate`. failure: what it waits to try again.
    """

    def __init__(self, prefix: str, store: Migrating, finish: Callable[[], None]) -> None:
        """finish: makes the configuration name the new store alone. Raises ConfigError."""
        self.progress = Progress("copying")
        self.failure = ""
        self._prefix = prefix
        self._store = store
        self._finish = finish
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="migration", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for the batch in hand."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def run(self, tell: Callable[[Progress], None]) -> Progress:
        """Do it here and now. Raises what the stores raise, ConfigError, and what `tell` does."""
        progress = self._store.migrate(tell)
        if progress.phase == "done":
            self._finish()
        return progress

    def document(self) -> dict[str, object]:
        """What status.json says."""
        return self.progress.document() | ({"failure": self.failure} if self.failure else {})

    def _run(self) -> None:
        log.info("%s: moving the blobs to the new store", self._prefix)
        while not self._stop.is_set():
            try:
                # "done" is said last: who waits for it may read the configuration.
                progress = self.run(self._tell)
            except Stopped:
                return
            except ConfigError as error:  # only a person can help
                self.failure = str(error)
                log.error("%s: the blobs have moved, but: %s", self._prefix, error)
                return
            except StoreError as error:
                self.failure = str(error)
                log.warning("%s: the migration waits: %s", self._prefix, error)
                self._stop.wait(RETRY_WAIT_S)
                continue
            self.progress, self.failure = progress, ""
            self._report(progress)
            return

    def _tell(self, progress: Progress) -> None:
        if self._stop.is_set():
            raise Stopped
        if progress.phase != "done":
            self.progress = progress

    def _report(self, progress: Progress) -> None:
        if progress.phase == "done":
            log.info("%s: %d blobs have moved and were read back", self._prefix, progress.blobs)
        for ref in progress.damaged[:20]:
            log.warning("%s: %s is damaged in the old store", self._prefix, ref)
        if progress.damaged_count:
            log.warning("%s: %d damaged blobs could not move", self._prefix, progress.damaged_count)


def finisher(path: Path | None) -> Callable[[], None]:
    """What changes the configuration at the end, for a file of ours that asks for a migration."""
    return lambda: finish_migration(path) if path is not None else None
