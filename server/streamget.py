"""Answers of a stream that are read from the store, a page at a time (pkg/blobserver/STREAM.md).

A job is one request. Its `page` blocks and runs in a thread of the bridge; what it brings is
handed to the machine by the event loop.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from ..blob import Fetcher, Ref, SizedRef
from ..blobserver.storage import Storage
from ..blobserver.wire import Item, Packed, Place, ServerMachine, pack
from ..blobserver.wire.events import Fetch, ReadFile, Stat
from ..errors import Corrupt, NotFound, StoreError
from ..schema.filereader import FetchMany, FileReader, Leaf
from .ahead import PAGE_BLOBS, Batches, Found, fetched
from .streamcodes import Failure, codec, failure

MOST_SKIPPED: Final = 64
"""Blobs that go unpacked, at most, after some that did not shrink."""


class Bytes(NamedTuple):
    """A blob or range. ref, place and is_schema: of a file."""

    item: int
    packed: Packed
    size: int
    ref: str = ""
    place: Place | None = None
    is_schema: bool = False


class Name(NamedTuple):
    """A blob of a file, without its bytes."""

    item: int
    found: SizedRef
    place: Place | None
    is_schema: bool


class Hole(NamedTuple):
    offset: int
    length: int


class Missing(NamedTuple):
    """An item, or (None) the whole request, that has no answer."""

    item: int | None
    told: Failure


class Sizes(NamedTuple):
    sizes: list[int | None]


Answer = Bytes | Name | Hole | Missing | Sizes


class Page(NamedTuple):
    """Answers in order. is_last: nothing follows them."""

    answers: list[Answer]
    is_last: bool

    @property
    def size_bytes(self) -> int:
        return sum(len(each.packed.data) for each in self.answers if isinstance(each, Bytes))


class Packer:
    """Compresses what shrinks. After blobs that did not, it tries only some of the next."""

    def __init__(self, *, packs: bool) -> None:
        """packs: whether the peer can unpack."""
        self._packs = packs
        self._skips = 0
        self._next_skips = 1

    def pack(self, data: bytes) -> Packed:
        if not self._packs or self._skips > 0:
            self._skips -= 1
            return Packed(data, False)
        packed = pack(codec(), data)
        if packed.packed:
            self._next_skips = 1
        else:
            self._skips = self._next_skips
            self._next_skips = min(self._next_skips * 2, MOST_SKIPPED)
        return packed


class Job:
    """One request. `page` is called by one thread at a time until its last page."""

    def __init__(self, request: int, priority: int) -> None:
        self.request = request
        self.priority = priority
        self.stopped: set[Ref] = set()
        """Items that nobody wants any more; the event loop adds to it."""

    def page(self, budget_bytes: int) -> Page:
        """The next answers, of about so many bytes. Raises StoreError: the request has failed."""
        raise NotImplementedError


class StatJob(Job):
    def __init__(self, event: Stat, storage: Storage) -> None:
        super().__init__(event.request, event.priority)
        self._refs = event.refs
        self._storage = storage

    def page(self, budget_bytes: int) -> Page:  # noqa: ARG002 - all at once
        sizes: dict[Ref, int] = dict(self._storage.stat(dict.fromkeys(self._refs)))
        return Page([Sizes([sizes.get(ref) for ref in self._refs])], is_last=True)


class FetchJob(Job):
    def __init__(self, event: Fetch, storage: Storage, packer: Packer) -> None:
        super().__init__(event.request, event.priority)
        self._items = deque(enumerate(event.items))
        self._storage = storage
        self._packer = packer
        self._batches = Batches(storage)

    def page(self, budget_bytes: int) -> Page:
        answers: list[Answer] = []
        left_bytes = budget_bytes
        while self._items and left_bytes > 0:
            if self._items[0][1].length is not None:
                number, item = self._items.popleft()
                next_ones = [(number, item.ref, _range(self._storage, item))]
            else:
                next_ones = self._whole(left_bytes)
            for number, ref, found in next_ones:
                if ref in self.stopped:
                    continue
                if not isinstance(found, bytes):
                    answers.append(Missing(number, failure(found)))
                    left_bytes -= 1
                    continue
                answers.append(Bytes(number, self._packer.pack(found), len(found)))
                left_bytes -= len(found)
        return Page(answers, is_last=not self._items)

    def _whole(self, budget_bytes: int) -> list[tuple[int, Ref, bytes | StoreError]]:
        """The next whole blobs, as many as there is room for, or one."""
        most = self._batches.count(budget_bytes)
        wanted: list[tuple[int, Ref]] = []
        while self._items and self._items[0][1].length is None and len(wanted) < most:
            number, item = self._items.popleft()
            if item.ref not in self.stopped:
                wanted.append((number, item.ref))
        found = self._batches.fetch([ref for _, ref in wanted], budget_bytes)
        left = wanted[len(found) :]
        self._items.extendleft((number, Item(ref)) for number, ref in reversed(left))
        return [(number, ref, data) for (number, ref), data in zip(wanted, found, strict=False)]


def _range(storage: Storage, item: Item) -> bytes | StoreError:
    assert item.length is not None
    try:
        return storage.fetch_range(item.ref, item.offset, item.length)
    except StoreError as error:
        return error


class Recorder(Fetcher):
    """Remembers the schema blobs through which a file is read."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._seen: set[Ref] = set()
        self.fresh: list[tuple[Ref, bytes]] = []
        """Those that have been read since it was emptied, each once."""

    def fetch(self, ref: Ref) -> bytes:
        data = self._storage.fetch(ref)
        self._note(ref, data)
        return data

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, bytes | NotFound | Corrupt]]:
        for ref, data in self._storage.fetch_many(refs):
            if isinstance(data, bytes):
                self._note(ref, data)
            yield ref, data

    def _note(self, ref: Ref, data: bytes) -> None:
        if ref not in self._seen:
            self._seen.add(ref)
            self.fresh.append((ref, data))


class FileJob(Job):
    """The chunks of a file in order, and with `with_schema` what describes them."""

    def __init__(self, event: ReadFile, storage: Storage, packer: Packer) -> None:
        super().__init__(event.request, event.priority)
        self._asked = event
        self._storage = storage
        self._packer = packer
        self._recorder = Recorder(storage) if event.with_schema else None
        self._leaves: Iterator[Leaf] | None = None
        self._ahead: deque[Leaf] = deque()  # looked up, but not fetched
        self._failed: StoreError | None = None
        self._item = 0

    def page(self, budget_bytes: int) -> Page:
        if self._leaves is None:
            self._leaves = self._open()
        if not self._ahead and self._failed is None:
            self._look_ahead(budget_bytes)
        answers: list[Answer] = list(self._schema())
        if self._asked.names_only:
            self._names(answers)
        else:
            self._chunks(answers, budget_bytes)
        if self._failed is not None and not self._ahead:
            return Page([*answers, Missing(None, failure(self._failed))], is_last=True)
        return Page(answers, is_last=not self._ahead and self._leaves is _OVER)

    def _open(self) -> Iterator[Leaf]:
        reads: Fetcher = self._recorder or self._storage
        many: FetchMany = (self._recorder or self._storage).fetch_many
        try:
            reader = FileReader(reads, self._asked.ref)
            return reader.chunks(self._asked.offset, self._asked.length, many)
        except StoreError as error:
            self._failed = error
            return _OVER

    def _look_ahead(self, budget_bytes: int) -> None:
        """Find out where the next bytes lie."""
        assert self._leaves is not None
        size = 0
        most = PAGE_BLOBS if not self._asked.names_only else PAGE_BLOBS * 4
        try:
            for leaf in islice(self._leaves, most):
                self._ahead.append(leaf)
                size += leaf.length if leaf.ref is not None else 0
                if size >= budget_bytes and not self._asked.names_only:
                    return
        except StoreError as error:
            self._failed = error
            return
        if len(self._ahead) < most:
            self._leaves = _OVER

    def _schema(self) -> Iterator[Answer]:
        if self._recorder is None:
            return
        fresh, self._recorder.fresh = self._recorder.fresh, []
        for ref, data in fresh:
            item, self._item = self._item, self._item + 1
            if self._asked.names_only:
                yield Name(item, SizedRef(ref, len(data)), None, True)
            else:
                yield Bytes(item, self._packer.pack(data), len(data), ref, None, True)

    def _names(self, answers: list[Answer]) -> None:
        wanted = dict.fromkeys(leaf.ref for leaf in self._ahead if leaf.ref is not None)
        sizes = dict(self._storage.stat(wanted))
        while self._ahead:
            leaf = self._ahead.popleft()
            if leaf.ref is None:
                answers.append(Hole(leaf.file_offset, leaf.length))
            elif leaf.ref not in sizes:
                self._fail(NotFound("stat", leaf.ref, "a chunk of the file is not there"))
            elif not self._check(leaf, sizes[leaf.ref]):
                item, self._item = self._item, self._item + 1
                found = SizedRef(leaf.ref, sizes[leaf.ref])
                answers.append(Name(item, found, place_of(leaf), False))

    def _chunks(self, answers: list[Answer], budget_bytes: int) -> None:
        refs = [leaf.ref for leaf in self._ahead if leaf.ref is not None]
        found = deque(fetched(self._storage, refs, budget_bytes)) if refs else deque[Found]()
        while self._ahead:
            leaf = self._ahead[0]
            if leaf.ref is None:
                answers.append(Hole(leaf.file_offset, leaf.length))
                self._ahead.popleft()
                continue
            if not found:
                return  # the budget is used up: the others come with the next page
            data = found.popleft()
            self._ahead.popleft()
            if not isinstance(data, bytes):
                self._fail(data)
            elif not self._check(leaf, len(data)):
                item, self._item = self._item, self._item + 1
                packed = self._packer.pack(data)
                answers.append(Bytes(item, packed, len(data), leaf.ref, place_of(leaf)))

    def _check(self, leaf: Leaf, size: int) -> bool:
        """Whether the chunk lacks bytes that the file claims of it: then the request has failed."""
        if leaf.offset + leaf.length <= size:
            return False
        self._fail(Corrupt("read", leaf.ref, f"{size} bytes, not {leaf.offset + leaf.length}"))
        return True

    def _fail(self, error: StoreError) -> None:
        """What comes before is right; nothing comes after."""
        self._failed = error
        self._ahead.clear()


_OVER: Final[Iterator[Leaf]] = iter(())


def place_of(leaf: Leaf) -> Place:
    return Place(leaf.file_offset, leaf.offset, leaf.length)


def hand_over(machine: ServerMachine, job: Job, page: Page) -> None:
    """Queue a page in the machine, which drops what nobody wants any more."""
    request = job.request
    for answer in page.answers:
        match answer:
            case Bytes():
                machine.send_blob(
                    request,
                    answer.item,
                    answer.packed.data,
                    size=answer.size,
                    packed=answer.packed.packed,
                    ref=answer.ref,
                    place=answer.place,
                    is_schema=answer.is_schema,
                )
            case Name(item, found, place, is_schema):
                machine.send_name(request, item, found, place, is_schema)
            case Hole(offset, length):
                machine.send_hole(request, offset, length)
            case Missing(item, (code, text)):
                machine.error(request, code, text, item)
            case Sizes(sizes):
                machine.sizes(request, sizes)
    if page.is_last and machine.is_wanted(request):
        machine.done(request)
