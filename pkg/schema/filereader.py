"""Read the content of a file: any range, in constant memory, from untrusted schema blobs."""

import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, groupby
from typing import Final, Generic, NamedTuple, TypeVar

from ..blob import Fetcher, Ref
from ..errors import Corrupt, Invalid, NotFound, StoreError
from .parse import Part, Schema, parse_object

MAX_DEPTH: Final = 100
"""Levels of `bytes` blobs that are followed; writers make fewer than 25. Also ends circles."""

FetchMany = Callable[[Iterable[Ref]], Iterator[tuple[Ref, bytes | NotFound | Corrupt]]]
"""`Storage.fetch_many`: each blob in the order asked for, an absent one as its error."""

_ZEROS = bytes(1024 * 1024)
_LOOKAHEAD = 1000  # pieces among which the `bytes` blobs are fetched together
_LOOKAHEAD_GROWTH = 10_000  # pieces to which one such step may grow
_WINDOW_CHUNKS = 100
_WINDOW_BYTES = 8 * 1024 * 1024
_CACHED_CHUNK_BYTES = 8 * 1024 * 1024
_CACHED_PARTS = 20_000


_Value = TypeVar("_Value")


class Leaf(NamedTuple):
    """A stretch of a file: `length` bytes from `offset` of a blob, or zeros if `ref` is None."""

    ref: Ref | None
    offset: int
    length: int
    file_offset: int


class _Branch(NamedTuple):
    """A stretch of a file that lies in the content of a `bytes` or `file` blob."""

    ref: Ref
    offset: int
    length: int
    file_offset: int
    depth: int


class _Node(NamedTuple):
    """The parts of a blob, and where in its content each one ends."""

    subject: object
    parts: tuple[Part, ...]
    ends: list[int]

    @property
    def size(self) -> int:
        return self.ends[-1] if self.ends else 0

    def cut(self, offset: int, length: int, file_offset: int, depth: int) -> list[Leaf | _Branch]:
        """The pieces of `length` bytes from `offset` of the content. Raises Corrupt."""
        if offset + length > self.size:
            raise Corrupt("read", self.subject, f"{self.size} bytes, not {offset + length}")
        pieces: list[Leaf | _Branch] = []
        number = bisect_right(self.ends, offset)
        while length:
            part = self.parts[number]
            skipped = offset - (self.ends[number] - part.size)
            taken = min(part.size - skipped, length)
            inner = part.offset + skipped
            # A part without bytes is passed over: nothing it refers to is looked at.
            if taken and part.bytes_ref is not None:
                pieces.append(_Branch(part.bytes_ref, inner, taken, file_offset, depth))
            elif taken:
                pieces.append(Leaf(part.blob_ref, inner, taken, file_offset))
            offset, length, file_offset = offset + taken, length - taken, file_offset + taken
            number += 1
        return pieces


def zeros(length: int) -> Iterator[bytes]:
    """Yield the bytes of a hole, at most 1 MiB at a time."""
    for start in range(0, length, len(_ZEROS)):
        yield _ZEROS[: length - start]


def cut(leaf: Leaf, data: bytes) -> bytes:
    """The bytes of a leaf that is no hole, of whose blob this is the content. Raises Corrupt."""
    end = leaf.offset + leaf.length
    if len(data) < end:
        raise Corrupt("read", leaf.ref, f"{len(data)} bytes, not {end}")
    return data if leaf.length == len(data) else data[leaf.offset : end]


class FileReader:
    """The content of a `file` or `bytes` blob. May be used from many threads.

    blobs: gives schema blobs and chunks, verified.
    file: the ref, or the schema where it has been read already.
    Raises NotFound; Invalid if this is no file. A file that is broken inside (parts that are
    null or have both refs, sizes that lie, endless nesting) raises Corrupt where it is met.
    """

    def __init__(self, blobs: Fetcher, file: Ref | Schema) -> None:
        self._blobs = blobs
        self._nodes: _Lru[_Node] = _Lru(_CACHED_PARTS)
        self._chunks: _Lru[bytes] = _Lru(_CACHED_CHUNK_BYTES)
        schema = file if isinstance(file, Schema) else parse_object(blobs.fetch(file))
        if schema is None or schema.type not in ("file", "bytes"):
            raise Invalid("read", file, "not a file")
        self.schema: Final = schema
        self._root = _read_node(file, schema)
        self.size: Final = self._root.size

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only at the end of the file."""
        return b"".join(self.stream(offset, length))

    def stream(
        self, offset: int = 0, length: int | None = None, fetch_many: FetchMany | None = None
    ) -> Iterator[bytes]:
        """Yield the bytes from `offset`, to the end or `length` of them.

        In pieces as they are stored; of a hole at most 1 MiB at a time.
        fetch_many: fetch blobs in batches ahead of the reading, at most 8 MiB of content.
        """
        leaves = self.chunks(offset, length, fetch_many)
        fetched = _fetched_ahead(leaves, fetch_many) if fetch_many else self._fetched(leaves)
        for leaf, data in fetched:
            if data is None:
                yield from zeros(leaf.length)
            else:
                yield cut(leaf, data)

    def chunks(
        self, offset: int = 0, length: int | None = None, fetch_many: FetchMany | None = None
    ) -> Iterator[Leaf]:
        """Yield where the bytes from `offset` lie, in order, without fetching them.

        Reads `bytes` blobs only when their turn comes; with fetch_many, in batches ahead.
        """
        if offset < 0 or (length is not None and length < 0):
            raise Invalid("read", self._root.subject, "negative range")
        start = min(offset, self.size)
        stop = self.size if length is None else min(start + length, self.size)
        frontier = deque(self._root.cut(start, stop - start, start, 1))
        while frontier:
            piece = frontier.popleft()
            if isinstance(piece, Leaf):
                yield piece
                continue
            frontier.appendleft(piece)
            self._expand(frontier, fetch_many)

    def _expand(self, frontier: deque[Leaf | _Branch], fetch_many: FetchMany | None) -> None:
        """Replace the first piece, a branch, by what it holds; with fetch_many, later ones too."""
        count = _LOOKAHEAD if fetch_many else 1
        window = [frontier.popleft() for _ in range(min(len(frontier), count))]
        if fetch_many:
            self._fetch_ahead([piece for piece in window if isinstance(piece, _Branch)], fetch_many)
        pieces: list[Leaf | _Branch] = []
        for piece in window:
            if not isinstance(piece, _Branch) or (
                pieces and not self._is_ready(piece, len(pieces))
            ):
                pieces.append(piece)
                continue
            try:
                pieces += self._inside(piece)
            except Corrupt:
                if not pieces:
                    raise
                pieces.append(piece)  # the error waits for its turn: what comes before is good
        frontier.extendleft(reversed(pieces))

    def _inside(self, branch: _Branch) -> list[Leaf | _Branch]:
        if branch.depth > MAX_DEPTH:
            raise Corrupt("read", branch.ref, f"over {MAX_DEPTH} levels, or in a circle")
        node = self._node(branch.ref)
        return node.cut(branch.offset, branch.length, branch.file_offset, branch.depth + 1)

    def _is_ready(self, branch: _Branch, pieces_count: int) -> bool:
        return pieces_count < _LOOKAHEAD_GROWTH and self._nodes.get(branch.ref) is not None

    def _fetch_ahead(self, branches: Iterable[_Branch], fetch_many: FetchMany) -> None:
        """Fetch the blobs of these branches that are not at hand, as far as the cache holds.

        A branch that is absent or broken is left to its turn, and with it the error.
        """
        wanted = {branch.ref: None for branch in branches if self._nodes.get(branch.ref) is None}
        parts_count = 0
        for ref, data in fetch_many(wanted):
            if isinstance(data, bytes):
                try:
                    parts_count += len(self._keep(ref, data).parts)
                except Corrupt:
                    continue
            if parts_count > _LOOKAHEAD_GROWTH:
                break

    def _node(self, ref: Ref) -> _Node:
        return self._nodes.get(ref) or self._keep(ref, self._blobs.fetch(ref))

    def _keep(self, ref: Ref, data: bytes) -> _Node:
        schema = parse_object(data)
        if schema is None or schema.type not in ("file", "bytes"):
            raise Corrupt("read", ref, "not the bytes blob that it is referred to as")
        node = _read_node(ref, schema)
        self._nodes.put(ref, node, len(node.parts) + 1)
        return node

    def _fetched(self, leaves: Iterable[Leaf]) -> Iterator[tuple[Leaf, bytes | None]]:
        """Each leaf with its blob, None for zeros."""
        for leaf in leaves:
            data = None
            if leaf.ref is not None:
                data = self._chunks.get(leaf.ref)
                if data is None:
                    data = self._blobs.fetch(leaf.ref)
                    self._chunks.put(leaf.ref, data, len(data))
            yield leaf, data


def _fetched_ahead(
    leaves: Iterable[Leaf], fetch_many: FetchMany
) -> Iterator[tuple[Leaf, bytes | None]]:
    """Each leaf with its blob, None for zeros; a blob needed many times in a row comes once."""
    for window in _windows(leaves):
        answers = fetch_many([ref for ref, _ in groupby(window, _ref_of) if ref is not None])
        for ref, same in groupby(window, _ref_of):
            data = None
            if ref is not None:
                _, answer = next(answers)
                if not isinstance(answer, bytes):
                    raise answer
                data = answer
            for leaf in same:
                yield leaf, data


def _ref_of(leaf: Leaf) -> Ref | None:
    return leaf.ref


def _windows(leaves: Iterable[Leaf]) -> Iterator[list[Leaf]]:
    """Leaves in runs worth fetching together."""
    window: list[Leaf] = []
    size = 0
    try:
        for leaf in leaves:
            window.append(leaf)
            size += leaf.length
            if len(window) == _WINDOW_CHUNKS or size >= _WINDOW_BYTES:
                yield window
                window, size = [], 0
    except StoreError:
        # What comes before the damage is good, and may be all that the caller wants.
        if window:
            yield window
        raise
    if window:
        yield window


def _read_node(subject: object, schema: Schema) -> _Node:
    if schema.has_null_part:
        raise Corrupt("read", subject, "an element of its parts is null")
    parts = schema.parts
    if any(part.blob_ref is not None and part.bytes_ref is not None for part in parts):
        raise Corrupt("read", subject, "a part has both blobRef and bytesRef")
    return _Node(subject, parts, list(accumulate(part.size for part in parts)))


class _Lru(Generic[_Value]):
    """The values used last, up to a total cost; one that costs more than that is not kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._total = 0
        self._entries: OrderedDict[Ref, tuple[_Value, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, ref: Ref) -> _Value | None:
        with self._lock:
            entry = self._entries.get(ref)
            if entry is None:
                return None
            self._entries.move_to_end(ref)
            return entry[0]

    def put(self, ref: Ref, value: _Value, cost: int) -> None:
        with self._lock:
            if ref in self._entries:
                return
            self._entries[ref] = value, cost
            self._total += cost
            while self._total > self._limit:
                self._total -= self._entries.popitem(last=False)[1][1]
