"""The store: sealed blobs in one store, meta blobs in another, an index and a memory here."""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from itertools import islice
from pathlib import Path
from typing import Final

from ...blob import Ref, SizedRef
from ...errors import ConfigError, Corrupt, NotFound, StoreError, Unavailable
from ...sorted.kv import Batch, KeyValue
from ...sorted.memory import MemoryKeyValue
from ...sorted.options import Options
from ..diskpacked.rowstore import index_args, open_rows
from ..fanout import Found, joined_generation, reset_generations, streamed_by_ref
from ..groupcommit import GroupCommit
from ..storage import Generation, Storage, StreamedBlob
from ..unsynced import Unsynced
from .known import Known
from .lines import Line, Place
from .metas import Metas
from .opening import Opening, Parts
from .sealing import MAX_PLAIN_SIZE, Sealer, read_key_file
from .upkeep import Damaged, check
from .workers import Workers

AGREEMENT: Final = (
    "that encryption support hasn't been peer-reviewed, isn't finished, and its format might"
    " change."
)
"""What Perkeep wants to read in `I_AGREE`."""

_PAGE: Final = 500
_READ_COUNT: Final = 64
"""Blobs fetched from the store below in one go."""


class Encrypt(Storage):
    """Seals every blob for one age key, and notes in sealed meta blobs which one lies where.

    A row of the index makes a blob visible; it is set when blob and meta blob are durable. Every
    read is verified by the blob's own ref. The stores below belong to whoever passed them in;
    index and memory are closed with this one.

    remarks: what is gone that was there before, damaged meta blobs, what was mended.
    max_blob_size: bytes; what is larger may not fit when sealed, and raises TooLarge then.
    """

    max_blob_size = MAX_PLAIN_SIZE

    def __init__(
        self,
        sealer: Sealer,
        blobs: Storage,
        metas: Storage,
        rows: KeyValue,
        memory: KeyValue | None = None,
    ) -> None:
        """Open the store; takes over `rows` and `memory`, also when this fails.

        rows: the index, as Perkeep has it. memory: what is known of the meta blobs; None: only
        until this is closed, so that all are read now and no loss is noticed later.
        Raises ConfigError (another key), Unsupported (another version), Unavailable, Corrupt
        (the index).
        """
        known = Known(memory if memory is not None else MemoryKeyValue())
        self._parts = Parts(blobs, Metas(metas, sealer, known), sealer, rows, known)
        self._blobs, self._metas, self._sealer, self._rows, self._known = self._parts
        self._generation_of = (blobs, metas)
        self._unsynced: Unsynced[Place] = Unsynced()
        self._group = GroupCommit(self._commit)
        self._lost: set[Ref] = set()
        self._removing: set[Line] = set()
        self._purging = threading.Lock()
        with ExitStack() as undo:
            undo.callback(known.close)
            undo.callback(rows.close)
            self.remarks = Opening(self._parts).open()
            self._finish_removals()
            undo.pop_all()
        self._workers = Workers(sealer.recipient)
        self._merger = ThreadPoolExecutor(1, thread_name_prefix="encrypt")

    @classmethod
    def from_config(
        cls, args: Mapping[str, object], resolve: Callable[[str], Storage]
    ) -> "Encrypt":
        """Arguments: Perkeep's `I_AGREE`, keyFile, blobs, meta, metaIndex (a sorted store), and
        ours, optional: memory (a sorted store; unless said LevelDB beside the file of metaIndex).

        An index or memory that is damaged is set aside and made anew.
        """
        with Options("storage-encrypt", args) as options:
            agreement = options.string("I_AGREE")
            key_file = options.string("keyFile")
            names = options.string("blobs"), options.string("meta")
            index = options.table("metaIndex")
            memory = options.table("memory") if "memory" in args else _memory_beside(index)
        if agreement != AGREEMENT:
            raise ConfigError("configure", "storage-encrypt, I_AGREE", f"must be: {AGREEMENT}")
        if names[0] == names[1]:
            raise ConfigError("configure", "storage-encrypt, meta", "must not be that of blobs")
        sealer = read_key_file(Path(key_file))
        blobs, metas = resolve(names[0]), resolve(names[1])
        replaced = index_args(Path(), index)

        def use(rows: KeyValue, _: bool) -> "Encrypt":
            try:
                opened, said = open_rows(Path(), memory, _read_through) if memory else (None, [])
            except BaseException:
                rows.close()
                raise
            store = cls(sealer, blobs, metas, rows, opened)
            store.remarks = [*said, *store.remarks]
            return store

        store, remarks = open_rows(Path(), replaced, use)
        store.remarks = [*remarks, *store.remarks]
        return store

    # -- reading --------------------------------------------------------------------------------

    def fetch(self, ref: Ref) -> bytes:
        place = self._place(ref)
        if place is None:
            raise NotFound("fetch", ref)
        try:
            return self._read(ref, place)
        except (Corrupt, NotFound) as error:
            return self._read_elsewhere(ref, place, error)

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[Found]:
        rest = iter(refs)
        while page := list(islice(rest, _READ_COUNT)):
            places = self._places(page)
            named = [ref for ref in page if ref in places]
            sealed = self._blobs.fetch_many([places[ref].sealed for ref in named])
            for ref in page:
                found: bytes | NotFound | Corrupt = NotFound("fetch", ref)
                if ref in places:
                    found = self._opened(ref, places[ref], next(sealed)[1])
                yield ref, found

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        """What has a row, and is there below: a blob that was lost there is to be sent again."""
        rest = iter(dict.fromkeys(refs))
        while page := list(islice(rest, _PAGE)):
            places = self._places(page)
            there = {ref for ref, _ in self._blobs.stat(place.sealed for place in places.values())}
            for ref, place in places.items():
                other = place if place.sealed in there else self._elsewhere(ref, place)
                if other is not None:
                    yield SizedRef(ref, other.size)
                else:
                    self._note_lost(ref, place)

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        """By the rows, without what a read or a stat has found to be gone below."""
        start = after.encode("utf-8", "surrogatepass")
        for key, value in self._rows.find(start):
            place = Place.of_row(value)
            if place is not None and key != start:
                ref = Ref.trusted(key.decode())
                if ref not in self._lost:
                    yield SizedRef(ref, place.size)

    def stream(self, token: str = "") -> Iterator[StreamedBlob]:
        return streamed_by_ref(self, token)

    # -- writing --------------------------------------------------------------------------------

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        """Raises TooLarge for a blob that does not fit when sealed."""
        batch = list(blobs)
        wanted = self._lacking(dict(batch))
        if wanted:
            self._take(self._written(wanted))
        self._group.wrote()
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def sync(self) -> None:
        self._group.sync()
        if self._metas.due():
            self._merger.submit(self._merge_behind)

    def _commit(self) -> None:
        """Blobs durable, then the meta blob that names them, then the rows."""
        begun = self._unsynced.begin()
        self._blobs.sync()
        with self._unsynced.finish(begun) as done:
            made = self._metas.write(Line(ref, place) for ref, place in done.items())
            batch = Batch()
            for ref, place in done.items():
                batch.set(ref.encode(), place.row())
            if done:
                self._rows.commit(batch)
            self._metas.note(made)
            self._lost.difference_update(done)

    def remove(self, refs: Iterable[Ref]) -> None:
        """Also from the meta blobs, so that nobody who reads them finds it again."""
        wanted = dict.fromkeys(refs)
        dropped = self._unsynced.drop(wanted)
        lines = {Line(ref, place) for ref, place in dropped.items()}
        lines.update(Line(ref, place) for ref, place in self._places(wanted).items())
        for ref in wanted:
            lines.update(Line(ref, place) for _, place in self._known.said_of(ref))
        self._purge(lines)
        self._lost.difference_update(wanted)

    def _purge(self, lines: Iterable[Line]) -> None:
        """Remove these sealed blobs, and those whose removal failed before.

        Cut short, the next opening goes on with it.
        """
        with self._purging:
            self._removing.update(lines)
            if self._removing:
                self._purge_all(sorted(self._removing))
            self._removing.clear()

    def _purge_all(self, lines: list[Line]) -> None:
        gone = {place.sealed for _, place in lines}
        try:
            self._known.begin_removal(lines)
        except Unavailable:
            # The disk may be full: the sealed blobs make room for that. Cut short here, the
            # next opening says that they are gone.
            self._blobs.remove(sorted(gone))
            self._known.begin_removal(lines)
        with self._unsynced.lock:  # a row that a sync sets meanwhile leads elsewhere, and stays
            batch = Batch(frees_room=True)
            for ref, place in self._places({ref for ref, _ in lines}).items():
                if place.sealed in gone:
                    batch.delete(ref.encode())
            self._rows.commit(batch)
        try:
            self._metas.without(lines)
        except Unavailable:
            # Meta blobs written anew need room too.
            self._blobs.remove(sorted(gone))
            self._metas.without(lines)
        self._blobs.remove(sorted(gone))
        self._known.end_removal(lines)

    def _finish_removals(self) -> None:
        lines = self._known.unfinished_removals()
        try:
            self._purge(lines)
        except StoreError as error:
            self.remarks = [*self.remarks, f"{len(lines)} removals are not finished: {error}"]

    # -- upkeep ---------------------------------------------------------------------------------

    def check(self) -> Iterator[Damaged]:
        """Read everything, and name each blob and meta blob that is damaged or gone."""
        return check(self._parts, self._read)

    def compact(self) -> None:
        """Merge the small meta blobs; by itself this happens bit by bit, behind the writes."""
        self._metas.merge_all()

    def recover(self, forget_missing: bool = False) -> None:
        """Read all meta blobs anew, and look for sealed blobs that none names."""
        metas = frozenset(self._known.metas())
        self._known.drop_scanning(metas)
        self.remarks = [*self.remarks, *Opening(self._parts).open(seek_unnamed=True)]
        if forget_missing:
            for begin in self._pages():
                there = {ref for ref, _ in self.stat(begin)}
                lines = [
                    Line(ref, place)
                    for ref, place in self._places(begin).items()
                    if ref not in there
                ]
                self._purge(lines)
                self._lost.difference_update(ref for ref, _ in lines)

    def _pages(self) -> Iterator[list[Ref]]:
        refs = (Ref.trusted(key.decode()) for key, _ in self._rows.find())
        while page := list(islice(refs, _PAGE)):
            yield page

    # -- the rest -------------------------------------------------------------------------------

    def generation(self) -> Generation | None:
        return joined_generation(self._generation_of)

    def reset_generation(self) -> None:
        reset_generations(self._generation_of, self)

    def close(self) -> None:
        self._merger.shutdown()
        self._workers.close()
        self._known.close()
        self._rows.close()

    # -- inside: places -------------------------------------------------------------------------

    def _place(self, ref: Ref) -> Place | None:
        row = self._rows.get(ref.encode())
        return None if row is None else Place.of_row(row)

    def _places(self, refs: Iterable[Ref]) -> dict[Ref, Place]:
        """Of those that have a row, in the order given."""
        keys = {ref.encode(): ref for ref in refs}
        rows = self._rows.get_many(keys)
        return {
            ref: place
            for key, ref in keys.items()
            if key in rows and (place := Place.of_row(rows[key])) is not None
        }

    def _elsewhere(self, ref: Ref, place: Place) -> Place | None:
        """Another sealed copy that meta blobs name, and that is there; the row leads to it then."""
        places = {other.sealed: other for _, other in self._known.said_of(ref)}
        for found, _ in self._blobs.stat(places) if places else ():
            self._lead(ref, place, places[found])
            return places[found]
        return None

    def _lead(self, ref: Ref, before: Place, now: Place) -> None:
        """Have the row lead to another copy, unless the blob was stored again or removed while we
        looked."""
        with self._unsynced.lock:
            if self._place(ref) == before and not self._known.removed([now.sealed]):
                self._rows.set(ref.encode(), now.row())

    def _note_lost(self, ref: Ref, place: Place) -> None:
        """Unless the blob was stored again or removed while we looked."""
        with self._unsynced.lock:
            if self._place(ref) == place:
                self._lost.add(ref)

    # -- inside: reading ------------------------------------------------------------------------

    def _read(self, ref: Ref, place: Place) -> bytes:
        """A blob from its place. Raises NotFound and Corrupt, naming the sealed blob."""
        try:
            sealed = self._blobs.fetch(place.sealed)
        except (NotFound, Corrupt) as error:
            raise type(error)("fetch", ref, f"sealed {error}") from None
        return self._unseal(ref, place, sealed)

    def _unseal(self, ref: Ref, place: Place, sealed: bytes) -> bytes:
        try:
            data = self._sealer.unseal(place.sealed, sealed)
        except StoreError as error:
            raise Corrupt("fetch", ref, str(error)) from None
        if not ref.matches(data):
            raise Corrupt("fetch", ref, f"{place.sealed} holds another blob")
        return data

    def _opened(
        self, ref: Ref, place: Place, sealed: bytes | NotFound | Corrupt
    ) -> bytes | NotFound | Corrupt:
        try:
            if isinstance(sealed, bytes):
                return self._unseal(ref, place, sealed)
        except Corrupt:
            pass  # as if it had come damaged
        try:
            return self.fetch(ref)
        except (NotFound, Corrupt) as error:
            return error

    def _read_elsewhere(self, ref: Ref, place: Place, error: NotFound | Corrupt) -> bytes:
        """Read where the row leads by now, or from another copy. Raises `error`."""
        now = self._place(ref)
        if now is None:
            raise NotFound("fetch", ref)
        others = [now, *(other for _, other in self._known.said_of(ref))]
        for other in dict.fromkeys(others):
            if other == place:
                continue
            try:
                data = self._read(ref, other)
            except (NotFound, Corrupt):
                continue
            if other != now:
                self._lead(ref, now, other)
            return data
        if isinstance(error, NotFound):
            self._note_lost(ref, now)
        raise error

    # -- inside: writing ------------------------------------------------------------------------

    def _lacking(self, blobs: dict[Ref, bytes]) -> dict[Ref, bytes]:
        """Those that are not there whole, and do not wait for their sync."""
        waiting = self._unsynced.begin()
        wanted = {ref: data for ref, data in blobs.items() if ref not in waiting}
        known = self._places(wanted)
        for ref, data in self.fetch_many(known):
            if isinstance(data, bytes):
                del wanted[ref]
        return wanted

    def _written(self, blobs: dict[Ref, bytes]) -> dict[Ref, Place]:
        """Seal and pass on, a lot while the next is sealed."""
        places: dict[Ref, Place] = {}
        try:
            with closing(self._workers.sealed(blobs)) as lots:
                for lot in lots:
                    places.update((one.ref, Place(one.size, one.name)) for one in lot)
                    self._blobs.write_many([(one.name, one.data) for one in lot])
        except BaseException:
            with suppress(StoreError):  # nothing names them
                self._blobs.remove([place.sealed for place in places.values()])
            raise
        return places

    def _take(self, places: Mapping[Ref, Place]) -> None:
        """Let written blobs wait for the sync; what another thread was quicker with is not needed
        twice."""
        doubles = [
            place.sealed for ref, place in places.items() if not self._unsynced.add([(ref, place)])
        ]
        if doubles:
            try:
                self._blobs.remove(doubles)
            except StoreError:
                pass  # nothing names them

    def _merge_behind(self) -> None:
        try:
            self._metas.merge_due()
        except StoreError:
            pass  # the small ones stay; the next sync tries again


def _memory_beside(index: Mapping[str, object]) -> Mapping[str, object]:
    """Where the memory is unless said: beside the index, if that is a file; else nowhere."""
    file = index.get("file")
    return {"type": "leveldb", "file": f"{file}.peatkeep"} if isinstance(file, str) else {}


def _read_through(rows: KeyValue, _is_new: bool) -> KeyValue:
    """Raises Corrupt if some row can't be read."""
    for _row in rows.find():
        pass
    return rows
