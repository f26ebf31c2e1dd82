"""Copies of an index in the bucket that holds its blobs, for the next machine."""

import logging
import threading
from collections.abc import Callable
from typing import Final

from ..blobserver.objects.bucket import OWN_FOLDER, Bucket
from ..errors import Corrupt, NotFound, StoreError
from ..index.checkpoint import export_rows, import_rows
from ..index.rows import IN_USE, STATE_KEY
from ..sorted.kv import KeyValue

log = logging.getLogger("peatkeep.server")

KEY: Final = OWN_FOLDER + "index-checkpoint"

TAG_ROW: Final = b"pk|checkpoint"
"""The tag of the checkpoint that these rows were last equal to, or are behind no more."""

EVERY_S: Final = 900
"""How often it is looked whether a new one is due."""


class Checkpoints:
    """Brings rows back before their index is opened, and saves them from time to time after.

    rows: of the index. arrivals: counts the blobs that have come in; without new ones, nothing
    is saved. A checkpoint that can't be saved costs time at the next start, so it is logged only.
    """

    def __init__(self, rows: KeyValue, bucket: Bucket, arrivals: Callable[[], int]) -> None:
        self._rows = rows
        self._bucket = bucket
        self._arrivals = arrivals
        self._saved_at = -1  # arrivals then
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def restore(self) -> None:
        """Fill empty rows from the checkpoint, if there is one.

        Rows that have seen an older one than there is are marked: somebody else served the
        bucket meanwhile, so the index must be compared with the blobs when it is opened.
        A damaged checkpoint is passed over: the index is then made anew from the blobs.
        """
        try:
            tag = self._bucket.head(KEY).tag.encode()
        except NotFound:
            return
        if self._rows.get(TAG_ROW) == tag:
            self._saved_at = 0
            return
        if next(self._rows.find(), None) is not None:
            self._rows.set(STATE_KEY, IN_USE)
            return
        try:
            count = import_rows(self._bucket.get_stream(KEY), self._rows)
        except Corrupt as error:
            log.warning("%s: %s", self._bucket.name_of(KEY), error)
            return
        log.info("%d rows of the index from %s", count, self._bucket.name_of(KEY))

    def start(self) -> None:
        """Begin to save in the background."""
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def save(self) -> None:
        """Save now, unless nothing has come in since. Raises what the bucket raises."""
        with self._lock:
            arrivals = self._arrivals()
            if arrivals == self._saved_at:
                return
            self._bucket.put_stream(KEY, export_rows(self._rows))
            self._rows.set(TAG_ROW, self._bucket.head(KEY).tag.encode())
            self._saved_at = arrivals

    def close(self) -> None:
        """Save a last time. The index must not have been closed yet."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._try_save()

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            self._try_save()

    def _try_save(self) -> None:
        try:
            self.save()
        except StoreError as error:
            log.warning("no checkpoint of the index: %s", error)
