"""Packing in quiet moments what lies loose (README.md, "Packing")."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from ..blobserver.blobpacked import BlobPacked
from ..errors import StoreError

log = logging.getLogger("peatkeep.server")

LEAST_BYTES: Final = 64 * 1024 * 1024
"""So much must have come in loose, or lie loose at the start: less is not worth a look."""

QUIET_S: Final = 60.0
"""Nobody has written for so long."""

LOOK_WAIT_S: Final = 15.0

STROKE_S: Final = 0.05
SHARE: Final = 0.25
"""Work goes in strokes of about so many seconds, and takes this share of the time."""


class _Ended(Exception):
    """The server stops, or somebody writes."""


class Packed(NamedTuple):
    """What was done since the start, for the status page."""

    files: int = 0
    bundled: int = 0


class Packing:
    """Packs the loose files of one store, and bundles small ones, in a thread of its own.

    Only while nobody writes, and for a quarter of the time at most; it gives way at the next blob.
    """

    def __init__(
        self,
        prefix: str,
        store: BlobPacked,
        *,
        quiet_s: float = QUIET_S,
        least_bytes: int = LEAST_BYTES,
        look_wait_s: float = LOOK_WAIT_S,
    ) -> None:
        self._prefix = prefix
        self._store = store
        self._quiet_s = quiet_s
        self._least_bytes = least_bytes
        self._look_wait_s = look_wait_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen_bytes = self._swept_bytes = 0
        self._is_working = False
        self._done = Packed()
        self._failure = ""

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="packing", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for the zip in hand."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def is_stopping(self) -> bool:
        return self._stop.is_set()

    def document(self) -> dict[str, object]:
        """What status.json says."""
        return {
            "phase": "packing" if self._is_working else "waiting",
            "filesPacked": self._done.files,
            "smallFilesBundled": self._done.bundled,
            **({"failure": self._failure} if self._failure else {}),
        }

    def _run(self) -> None:
        # What an earlier process left loose counts as if it had just come in.
        known = False
        quiet_since_s = time.monotonic()
        while not self._stop.wait(self._look_wait_s):
            if self._store.written_bytes != self._seen_bytes:
                self._seen_bytes, quiet_since_s = self._store.written_bytes, time.monotonic()
            if time.monotonic() - quiet_since_s < self._quiet_s:
                continue
            try:
                if not known:
                    self._swept_bytes = self._seen_bytes - self._store.loose_bytes()
                    known = True
                if self._seen_bytes - self._swept_bytes >= self._least_bytes:
                    self._sweep()
                self._failure = ""
            except _Ended:
                pass  # what is left over is done at the next quiet moment
            except StoreError as error:
                if str(error) != self._failure:
                    log.warning("%s: packing waits: %s", self._prefix, error)
                self._failure = str(error)

    def _sweep(self) -> None:
        """Raises _Ended, and what the stores raise."""
        before = self._seen_bytes
        pace = _Pace(self._give_way, self._stop)
        self._is_working = True
        try:
            files = self._store.pack_loose(pace.step)
            bundled = self._store.bundle_loose(pace.step)
        finally:
            self._is_working = False
        self._swept_bytes = before
        self._done = Packed(self._done.files + files, self._done.bundled + bundled)
        log.info("%s: %d loose files packed, %d small ones bundled", self._prefix, files, bundled)

    def _give_way(self) -> None:
        if self._stop.is_set() or self._store.written_bytes != self._seen_bytes:
            raise _Ended


class _Pace:
    """Works in strokes, and waits three times as long after each.

    check: raises where the work is to end.
    """

    def __init__(self, check: Callable[[], None], stop: threading.Event) -> None:
        self._check = check
        self._stop = stop
        self._began_s = time.monotonic()

    def step(self) -> None:
        self._check()
        worked_s = time.monotonic() - self._began_s
        if worked_s >= STROKE_S:
            self._stop.wait(worked_s * (1 / SHARE - 1))
            self._check()
            self._began_s = time.monotonic()
