"""Keeping a second store, usually the index, up with a first one; and the page that says so.

What arrives is copied soon after, in batches, by one thread. Nothing of the queue needs to be
durable: at the start, and after any error, the two stores are compared and what lacks is copied.
"""

import html
import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from ..blob import Ref
from ..blobserver.storage import Storage
from ..blobserver.sync import compare
from ..errors import StoreError
from ..index.index import IndexRefused
from ..index.storage import IndexStorage
from ..schema.parse import may_be_schema
from .answers import HttpError, plain
from .auth import Right, same
from .forms import form_of
from .pages import framed
from .routes import ANY, POST, READ, Route
from .watched import Watched
from .world import World

log = logging.getLogger("peatkeep.server.sync")

BATCH_COUNT: Final = 500
BATCH_BYTES: Final = 32 * 1024 * 1024
QUEUE_LIMIT: Final = 200_000
"""Refs that wait; when there are more, the stores are compared instead."""

HELD_BYTES: Final = 16 * 1024 * 1024
"""Bytes of blobs in the queue that are kept; the others are read again when their turn comes."""

GATHER_WAIT_S: Final = 0.1
"""How long arrivals are gathered: schema blobs are mostly indexed by then, by their uploader."""

REFUSED_LIMIT: Final = 100
"""Refused blobs that are shown."""

RETRY_WAIT_S: Final = 30.0


class Sync:
    """Copies from one store to another what the other lacks, soon after it arrives."""

    def __init__(self, source: Watched, target: Storage) -> None:
        self._source = source
        self._target = target
        inner = target.inner if isinstance(target, Watched) else target
        self._indexes = isinstance(inner, IndexStorage)
        self._changed = threading.Condition()
        self._queue: dict[Ref, bytes | None] = {}
        self._held_bytes = 0
        self._must_compare = True
        self._is_stopped = False
        self._forget: Callable[[], object] = int
        self._thread = threading.Thread(target=self._run, name="sync", daemon=True)
        self.copied_blobs = 0
        self.copied_bytes = 0
        self.last_copy_s: float | None = None
        self.refused: dict[Ref, str] = {}
        self.failure = ""

    def start(self) -> None:
        self._forget = self._source.watch(self._on_arrival)
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in hand."""
        self._forget()
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def compare_all(self) -> None:
        """Look through both stores again, in the background."""
        with self._changed:
            self._must_compare = True
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Blobs in the queue."""
        return len(self._queue)

    def _on_arrival(self, blobs: Sequence[tuple[Ref, bytes | None]]) -> None:
        """Put blobs in the queue; their bytes as long as these are few, which spares a read."""
        waiting = self._without_chunks(blobs) if self._indexes else blobs
        if not waiting:
            return  # nobody is woken for nothing
        with self._changed:
            for ref, data in waiting:
                if ref in self._queue:
                    continue
                if len(self._queue) >= QUEUE_LIMIT:
                    self._must_compare = True
                    break
                if data is not None and self._held_bytes + len(data) > HELD_BYTES:
                    data = None
                self._held_bytes += len(data or b"")
                self._queue[ref] = data
            self._changed.notify_all()

    def _without_chunks(
        self, blobs: Sequence[tuple[Ref, bytes | None]]
    ) -> Sequence[tuple[Ref, bytes | None]]:
        """Index at once what is no schema blob, while its bytes are here. Returns the others.

        A row or two each: quicker than to read them again.
        """
        chunks: list[tuple[Ref, bytes]] = []
        others: list[tuple[Ref, bytes | None]] = []
        for ref, data in blobs:
            if data is None or may_be_schema(data):
                others.append((ref, data))
            else:
                chunks.append((ref, data))
        try:
            self._send(chunks)
        except Exception:
            log.exception("sync: chunks are left for later")
            return blobs
        return others

    def _run(self) -> None:
        while not self._is_stopped:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._is_stopped or self._queue or self._must_compare
                )
            if len(self._queue) < BATCH_COUNT:
                self._pause(GATHER_WAIT_S)
            try:
                self._step()
                self.failure = ""
            except StoreError as error:
                log.error("sync: %s", error)
                self.failure = str(error)
                self.compare_all()
                self._pause(RETRY_WAIT_S)
            except Exception:
                log.exception("sync")
                self.failure = "internal error, see the log"
                self.compare_all()
                self._pause(RETRY_WAIT_S)

    def _pause(self, wait_s: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped, wait_s)

    def _step(self) -> None:
        with self._changed:
            must_compare, self._must_compare = self._must_compare, False
            batch = dict(islice(self._queue.items(), BATCH_COUNT))
        if must_compare:
            self._compare()
        elif batch:
            present = {found.ref for found in self._target.stat(batch)}
            held = [(ref, data) for ref, data in batch.items() if data is not None]
            self._send([blob for blob in held if blob[0] not in present])
            self._copy([ref for ref in batch if batch[ref] is None and ref not in present])
            with self._changed:
                for ref in batch:
                    self._held_bytes -= len(self._queue.pop(ref, None) or b"")

    def _compare(self) -> None:
        batch: list[Ref] = []
        for difference in compare(self._source.enumerate(), self._target.enumerate()):
            if self._is_stopped:
                return
            if difference.left is not None and difference.right is None:
                batch.append(difference.ref)
            if len(batch) >= BATCH_COUNT:
                self._copy(batch)
                batch = []
        self._copy(batch)

    def _copy(self, refs: Sequence[Ref]) -> None:
        blobs: list[tuple[Ref, bytes]] = []
        size = 0
        for ref, data in self._source.fetch_many(refs):
            if isinstance(data, bytes):
                blobs.append((ref, data))
                size += len(data)
            if size >= BATCH_BYTES:
                self._send(blobs)
                blobs, size = [], 0
        self._send(blobs)

    def _send(self, blobs: Sequence[tuple[Ref, bytes]]) -> None:
        if not blobs:
            return
        refused: dict[Ref, str] = {}
        try:
            self._target.receive_many(blobs)
        except IndexRefused as error:
            # It will be no better next time: they are named, not tried for ever.
            refused = error.reasons
            for ref, reason in refused.items():
                log.warning("sync: %s is not indexed: %s", ref, reason)
        with self._changed:
            self.refused = dict([*self.refused.items(), *refused.items()][-REFUSED_LIMIT:])
            self.copied_blobs += len(blobs) - len(refused)
            self.copied_bytes += sum(len(data) for ref, data in blobs if ref not in refused)
            self.last_copy_s = time.time()


class SyncPage:
    """Mounted at `/sync/`: how far it is, and a button that compares everything."""

    def __init__(self, world: World, prefix: str, source: str, target: str, sync: Sync) -> None:
        self._world = world
        self._prefix = prefix
        self._source = source
        self._target = target
        self._sync = sync
        self._token = secrets.token_hex(20)

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route(READ, "", Right.ALL, self.show),
            Route(POST, "", Right.ALL, self.validate),
            Route(ANY, "*", Right.ALL, bad_path),
        )

    async def show(self, _: Request) -> Response:
        sync = self._sync
        lines = [
            f"Copied since the start: {sync.copied_blobs} blobs, {sync.copied_bytes} bytes.",
            f"Waiting: {sync.waiting} blobs.",
            *([f"Last error: {html.escape(sync.failure)}"] if sync.failure else []),
            *(f"Refused: {ref}: {html.escape(why)}" for ref, why in list(sync.refused.items())),
        ]
        items = "".join(f"<li>{line}</li>" for line in lines)
        body = (
            f"<ul>{items}</ul><form method='post'><input type='hidden' name='mode'"
            f" value='validate'><input type='hidden' name='token' value='{self._token}'>"
            "<button>Compare everything</button></form>"
        )
        return framed(self._world, f"Sync from {self._source} to {self._target}", body)

    async def validate(self, request: Request) -> Response:
        form = await form_of(request)
        if form.get("mode") != "validate" or not same(form.get("token", ""), self._token):
            raise HttpError(400, "Bad POST request")
        self._sync.compare_all()
        return Response(status_code=302, headers={"Location": self._prefix})


async def bad_path(_: Request) -> Response:
    return plain("404 page not found", 404)
