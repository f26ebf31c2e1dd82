"""The storage: loose blobs, and zips into which whole files move."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Final, NamedTuple

from ...blob import Ref, SizedRef
from ...errors import ConfigError, Corrupt, Invalid, NotFound, StoreError, Unavailable, Unsupported
from ...schema.parse import parse_object
from ...sorted.kv import KeyValue
from ...sorted.options import Options
from ..diskpacked.rowstore import open_rows
from ..storage import Generation, Storage, StreamedBlob
from .batchread import fetched
from .bundle import related_files, write_bundles
from .moves import Moves
from .plan import Remembering, plan_file, wants_packing, write_packs
from .rows import Place, Rows
from .streams import BlobStream, open_whole
from .survey import Damaged, Survey, read_blob
from .worker import Worker

_PAGE: Final = 2000
"""Loose blobs listed at a time; the rows of the same stretch are read after them."""

_BATCH: Final = 500
"""Blobs of `fetch_many` whose rows are looked up together."""

_REMEMBERED_FAILURES: Final = 1000

_LARGEST_SCHEMA: Final = 1024 * 1024
"""Bytes; a larger loose blob describes nothing, and need not be read to be known as data."""


class _Job(NamedTuple):
    """Work for after the answer: "pack" a file blob, "tidy" up the loose copies of a zip, "resume"
    the packing of a whole file, "unpack" the zips that hold removed blobs.
    """

    kind: str
    ref: Ref | None = None


class _Closing(Exception):
    """The store is being closed; what is done in the background ends."""


class BlobPacked(Storage):
    """Blobs arrive in `small`; the chunks and schema blobs of a file move into zips in `large`.

    Every read is verified; where a packed copy is damaged, another one is looked for. The rows
    are a cache of what the zips say, made again where they are missing or stale. The two stores
    belong to whoever passed them in; the rows are closed with this one.

    written_bytes: came in loose since this was opened, only ever growing.
    """

    def __init__(
        self,
        small: Storage,
        large: Storage,
        rows: KeyValue,
        now_s: Callable[[], int] = lambda: int(time.time()),
        in_background: bool = True,
    ) -> None:
        """small: must be able to remove. rows: used by nobody else.

        in_background: pack as files arrive; else only within `settle`. Raises Unavailable.
        """
        self._small = small
        self._large = large
        self._rows = Rows(rows)
        self._survey = Survey(small, large, self._rows)
        self._moves = Moves(small, large, self._rows, self._survey, now_s)
        self._worker = Worker[_Job](self._do, "blobpacked", in_background)
        self._lock = threading.Lock()
        self._files: list[Ref] = []  # written, not synced, to be packed
        self._healed: dict[Ref, Place] = {}  # written loose, not synced; there is a bad copy
        self._rerouted: set[Ref] = set()
        self.written_bytes = 0
        self._failures: dict[_Job, str] = {}
        self._pack_lock = threading.Lock()
        self._streams = 0  # open
        self._compacts_later = False
        for zip_ref in self._survey.start():
            self._worker.add(_Job("tidy", zip_ref))
        self.remarks = [f"{found.subject}: {found.reason}" for found in self._survey.findings()]
        for whole in self._rows.unfinished():
            self._worker.add(_Job("resume", whole))

    @classmethod
    def from_config(
        cls, args: Mapping[str, object], resolve: Callable[[str], Storage]
    ) -> "BlobPacked":
        """Arguments: smallBlobs, largeBlobs, metaIndex; keepGoing, which changes nothing.

        A damaged index is set aside and made anew from the zips.
        """
        with Options("storage-blobpacked", args) as options:
            small, large = options.string("smallBlobs"), options.string("largeBlobs")
            rows = options.table("metaIndex")
            options.boolean("keepGoing", False)
        if not rows:  # else it would be made in the current folder
            raise ConfigError("configure", "storage-blobpacked, metaIndex", "needs a type")
        loose, zips = resolve(small), resolve(large)

        def use(index: KeyValue, _is_new: bool) -> "BlobPacked":
            try:
                return cls(loose, zips, index)
            except BaseException:
                index.close()
                raise

        store, remarks = open_rows(Path(), rows, use)
        store.remarks = [*remarks, *store.remarks]
        return store

    # -- reading --------------------------------------------------------------------------------

    def fetch(self, ref: Ref) -> bytes:
        place = self._rows.place(ref)
        while True:
            failure: StoreError = NotFound("fetch", ref)
            if place is not None:
                try:
                    return read_blob(self._large, ref, place)
                except (NotFound, Corrupt, Unavailable) as error:
                    failure = error
            try:
                return self._small.fetch(ref)
            except NotFound:
                before, place = place, self._rows.place(ref)
            if place == before:
                break
        if place is None or isinstance(failure, Unavailable):
            raise failure
        return self._fetch_elsewhere(ref, place, failure)

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        if self._rows.place(ref) is None:
            try:
                return self._small.fetch_range(ref, offset, length)
            except NotFound:
                pass  # packed meanwhile, or unknown
        return super().fetch_range(ref, offset, length)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, bytes | NotFound | Corrupt]]:
        """Neighbours in a zip, as the chunks of a file are, come by one read of the zip."""
        wanted = iter(refs)
        while page := list(islice(wanted, _BATCH)):
            yield from fetched(page, self._rows.places(page), self._small, self._large, self.fetch)

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        wanted = dict.fromkeys(refs)
        while page := list(islice(wanted, _PAGE)):
            for ref in page:
                del wanted[ref]
            yield from self._stat(page)

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        loose = self._small.enumerate(after)
        while True:
            moved = self._moves.moved_out
            page = list(islice(loose, _PAGE))
            upto = page[-1].ref if len(page) == _PAGE else ""
            packed = self._rows.sizes_after(after, upto, self._survey.missing)
            first = list(islice(packed, 1))  # the first step takes the snapshot
            if self._moves.moved_out != moved:
                loose = self._small.enumerate(after)
                continue
            if page:
                yield from _merged(page, chain(first, packed))
            else:  # the usual case, where each step between counts
                yield from first
                yield from packed
            if not upto:
                return
            after = upto

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        """In Perkeep's order and with its tokens; a blob that lies twice comes once."""
        with self._lock:
            self._streams += 1
        try:
            stream = BlobStream(self._small, self._large, self._rows, self._survey, self.fetch)
            yield from stream.blobs(token)
        finally:
            with self._lock:
                self._streams -= 1
                is_due = self._compacts_later and not self._streams
            if is_due:
                self._worker.add(_Job("unpack"))

    def open_whole(self, whole: Ref, offset: int = 0) -> Iterator[bytes]:
        """Yield the content of a packed file, verified, from `offset`; in pieces as it is stored.

        whole: the digest of the content. Raises NotFound unless all of it is packed, Invalid for
        an offset outside; while reading, Corrupt.
        """
        return open_whole(self, self._large, self._rows, whole, offset)

    def _stat(self, refs: list[Ref]) -> Iterator[SizedRef]:
        """A blob may move between the first look and the second: then the third finds it."""
        left = dict.fromkeys(refs)
        for ref, size in self._packed(left):
            del left[ref]
            yield SizedRef(ref, size)
        if left:
            for found in self._small.stat(list(left)):
                del left[found.ref]
                yield found
        if left:
            yield from self._packed(left)

    def _packed(self, refs: Iterable[Ref]) -> list[SizedRef]:
        missing = self._survey.missing
        places = self._rows.places(refs).items()
        return [SizedRef(ref, at.size) for ref, at in places if at.zip_ref not in missing]

    def _fetch_elsewhere(self, ref: Ref, place: Place, failure: StoreError) -> bytes:
        """The copy in another zip; each bad zip is looked at once."""
        with self._lock:
            is_new = place.zip_ref not in self._rerouted
            self._rerouted.add(place.zip_ref)
        if is_new:
            with self._moves.none():
                self._survey.reroute({place.zip_ref})
        now = self._rows.place(ref)
        if now is None or now == place:
            raise failure
        return read_blob(self._large, ref, now)

    # -- writing --------------------------------------------------------------------------------

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = list(blobs)
        places = self._rows.places(ref for ref, _ in batch)
        loose, files, healed = [], [], {}
        for ref, data in batch:
            place = places.get(ref)
            if place is not None and self._holds(place, data):
                continue
            loose.append((ref, data))
            if place is not None:
                healed[ref] = place
            elif wants_packing(data):
                files.append(ref)
        if loose:
            self._small.write_many(loose)
            with self._lock:
                self.written_bytes += sum(len(data) for _, data in loose)
                self._files += files
                self._healed.update(healed)
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def sync(self) -> None:
        with self._lock:
            files, self._files = self._files, []
            healed, self._healed = self._healed, {}
        try:
            self._small.sync()
            if healed:
                self._moves.lead_to_loose(healed)
        except StoreError:
            with self._lock:
                self._files += files
                self._healed.update(healed)
            raise
        for ref in files:
            self._worker.add(_Job("pack", ref))

    def remove(self, refs: Iterable[Ref]) -> None:
        """Removed blobs are gone for readers at once; their space comes back in the background."""
        if self._moves.remove(refs):
            self._worker.add(_Job("unpack"))

    def _holds(self, place: Place, data: bytes) -> bool:
        try:
            return (
                place.size == len(data)
                and self._large.read_range(place.zip_ref, place.offset, place.size) == data
            )
        except (NotFound, Corrupt, Invalid, Unavailable):
            return False

    # -- moving ---------------------------------------------------------------------------------

    def pack(self, ref: Ref, step: Callable[[], None] = lambda: None) -> bool:
        """Move a file into zips. False where it must stay loose, or its content is packed.

        ref: of its file blob. step: called before each blob that is read; it may wait, or raise
        to end the work there. Raises NotFound, Corrupt, and what storing raises.
        """
        with self._pack_lock, self._moves.packing():
            blobs = Remembering(self, step)
            try:
                plan = plan_file(blobs, ref)
            except Unsupported:
                return False
            if self._rows.whole(plan.whole.ref) is not None:
                return False
            offset = count = 0
            for pack, data in write_packs(blobs, plan):
                self._moves.pack_in(pack, data, offset)
                offset += pack.data_size
                count += 1
            self._moves.finish(pack, count)
        self._forget_failures(_Job("pack", ref))
        return True

    def pack_loose(self, step: Callable[[], None] = lambda: None) -> int:
        """Pack the files that lie loose, whose chunks came late, say. Returns how many.

        step: called before each blob; it may wait, or raise to end the work there.
        """
        count = 0
        for ref in self._loose_schemas(step):
            try:
                if wants_packing(self._small.fetch(ref)):
                    count += self.pack(ref, step)
            except (NotFound, Corrupt) as error:
                self._note(_Job("pack", ref), error)
        return count

    def bundle_loose(self, step: Callable[[], None] = lambda: None) -> int:
        """Put the small files of each loose directory together into zips. Returns how many files.

        A directory with less than 512 KiB of them is left as it is. step: as in `pack_loose`.
        """
        count = 0
        for ref in self._loose_schemas(step):
            try:
                members = related_files(self._small.fetch(ref), self._small)
                with self._pack_lock, self._moves.packing():
                    for bundle in write_bundles(Remembering(self, step), members):
                        self._moves.pack_in(bundle.pack, bundle.data, 0)
                        self._moves.finish(bundle.pack, 1)
                        count += bundle.files_count
            except (NotFound, Corrupt) as error:
                self._note(_Job("pack", ref), error)
        return count

    def loose_bytes(self) -> int:
        """How much lies loose. Lists the loose store."""
        return sum(size for _, size in self._small.enumerate())

    def _loose_schemas(self, step: Callable[[], None]) -> Iterator[Ref]:
        """The loose blobs that may be schema blobs."""
        for ref, size in self._small.enumerate():
            step()
            if size <= _LARGEST_SCHEMA:
                yield ref

    def compact(self) -> int:
        """Give back the space of removed blobs: unpack the zips that hold some, delete them.

        Returns the bytes of zips deleted. Waits for the end of streams, which would miss what
        becomes loose behind them: then 0. Raises Unsupported where zips can't be removed.
        """
        with self._lock:
            self._compacts_later = self._streams > 0
        if self._compacts_later:
            return 0
        freed = self._moves.unpack(self._moves.with_removed())
        self._forget_failures(_Job("unpack"))
        return freed

    def settle(self, wait_s: float | None = None) -> bool:
        """Wait until the work in the background is done. False when the time ran out."""
        return self._worker.wait(wait_s)

    def _do(self, job: _Job) -> None:
        try:
            if job.ref is None:
                self.compact()
            elif job.kind == "pack":
                self.pack(job.ref, self._go_on)
            elif job.kind == "resume":
                self._resume(job.ref)
            else:
                for zip_ in self._large.stat([job.ref]):
                    self._moves.tidy(zip_)
            if self._worker.overflowed:
                self._worker.overflowed = False
                self.pack_loose(self._go_on)
        except _Closing:
            pass  # the next start goes on
        except Unsupported:
            pass  # zips can't be removed there: their rows are gone, which hides what they hold
        except StoreError as error:
            self._note(job, error)

    def _go_on(self) -> None:
        if self._worker.is_closing:
            raise _Closing

    def _resume(self, whole: Ref) -> None:
        """Go on packing a file of which a crash left parts only, or only the last row to write."""
        parts = self._rows.parts(whole)
        for zip_ in self._large.stat([part.zip_ref for part in parts[:1]]):
            pack = self._survey.read(zip_)
            if pack is None:
                continue
            if sum(part.length for part in parts) == pack.whole.size:
                self._moves.finish(pack, len(parts))
                continue
            for blob in pack.schemas:
                schema = parse_object(self.fetch(blob.ref))
                if schema is not None and schema.type == "file":
                    self.pack(blob.ref, self._go_on)

    def _note(self, job: _Job, error: StoreError) -> None:
        with self._lock:
            if len(self._failures) < _REMEMBERED_FAILURES:
                self._failures[job] = str(error)

    def _forget_failures(self, *jobs: _Job) -> None:
        with self._lock:
            for job in jobs:
                self._failures.pop(job, None)

    # -- checking -------------------------------------------------------------------------------

    def recover(self, forget_missing: bool = False) -> None:
        """Write the rows anew from the zips; removed blobs stay removed. Removals wait meanwhile.

        forget_missing: delete the rows that lead to zips which are not there any more.
        """
        with self._pack_lock, self._moves.none():
            self._survey.recover(forget_missing)
            self._rerouted.clear()

    def check(self) -> Iterator[Damaged]:
        """Read everything and yield what is damaged, missing or failed."""
        yield from self._survey.findings()
        for zip_ref, _ in self._large.enumerate():
            if zip_ref not in self._survey.aside:
                try:
                    self._large.fetch(zip_ref)
                except (NotFound, Corrupt, Unavailable) as error:
                    yield Damaged(zip_ref, error.reason)
        for ref, _ in self.enumerate():
            try:
                self.fetch(ref)
            except (NotFound, Corrupt, Unavailable) as error:
                yield Damaged(ref, error.reason)
        yield from self._failed()

    def _failed(self) -> Iterator[Damaged]:
        """What could not be done in the background, as far as it still is to be done."""
        with self._lock:
            failures = list(self._failures.items())
        for job, reason in failures:
            if job.ref is None:
                yield from (Damaged(ref, reason) for ref in self._rows.zips_with_removed())
            elif job.kind != "pack" or list(self.stat([job.ref])):
                yield Damaged(job.ref, reason)

    # -- generation -----------------------------------------------------------------------------

    def generation(self) -> Generation | None:
        """The later time of the two; a digest of both tokens."""
        small, large = self._small.generation(), self._large.generation()
        if small is None or large is None:
            return None
        token = hashlib.sha1((small.token + large.token).encode(), usedforsecurity=False)
        return Generation(max(small.initialised, large.initialised), token.hexdigest())

    def reset_generation(self) -> None:
        if self.generation() is None:
            raise Unsupported("reset generation", type(self).__name__)
        self._small.reset_generation()
        self._large.reset_generation()

    def close(self) -> None:
        """Wait for the blob or zip in hand; files that wait to be packed stay loose."""
        self._worker.close()
        self._rows.close()


def _merged(loose: list[SizedRef], packed: Iterator[SizedRef]) -> Iterator[SizedRef]:
    """Two listings in ref order as one, each ref once; sizes of rows hold, as they do for stat."""
    row = next(packed, None)
    for found in loose:
        while row is not None and row.ref < found.ref:
            yield row
            row = next(packed, None)
        if row is not None and row.ref == found.ref:
            found, row = row, next(packed, None)
        yield found
    if row is not None:
        yield row
        yield from packed
