"""Sizes of directories with all that is below them (README.md, "Sizes of directories")."""

from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from ..blob import Ref
from ..sorted.kv import Batch, KeyValue, after_prefix
from .rows import DamagedRow, FileInfo, file_info_key, parse_file_info

GROWN: Final = b"pk|grown|"
"""Marks files and directories that have come, or gone on growing, since they were counted."""

TREE: Final = b"pk|tree|"
BIG: Final = b"pk|big|"
TREE_PREFIXES: Final = (TREE, BIG)

PAGE_SIZE: Final = 256
"""Marks that are worked off in one go, under the index's lock."""

MAX_HEIGHT: Final = 1000
"""Directories within each other. What is higher counts nowhere: a tree whose branches meet again
doubles with each level, and damaged rows can go round in a circle."""

_PAGE_ROWS: Final = 10_000
_SIZE_DIGITS: Final = 20
_SIZE_TOP: Final = 10**_SIZE_DIGITS - 1


class Tree(NamedTuple):
    """What is below a directory: bytes of all files, files, directories, and how deep it goes.

    What is there twice counts twice; what is not indexed counts nothing.
    """

    size_bytes: int = 0
    files: int = 0
    directories: int = 0
    height: int = 0


NOTHING: Final = Tree()


def parse_tree(value: bytes) -> Tree:
    """Raises DamagedRow."""
    try:
        return Tree(*map(int, value.split(b"|")))
    except (TypeError, ValueError):
        raise DamagedRow("read", "tree row", repr(value[:60])) from None


def tree_key(ref: str) -> bytes:
    return TREE + ref.encode()


def grown_key(ref: str) -> bytes:
    return GROWN + ref.encode()


def _big_key(ref: str, tree: Tree) -> bytes:
    """Largest first, then by ref."""
    digits = _SIZE_TOP - min(tree.size_bytes, _SIZE_TOP)
    return b"%b%0*d|%b" % (BIG, _SIZE_DIGITS, digits, ref.encode())


class Trees:
    """Works off `pk|grown` marks. Used by one thread at a time, while nobody writes.

    The `pk|parent` row of each member of a directory holds what has been counted of it there, so
    that a change goes up by its difference; a marked directory is counted afresh.
    """

    def __init__(self, rows: KeyValue) -> None:
        self._rows = rows
        self._batch = Batch()
        self._written: dict[bytes, bytes] = {}  # in the batch, not yet in the rows
        self._grown: dict[Ref, None] = {}  # what its parents have not heard of

    def settle_page(self, start: bytes = GROWN) -> bytes:
        """Work off some marks from a key on. Returns from where to go on; b"" at the end."""
        marks = islice(self._rows.find(start, after_prefix(GROWN)), PAGE_SIZE)
        refs = [Ref.trusted(key[len(GROWN) :].decode()) for key, _ in marks]
        try:
            for ref in refs:
                info = self._info(ref)
                if info is not None and info.whole_ref is None:
                    self._count(ref)
                self._grown[ref] = None
            while self._grown:
                self._tell_parents(next(iter(self._grown)))
            for ref in refs:
                self._batch.delete(grown_key(ref))
            self._commit()
        finally:
            self._batch, self._written, self._grown = Batch(), {}, {}
        return grown_key(refs[-1]) + b"\0" if len(refs) == PAGE_SIZE else b""

    def _count(self, directory: Ref) -> None:
        total = NOTHING
        for key, _ in self._rows.prefixed(f"dirchild|{directory}|".encode()):
            child = Ref.trusted(key.decode().rpartition("|")[2])
            part = self._part(child)
            self._set(_edge_key(child, directory), _edge(part))
            total = _sum(total, NOTHING, part)
            self._flush()
        self._set_tree(directory, total)

    def _tell_parents(self, child: Ref) -> None:
        part = self._part(child)
        for parent, before in self._parents(child):
            tree = self._tree(parent)
            # Not counted yet: it has a mark of its own, and finds this child then.
            if tree is None or before == part:
                continue
            self._set(_edge_key(child, parent), _edge(part))
            self._set_tree(parent, _sum(tree, before, part))
            self._grown[parent] = None
        # Last: a flush marks what is still to be told.
        del self._grown[child]
        self._flush()

    def _parents(self, child: Ref) -> Iterator[tuple[Ref, Tree]]:
        """Yield each directory with this member, and what has been counted of it there."""
        for key, _ in list(self._rows.prefixed(f"pk|parent|{child}|".encode())):
            value = self._get(key)
            counted = parse_tree(value) if value else NOTHING
            yield Ref.trusted(key.decode().rpartition("|")[2]), counted

    def _part(self, child: Ref) -> Tree:
        """What a member adds to its directory."""
        info = self._info(child)
        if info is None:
            return NOTHING
        if info.whole_ref is not None:
            return Tree(info.size, 1, 0, 0)
        tree = self._tree(child)
        if tree is None:
            return NOTHING
        if tree.height >= MAX_HEIGHT:
            return Tree(height=MAX_HEIGHT)
        return tree._replace(directories=tree.directories + 1, height=tree.height + 1)

    # -- rows -----------------------------------------------------------------------------------

    def _get(self, key: bytes) -> bytes | None:
        value = self._written.get(key)
        return self._rows.get(key) if value is None else value

    def _info(self, ref: Ref) -> FileInfo | None:
        value = self._rows.get(file_info_key(ref))
        return None if value is None else parse_file_info(value)

    def _tree(self, directory: Ref) -> Tree | None:
        value = self._get(tree_key(directory))
        return None if value is None else parse_tree(value)

    def _set_tree(self, directory: Ref, tree: Tree) -> None:
        before = self._tree(directory)
        if before is not None:
            self._batch.delete(_big_key(directory, before))
        self._set(tree_key(directory), b"|".join(b"%d" % number for number in tree))
        self._batch.set(_big_key(directory, tree), b"")

    def _set(self, key: bytes, value: bytes) -> None:
        self._batch.set(key, value)
        self._written[key] = value

    def _flush(self) -> None:
        """Commit when there is much. After a crash, what was not told yet is counted again."""
        if len(self._batch) < _PAGE_ROWS:
            return
        for ref in self._grown:
            self._batch.set(grown_key(ref), b"")
        self._commit()

    def _commit(self) -> None:
        if self._batch:
            self._rows.commit(self._batch, durable=False)
        self._batch, self._written = Batch(), {}


def _edge_key(child: Ref, parent: Ref) -> bytes:
    return f"pk|parent|{child}|{parent}".encode()


def _edge(part: Tree) -> bytes:
    return b"" if part == NOTHING else b"|".join(b"%d" % number for number in part)


def _sum(tree: Tree, before: Tree, part: Tree) -> Tree:
    """The tree with a member that was counted as `before` and is `part` now."""
    return Tree(
        tree.size_bytes - before.size_bytes + part.size_bytes,
        tree.files - before.files + part.files,
        tree.directories - before.directories + part.directories,
        max(tree.height, part.height),
    )
