"""Make files and directories again from their blobs: identical, whole or not at all."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC, EROFS
from functools import partial
from itertools import groupby, islice
from typing import Final, NamedTuple

from ..blob import Ref
from ..errors import Corrupt, Invalid, NotFound, StoreError, Unavailable
from ..schema.directory import directory_members
from ..schema.filereader import FileReader, Leaf
from ..schema.names import is_safe_name, join_pieces
from ..schema.node import RestoredStat, restore_stat
from ..schema.parse import Schema, parse_object
from . import writing
from .contents import Found, Pusher, Source, contents, cut
from .progress import Progress
from .threads import Job, Threads

WRITERS: Final = 2
FOLDERS_AT_ONCE: Final = 100
NODES_AT_ONCE: Final = 2000
"""Directories, and members of them, that are read together: few round trips, bounded memory."""

RUN_FILES: Final = 200
RUN_BYTES: Final = 8 * 1024 * 1024
"""Small files that one thread fetches together."""

SMALL_FILE_BYTES: Final = 1024 * 1024
STRETCH_BYTES: Final = 32 * 1024 * 1024
"""A large file is divided into stretches that threads fetch and write at the same time."""

RUNS_WAITING: Final = 8
KINDS: Final = ("file", "directory", "symlink", "fifo", "socket")
IRREGULAR: Final = ("symlink", "fifo", "socket")

_FATAL: Final = (ENOSPC, EDQUOT, EROFS)


class _Node(NamedTuple):
    """A node to be made: names below the target directory, and what it is."""

    ref: Ref
    parts: tuple[bytes, ...]
    schema: Schema
    stat: RestoredStat

    @property
    def path(self) -> str:
        return os.fsdecode(b"/".join(self.parts))


class _SmallFile(NamedTuple):
    node: _Node
    leaves: list[Leaf]


class Restore:
    """Restores trees below a directory. What fails is a problem in `progress`; the rest is made.

    source: gives verified blobs. target: the directory, made if it is not there.
    skip_irregular: leave out links, fifos, sockets and devices.
    """

    def __init__(
        self, source: Source, target: bytes, progress: Progress, *, skip_irregular: bool = False
    ) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._skip_irregular = skip_irregular
        self._folders: list[_Node] = []
        self._new_folders: set[tuple[bytes, ...]] = set()  # nothing was in them
        self._owners: dict[tuple[bytes, ...], writing.Owner] = {}  # of what is made in those
        self._linked: dict[str, tuple[bytes, ...]] = {}
        self._links: list[tuple[_Node, tuple[bytes, ...]]] = []
        self._top = -1
        self._stopped = threading.Event()

    def restore(self, ref: Ref, schema: Schema | None = None) -> None:
        """Restore the node of a schema blob, under the name that it has.

        schema: of the blob, where it has been read already.

        Raises NotFound; Invalid if it is no node of a file system; what the server fails with.
        """
        schema = schema or parse_object(self._source.fetch(ref))
        if schema is None or schema.type not in KINDS:
            raise Invalid("restore", ref, "it is neither file nor directory")
        os.makedirs(self._target, exist_ok=True)
        self._top = os.open(self._target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with Threads(WRITERS, "writer") as threads:
                runs = _Runs(threads, self._finish_run)
                try:
                    self._restore_below(ref, schema, runs)
                    runs.wait()
                except BaseException:
                    self._stopped.set()
                    raise
            self._make_hard_links()
            self._finish_folders()
        finally:
            os.close(self._top)

    # -- the walk -------------------------------------------------------------------------------

    def _restore_below(self, ref: Ref, top: Schema, runs: "_Runs") -> None:
        name = _name(top)
        is_itself = top.type == "directory" and name in (b"", b".", b"/")
        parts: tuple[bytes, ...] = () if is_itself else (name,)
        pending: list[_Node] = []
        self._meet(_Node(ref, parts, top, restore_stat(top)), pending, runs)
        while pending:
            batch = [pending.pop() for _ in range(min(len(pending), FOLDERS_AT_ONCE))]
            found: list[_Node] = []
            for node in self._members(batch):
                self._meet(node, found, runs)
            pending += reversed(found)

    def _meet(self, node: _Node, folders: list[_Node], runs: "_Runs") -> None:
        """Make a node; a directory joins `folders`, to be entered; a file is left to a thread."""
        if node.parts and not is_safe_name(node.parts[-1]):
            name = repr(node.parts[-1])
            self._failed(node, Invalid("restore", name, "not a name that a file may have"))
            return
        kind = node.schema.type
        if kind in IRREGULAR and self._skip_irregular:
            return
        try:
            if self._is_further_name(node):
                return
            if kind == "file":
                self._meet_file(node, runs)
                return
            with writing.opened_folder(self._top, node.parts[:-1]) as folder:
                if kind == "directory":
                    self._enter(node, folder)
                    folders.append(node)
                    return
                self._make(node, folder)
            self._progress.files_done(1, 0)
        except (OSError, StoreError) as error:
            self._failed(node, error)

    def _is_further_name(self, node: _Node) -> bool:
        """Whether this is one more name of a file met before: those are linked at the end."""
        if node.stat.inode_ref is None or node.schema.type == "directory":
            return False
        # Inode numbers repeat on other machines and later in time: all else has to be equal too.
        others = sorted(
            (name, value)
            for name, value in node.schema.members.items()
            if name not in ("fileName", "fileNameBytes")
        )
        first = self._linked.setdefault(repr((others, node.schema.parts)), node.parts)
        if first != node.parts:
            self._links.append((node, first))
        return first != node.parts

    def _enter(self, node: _Node, folder: int) -> None:
        if node.parts and writing.make_folder(folder, node.parts[-1]):
            self._new_folders.add(node.parts)
        else:
            with writing.opened_folder(folder, node.parts[-1:]) as found:
                writing.remove_leftovers(found)
        self._folders.append(node)

    def _make(self, node: _Node, folder: int) -> None:
        name, kind = node.parts[-1], node.schema.type
        if kind == "symlink":
            writing.make_link(folder, name, node.schema.symlink_target)
        else:
            writing.make_special(folder, name, kind, node.stat.special_device)
        writing.set_link_metadata(folder, name, node.stat)

    def _members(self, folders: Sequence[_Node]) -> Iterator[_Node]:
        """The members of these directories, read together."""
        blobs = _Prefetched(self._source)
        blobs.fetch_ahead(ref for node in folders if (ref := node.schema.ref("entries")))
        members = self._member_refs(folders, blobs)
        while some := list(islice(members, NODES_AT_ONCE)):
            fetched = self._source.fetch_many([ref for _, ref in some])
            for (folder, _), (ref, found) in zip(some, fetched, strict=True):
                try:
                    yield _node(folder, ref, found)
                except StoreError as error:
                    self._failed(folder, error)

    def _member_refs(
        self, folders: Sequence[_Node], blobs: "_Prefetched"
    ) -> Iterator[tuple[_Node, Ref]]:
        for folder in folders:
            try:
                for ref in directory_members(blobs, folder.schema):
                    yield folder, ref
            except (NotFound, Corrupt, Invalid) as error:
                self._failed(folder, error)

    # -- files ----------------------------------------------------------------------------------

    def _meet_file(self, node: _Node, runs: "_Runs") -> None:
        reader = FileReader(self._source, node.schema)
        if node.parts[:-1] not in self._new_folders and self._is_there(node, reader.size):
            self._progress.files_done(1, reader.size, unchanged=True)
            return
        if reader.size <= SMALL_FILE_BYTES:
            runs.add(node, reader)
        elif reader.size <= STRETCH_BYTES:
            runs.start(lambda: self._finish_alone(node, reader))
        else:
            self._restore_large(node, reader, runs)

    def _is_there(self, node: _Node, size: int) -> bool:
        with writing.opened_folder(self._top, node.parts[:-1]) as folder:
            return writing.is_there(folder, node.parts[-1], size, node.stat.mtime_ns)

    def _finish_run(self, run: Sequence[tuple[_Node, FileReader]]) -> None:
        """Restore small files, fetching their chunks together."""
        small: list[_SmallFile] = []
        for node, reader in run:
            try:
                small.append(_SmallFile(node, list(reader.chunks())))
            except StoreError as error:
                self._failed(node, error)
        blobs = _Prefetched(self._source)
        blobs.fetch_ahead(leaf.ref for file in small for leaf in file.leaves if leaf.ref)
        self._progress.sent(blobs.size_bytes)
        for folder_parts, files in groupby(small, lambda file: file.node.parts[:-1]):
            self._write_small_files(folder_parts, list(files), blobs)

    def _write_small_files(
        self, folder_parts: tuple[bytes, ...], files: Sequence[_SmallFile], blobs: "_Prefetched"
    ) -> None:
        """Write small files of one directory."""
        count = size_bytes = 0
        try:
            with writing.opened_folder(self._top, folder_parts) as folder:
                for file in files:
                    try:
                        size_bytes += self._write_small(folder, file, blobs)
                        count += 1
                    except (OSError, StoreError) as error:
                        self._failed(file.node, error)
        except (FileNotFoundError, Invalid) as error:  # the directory is gone, or none any more
            for file in files:
                self._failed(file.node, error)
        self._progress.files_done(count, size_bytes)

    def _write_small(self, folder: int, file: _SmallFile, blobs: "_Prefetched") -> int:
        """Write a small file and return its size."""
        node = file.node
        pieces: list[bytes] = []
        for leaf in file.leaves:
            pieces += cut(leaf, blobs.fetch(leaf.ref) if leaf.ref else b"")
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        with writing.new_file(folder, node.parts[-1]) as descriptor:
            if node.stat.holes:
                for _ in writing.write_sparse(descriptor, iter([data]), 0, node.stat.holes):
                    pass
                os.ftruncate(descriptor, len(data))  # a hole at the end was not written
            else:
                writing.write_whole(descriptor, data)
            self._set_metadata(descriptor, node)
        return len(data)

    def _finish_alone(self, node: _Node, reader: FileReader) -> None:
        """Restore a file of middling size."""
        try:
            with self._new_file(node, reader) as descriptor:
                self._write_stretch(descriptor, node, reader, 0)
        except (OSError, StoreError) as error:
            self._failed(node, error)

    def _restore_large(self, node: _Node, reader: FileReader, runs: "_Runs") -> None:
        """Restore a file in stretches, several at once; return when it is whole."""
        with self._new_file(node, reader) as descriptor:
            os.ftruncate(descriptor, reader.size)
            runs.do_all(
                lambda start: self._write_stretch(descriptor, node, reader, start),
                range(0, reader.size, STRETCH_BYTES),
            )

    @contextmanager
    def _new_file(self, node: _Node, reader: FileReader) -> Iterator[int]:
        """Give a descriptor to write the file, which is finished at the end."""
        with (
            writing.opened_folder(self._top, node.parts[:-1]) as folder,
            writing.new_file(folder, node.parts[-1]) as descriptor,
        ):
            yield descriptor
            os.ftruncate(descriptor, reader.size)  # a hole at the end was not written
            self._set_metadata(descriptor, node)
        self._progress.files_done(1, reader.size)

    def _write_stretch(self, descriptor: int, node: _Node, reader: FileReader, start: int) -> None:
        with self._stretch(node, reader, start) as pieces:
            for _ in writing.write_sparse(descriptor, pieces, start, node.stat.holes):
                if self._stopped.is_set():
                    raise Unavailable("restore", node.path, "stopped")

    @contextmanager
    def _stretch(self, node: _Node, reader: FileReader, start: int) -> Iterator[Iterator[bytes]]:
        """Give the bytes of a stretch, which the server sends unasked where it can."""
        source, length = self._source, min(STRETCH_BYTES, reader.size - start)
        pusher = source.push_file(node.ref, start, length) if isinstance(source, Pusher) else None
        if pusher is None:
            leaves = reader.chunks(start, length, source.fetch_many)
            yield contents(source, leaves, self._progress)
            return
        with pusher as pushed:
            leaves = FileReader(pushed, node.schema).chunks(start, length)
            yield contents(pushed, leaves, self._progress)

    def _set_metadata(self, descriptor: int, node: _Node) -> None:
        stat, owner = node.stat, self._first_owner(descriptor, node)
        for problem in writing.set_metadata(descriptor, stat, mode=stat.mode, owner=owner):
            self._failed(node, problem)

    def _first_owner(self, descriptor: int, node: _Node) -> writing.Owner | None:
        """Whom a node belongs to that was just made: all in a new directory, which nobody else can
        enter or change until the end, to the same. None elsewhere."""
        folder = node.parts[:-1]
        if folder not in self._new_folders:
            return None
        owner = self._owners.get(folder)
        if owner is None:
            owner = self._owners[folder] = writing.owner_of(descriptor)
        return owner

    # -- the end --------------------------------------------------------------------------------

    def _make_hard_links(self) -> None:
        for node, first in self._links:
            try:
                with writing.opened_folder(self._top, node.parts[:-1]) as folder:
                    writing.make_hard_link(self._top, first, folder, node.parts[-1])
                self._progress.files_done(1, 0)
            except (OSError, StoreError) as error:
                self._failed(node, error)

    def _finish_folders(self) -> None:
        """Give directories their metadata, inner ones first: their members are all there."""
        for node in reversed(self._folders):
            try:
                with writing.opened_folder(self._top, node.parts) as folder:
                    self._set_metadata(folder, node)
            except (OSError, StoreError) as error:
                self._failed(node, error)

    def _failed(self, node: _Node, error: Exception) -> None:
        """Record a problem under the name of the file. Server and disk failing end it all."""
        path = os.path.join(os.fsdecode(self._target), node.path)
        if isinstance(error, OSError):
            error.filename = path
        if isinstance(error, Unavailable) or getattr(error, "errno", None) in _FATAL:
            raise error
        if isinstance(error, StoreError):
            error = type(error)("restore", path, str(error))
        self._progress.failed(error)


def _name(schema: Schema) -> bytes:
    """The name as it was stored. A backslash is an ordinary character here."""
    pieces = schema.members.get("fileNameBytes")
    text = schema.string("fileName")
    return text.encode() or (join_pieces(pieces) if isinstance(pieces, list) else b"")


def _node(folder: _Node, ref: Ref, found: Found) -> _Node:
    if not isinstance(found, bytes):
        raise found
    schema = parse_object(found)
    if schema is None or schema.type not in KINDS:
        raise Corrupt("read", ref, "a member that is neither file nor directory")
    return _Node(ref, (*folder.parts, _name(schema)), schema, restore_stat(schema))


class _Prefetched:
    """A Fetcher that has some blobs already."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._found: dict[Ref, Found] = {}
        self.size_bytes = 0

    def fetch_ahead(self, refs: Iterable[Ref]) -> None:
        wanted = list(dict.fromkeys(refs))
        for ref, found in self._source.fetch_many(wanted):
            self._found[ref] = found
            self.size_bytes += len(found) if isinstance(found, bytes) else 0

    def fetch(self, ref: Ref) -> bytes:
        found = self._found.get(ref)
        if found is None:
            return self._source.fetch(ref)
        if isinstance(found, bytes):
            return found
        raise found


class _Runs:
    """Hands small files to threads, in runs, and keeps count of the runs under way."""

    def __init__(
        self,
        threads: Threads,
        finish: Callable[[Sequence[tuple[_Node, FileReader]]], None],
    ) -> None:
        self._threads = threads
        self._finish = finish
        self._run: list[tuple[_Node, FileReader]] = []
        self._size_bytes = 0
        self._under_way: deque[Job] = deque()

    def add(self, node: _Node, reader: FileReader) -> None:
        self._run.append((node, reader))
        self._size_bytes += reader.size
        if len(self._run) >= RUN_FILES or self._size_bytes >= RUN_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand over what has gathered."""
        if self._run:
            run, self._run, self._size_bytes = self._run, [], 0
            self.start(lambda: self._finish(run))

    def start(self, work: Callable[[], None]) -> None:
        """Have work done; wait while too much is under way."""
        self._under_way.append(self._threads.start(work))
        while len(self._under_way) > RUNS_WAITING:
            self._under_way.popleft().wait()

    def do_all(self, work: Callable[[int], None], inputs: Iterable[int]) -> None:
        """Do this work in the threads. Raises its first error, once none is under way."""
        started = [self._threads.start(partial(work, each)) for each in inputs]
        try:
            for job in started:
                job.wait()
        finally:
            for job in started:
                job.give_up()
            for job in started:
                job.join()

    def wait(self) -> None:
        self.flush()
        while self._under_way:
            self._under_way.popleft().wait()
