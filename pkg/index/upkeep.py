"""Keeps an index whole in the background, while it serves (README.md, "Making it anew")."""

import logging
import random
import threading
from collections.abc import Sequence
from typing import Final

from ..blob import Ref
from ..errors import Corrupt, StoreError
from .index import Index, Report
from .places import Place, SwappableRows
from .rows import have_key, meta_key, parse_have, parse_meta

log = logging.getLogger(__name__)

SAMPLES: Final = 64
"""Blobs whose rows are looked at when an index is opened."""

_LOGGED_EVERY: Final = 50_000


class _StoppedError(Exception):
    """The process ends: what is being made is gone on with at the next start."""


class Upkeep:
    """Work on one index in a thread of its own.

    reason: why its rows must be made anew; "": they need not, as far as is known. What is lacking
    is completed in any case. Files are made anew beside the old ones, which serve meanwhile;
    other rows (SQL servers) where they are.
    """

    def __init__(self, index: Index, rows: SwappableRows, place: Place, reason: str = "") -> None:
        self._index = index
        self._rows = rows
        self._place = place
        self._reason = reason
        self._done = 0
        self._doing = ""
        self._failure = ""
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._noticed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="index upkeep", daemon=True)

    def start(self) -> None:
        self._rows.on_damage = self.notice
        self._thread.start()

    def wait(self, most_s: float | None = None) -> bool:
        """Return when there is nothing more to do, or after so long; whether there is not."""
        return self._idle.wait(most_s)

    def notice(self, reason: str) -> None:
        """Somebody met damaged rows: make them anew, unless that was tried in vain."""
        if self._idle.is_set() and not self._failure:
            self._reason = reason
            self._idle.clear()
            self._noticed.set()

    def close(self) -> None:
        """Stop; before the index is closed."""
        self._stopping.set()
        self._noticed.set()
        if self._thread.is_alive():
            self._thread.join()

    def document(self) -> dict[str, object]:
        """For a page of status; empty while all is well. blobsDone: of what is being done."""
        if not (self._doing or self._failure):
            return {}
        found: dict[str, object] = {"doing": self._doing or "nothing", "blobsDone": self._done}
        return found | ({"error": self._failure} if self._failure else {})

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._noticed.clear()
            self._work()
            self._idle.set()
            self._noticed.wait()

    def _work(self) -> None:
        try:
            reason, self._reason = self._reason or self._damage(), ""
            if reason:
                self._make_anew(reason)
            elif not self._index.is_whole:
                self._doing = "completing the index"
                _log_report(self._doing, self._index.complete(self._progress))
        except _StoppedError:
            log.info("%s: stopped after %d blobs", self._doing, self._done)
        except (StoreError, OSError) as error:
            self._failure = str(error)
            log.error("%s: %s", self._doing, error)
        self._doing = ""

    def _progress(self, done: int) -> None:
        if self._stopping.is_set():
            raise _StoppedError
        if done // _LOGGED_EVERY > self._done // _LOGGED_EVERY:
            log.info("%s: %d blobs", self._doing, done)
        self._done = done

    def _make_anew(self, reason: str) -> None:
        self._doing = f"making the index anew ({reason})"
        log.info("%s", self._doing)
        if not self._place.can_move:
            _log_report(self._doing, self._index.reindex(self._progress))
            return
        fresh = self._place.open_next()
        building = self._index.beside(fresh)
        with self._index.mirrored(building):
            try:
                report = building.make(self._progress)
                while not building.is_whole:
                    building.complete(self._progress)
                building.sync()
            except BaseException:
                building.close()
                raise
            # What arrives goes into both until now. A crash before the next line leaves two
            # indexes, of which the old one is compared with the store and the new one completed.
            self._index.swap(lambda: self._rows.swap(fresh))
        self._place.finish_next()
        _log_report(self._doing, report)

    def _damage(self) -> str:
        """Look at the rows of some blobs, from random places on."""
        try:
            for found in self._sampled():
                size, is_complete = parse_have(self._rows.get(have_key(found)) or b"?")
                meta = self._rows.get(meta_key(found))
                if is_complete and (meta is None or parse_meta(meta).size != size):
                    return f"the rows of {found} do not fit together"
        except Corrupt as error:
            return str(error)
        return ""

    def _sampled(self) -> Sequence[Ref]:
        refs = []
        for _ in range(SAMPLES):
            start = have_key(f"sha224-{random.getrandbits(32):08x}")
            row = next(self._rows.find(start, b"have;"), None)
            if row is not None:
                refs.append(Ref.trusted(row[0][5:].decode("utf-8", "replace")))
        return refs


def _log_report(what: str, report: Report) -> None:
    if report.blobs_count:  # a new server's store is empty: no news for whoever starts it
        log.info("%s: done, %d blobs read", what, report.blobs_count)
    if report.refused:
        log.warning("the index refuses %d blobs", len(report.refused))
    for ref in sorted(report.refused)[:20]:
        log.warning("the index refuses %s: %s", ref, report.refused[ref])
