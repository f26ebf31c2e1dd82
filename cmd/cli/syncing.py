"""`pk sync` and `pk index`: copy what one store has and another lacks."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import click

from ..blob import Ref, SizedRef
from ..blobserver.receive import receive_many
from ..blobserver.storage import Storage
from ..blobserver.sync import compare
from ..errors import Corrupt, StoreError, Unsupported
from .common import Command, Session, json_flag, server_flag, switch
from .connection import Connection
from .line import line_flags
from .stores import open_place

BATCH_BLOBS = 200
BATCH_BYTES = 4 * 1024 * 1024
PAUSE_S = 5.0
"""Between two passes of -loop."""


class Copier:
    """Copies blobs that one store has and another lacks.

    lacking: where blobs are looked for. target: where they go, which may be elsewhere (-thirdleg).
    workers: batches under way at once. remove: take each copied blob away from the source, once
    it is durable at the target.
    """

    def __init__(
        self, session: Session, source: Storage, target: Storage, *, workers: int, remove: bool
    ) -> None:
        self._session = session
        self._source = source
        self._target = target
        self._workers = workers
        self._remove = remove
        self._lock = threading.Lock()

    def copy(self, missing: Iterable[SizedRef]) -> None:
        """Copy these, telling of each. What can't be copied is a problem; the others go on."""
        output = self._session.output
        under_way: deque[Future[None]] = deque()
        with ThreadPoolExecutor(self._workers, "copy") as pool:
            try:
                for batch in batches(missing):
                    for ref, size in batch:
                        text = f"Destination needs blob: [{ref}; {size} bytes]"
                        output.result(text, blobRef=ref, size=size)
                    under_way.append(pool.submit(self._copy_batch, batch))
                    if len(under_way) > self._workers:
                        under_way.popleft().result()
                while under_way:
                    under_way.popleft().result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _copy_batch(self, batch: list[SizedRef]) -> None:
        blobs: list[tuple[Ref, bytes]] = []
        for ref, data in self._source.fetch_many([found.ref for found in batch]):
            if isinstance(data, bytes):
                blobs.append((ref, data))
            elif isinstance(data, Corrupt):
                self._problem(data)
            # else: removed since it was listed
        if not blobs:
            return
        receive_many(self._target, blobs)
        self._count(blobs)
        if self._remove:
            try:
                self._source.remove([ref for ref, _ in blobs])
            except StoreError as error:
                self._problem(error)

    def _problem(self, error: StoreError) -> None:
        with self._lock:
            self._session.output.problem(error)

    def _count(self, blobs: list[tuple[Ref, bytes]]) -> None:
        with self._lock:
            summary = self._session.output.summary
            for name, more in (
                ("blobs", len(blobs)),
                ("bytes", sum(len(data) for _, data in blobs)),
            ):
                before = summary.get(name, 0)
                assert isinstance(before, int)
                summary[name] = before + more


def batches(missing: Iterable[SizedRef]) -> Iterator[list[SizedRef]]:
    """Groups of blobs, in order, under both limits unless one blob alone is larger."""
    batch: list[SizedRef] = []
    size_bytes = 0
    for found in missing:
        if batch and (len(batch) >= BATCH_BLOBS or size_bytes + found.size > BATCH_BYTES):
            yield batch
            batch, size_bytes = [], 0
        batch.append(found)
        size_bytes += found.size
    if batch:
        yield batch


def missing_blobs(source: Storage, target: Storage, third: Storage | None) -> Iterator[SizedRef]:
    """What the source has, and neither the target nor the third leg, in ref order."""
    missing: Iterator[SizedRef] = lacking(source.enumerate(), target)
    return missing if third is None else lacking(missing, third)


def lacking(listing: Iterable[SizedRef], target: Storage) -> Iterator[SizedRef]:
    for ref, left, _ in compare(listing, target.enumerate()):
        if left is not None:
            yield SizedRef(ref, left)


class Settings(NamedTuple):
    """What the flags of `pk sync` say."""

    src: str
    dest: str
    thirdleg: str
    removesrc: bool
    workers: int
    insecure: bool


@click.command(cls=Command)
@click.option("--src", metavar="S", default="", help="Source; the default server if absent.")
@click.option("--dest", metavar="S", default="", help="Destination; `stdout` lists the source.")
@click.option("--thirdleg", metavar="S", default="", help="Copy here what the destination lacks.")
@switch("--all", "all_pairs", help="Every pair of stores that the server keeps in sync.")
@switch("--dump-config", help="Show the pairs of -all, and do nothing.")
@switch("--removesrc", help="Remove each copied blob from the source.")
@switch("--loop", help="Begin again, for ever; needs -removesrc.")
@click.option("-j", "workers", type=click.IntRange(1, 100), default=10, help="Batches at once.")
@switch("--wipe", help="Not supported.")
@switch("--insecure", help="Accept any certificate.")
@line_flags
@server_flag
@json_flag
@click.pass_obj
def sync(
    session: Session,
    /,
    all_pairs: bool,
    dump_config: bool,
    loop: bool,
    wipe: bool,
    **flags: object,
) -> None:
    """Copy the blobs that a destination lacks. A store is a URL, an alias or a /folder."""
    settings = Settings(**flags)  # type: ignore[arg-type]  # click has checked them
    if wipe:
        raise Unsupported("wipe", "destination", "rebuild an index by `peatkeepd -reindex`")
    if loop and not settings.removesrc:
        raise click.UsageError("Can't use --loop without --removesrc")
    if dump_config:
        dump_pairs(session, settings.insecure)
    elif all_pairs:
        if settings.src or settings.dest or settings.thirdleg:
            raise click.UsageError("--all takes no --src, --dest or --thirdleg")
        sync_pairs(session, settings)
    elif not settings.dest:
        raise click.UsageError("No --dest flag value specified")
    else:
        repeat(lambda: sync_once(session, settings), forever=loop)


@click.command(cls=Command)
@server_flag
@json_flag
@click.pass_obj
def index(session: Session) -> None:
    """Copy to each index of the server what its storage has and the index lacks."""
    settings = Settings("", "", "", removesrc=False, workers=10, insecure=False)
    sync_pairs(session, settings, only_to_index=True)


def repeat(work: Callable[[], None], *, forever: bool) -> None:
    work()
    while forever:
        threading.Event().wait(PAUSE_S)
        work()


def sync_once(session: Session, settings: Settings) -> None:
    source = open_place(session, settings.src, insecure=settings.insecure).storage
    if settings.dest == "stdout":
        for ref, size in source.enumerate():
            session.output.result(f"{ref} {size}", blobRef=ref, size=size)
        return
    target, third = (
        open_place(session, name, create=True, insecure=settings.insecure).storage if name else None
        for name in (settings.dest, settings.thirdleg)
    )
    assert target is not None
    copier = Copier(
        session,
        source,
        third or target,
        workers=settings.workers,
        remove=settings.removesrc,
    )
    copier.copy(missing_blobs(source, target, third))


# -- the pairs that a server names -----------------------------------------------------------------


class Pair(NamedTuple):
    """Two prefixes of a server that it keeps in sync."""

    source: str
    target: str
    to_index: bool


def pairs(connection: Connection) -> list[Pair]:
    """The sync handlers of the server. Raises Corrupt where its answer has another form."""
    found = connection.discovery.document.get("syncHandlers") or []
    try:
        assert isinstance(found, list)
        return [Pair(str(one["from"]), str(one["to"]), bool(one.get("toIndex"))) for one in found]
    except (AssertionError, AttributeError, KeyError, TypeError):
        raise Corrupt("read", "syncHandlers", f"{connection.transport} lists {found!r}") from None


def dump_pairs(session: Session, insecure: bool) -> None:
    connection = Connection(session, insecure=insecure)
    origin = connection.transport.address.origin
    for pair in pairs(connection):
        source, target = f"{origin}{pair.source}", f"{origin}{pair.target}"
        session.output.result(f"{source} -> {target}", source=source, target=target)


def sync_pairs(session: Session, settings: Settings, *, only_to_index: bool = False) -> None:
    connection = Connection(session, insecure=settings.insecure)
    for pair in pairs(connection):
        if only_to_index and not pair.to_index:
            continue
        source, target = connection.storage(pair.source), connection.storage(pair.target)
        copier = Copier(session, source, target, workers=settings.workers, remove=False)
        copier.copy(missing_blobs(source, target, None))
