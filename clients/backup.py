"""Put files and directories into a store: walk, read, cut, send."""

import os
import stat as modes
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from ..blob import Ref
from ..errors import StoreError, Unavailable
from ..schema.chunker import FIRST_CHUNK_SIZE
from ..schema.directory import static_set_blobs
from ..schema.names import target_members
from ..schema.node import inode_blob, node_members
from ..schema.text import encode
from .caches import Remembered, UploadCache, is_settled, state_of
from .files import FileOptions, FileStorer, StoredFile
from .local import node_stat
from .progress import Progress
from .uploader import AnyUploader

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

READERS: Final = 3
PENDING_FILES: Final = 100
"""Large files that wait to be read, at most; the walk stops there."""

SMALL_FILE_BYTES: Final = FIRST_CHUNK_SIZE
"""Files up to this size are one chunk. The walk itself reads them: a thread hop and the fight for
the interpreter's lock cost more than reading, hashing and describing a small file."""

Report = Callable[[Ref | None], None]


class Hooks(NamedTuple):
    """What a backup asks of its caller.

    is_ignored: whether a path is left out. stored: called once a file is durable on the server,
    from any thread; what it raises counts as a failure of that file.
    """

    is_ignored: Callable[[bytes], bool] = lambda _: False
    stored: Callable[[bytes, StoredFile], None] | None = None


class Backup:
    """Puts trees. One object serves many `put`s, one after the other.

    A file that can't be read, or changes while it is read, is a problem in `progress` and left
    out of its directory; everything else is stored. A failure of the server ends the `put`.
    """

    def __init__(
        self,
        uploader: AnyUploader,
        cache: UploadCache,
        files: FileStorer,
        progress: Progress,
        hooks: Hooks | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._uploader = uploader
        self._cache = cache
        self._files = files
        self._progress = progress
        self._hooks = hooks or Hooks()
        self._clock_ns = clock_ns
        self._readers: ThreadPoolExecutor | None = None
        self._pending = threading.BoundedSemaphore(PENDING_FILES)
        self._failure: BaseException | None = None

    @property
    def options(self) -> FileOptions:
        return self._files.options

    def put(self, path: bytes) -> Ref | None:
        """Store what lies at this path and return its ref once all of it is durable.

        None when it is ignored or failed as a whole: then `progress.problems` says why. A link
        is stored as a link. Raises FileNotFoundError, and what the server fails with.
        """
        # Perkeep names the blob of `.` so; restored, it would be a name that has to be refused.
        name = path if self.options.plain else b""
        path = os.path.abspath(path)
        stat = os.lstat(path)
        if self._hooks.is_ignored(path):
            return None
        folder, own_name = os.path.split(path)
        is_folder = modes.S_ISDIR(stat.st_mode)
        known = [None] if is_folder else self._known_refs(folder, [(own_name, stat)])
        top = _Folder(b"", stat, known, lambda _: None)
        if is_folder:
            self._walk(path, stat, top.reporter(0), name or path)
        elif known[0] is None:
            self._put_node(path, stat, top.reporter(0))
        self._wait_for_readers()
        self._uploader.drain()
        return top.members[0]

    def stop(self) -> None:
        """Have the `put` that runs raise soon; from any thread."""
        self._failure = self._failure or Unavailable("put", "files", "stopped")
        self._uploader.stop()

    def close(self) -> None:
        """End the reading threads; what they hold is not sent."""
        self._failure = self._failure or KeyboardInterrupt()
        if self._readers is not None:
            self._readers.shutdown(wait=False, cancel_futures=True)

    # -- the walk -------------------------------------------------------------------------------

    def _walk(self, path: bytes, stat: os.stat_result, report: Report, name: bytes) -> None:
        """Enter directories depth first. Each is completed by the last of its members to be."""
        to_enter = [(path, stat, report, name)]
        while to_enter:
            path, stat, report, name = to_enter.pop()
            if self._failure is not None:
                raise self._failure
            try:
                others, folders = self._listed(path)
            except OSError as error:
                self._progress.failed(error)
                report(None)
                continue
            known = self._known_refs(path, others) + [None] * len(folders)
            folder = _Folder(path, stat, known, self._completer(report, name))
            if None not in known:
                folder.complete()
            for number, (name, member) in enumerate(others):
                if known[number] is None:
                    self._put_node(os.path.join(path, name), member, folder.reporter(number))
            to_enter += reversed(
                [
                    (os.path.join(path, name), member, folder.reporter(number), name)
                    for number, (name, member) in enumerate(folders, len(others))
                ]
            )

    def _listed(self, path: bytes) -> tuple[list["_Member"], list["_Member"]]:
        """The members of a directory, directories apart; each group in the order of its bytes."""
        others: list[_Member] = []
        folders: list[_Member] = []
        with os.scandir(path) as entries:
            for entry in entries:
                if self._hooks.is_ignored(entry.path):
                    continue
                try:
                    stat = entry.stat(follow_symlinks=False)
                except OSError as error:
                    self._progress.failed(error)
                    continue
                group = folders if modes.S_ISDIR(stat.st_mode) else others
                group.append((entry.name, stat))
        by_name = itemgetter(0)
        return sorted(others, key=by_name), sorted(folders, key=by_name)

    def _known_refs(self, folder: bytes, members: Sequence["_Member"]) -> list[Ref | None]:
        """The refs of those members that were put before and are unchanged, None for others."""
        known = self._cache.folder(folder, self.options.form) if members else {}
        refs: list[Ref | None] = []
        count = size_bytes = 0
        for name, stat in members:
            remembered = known.get(name)
            if remembered is None or not self._is_usable(remembered, stat):
                refs.append(None)
                continue
            refs.append(remembered.ref)
            if self._hooks.stored is None or self._is_told(folder, name, stat, remembered):
                count += 1
                size_bytes += stat.st_size
        self._progress.files_done(count, size_bytes, unchanged=True)
        return refs

    def _is_usable(self, remembered: Remembered, stat: os.stat_result) -> bool:
        options = self.options
        if options.needs_whole and (not remembered.whole or options.exif_zone is not None):
            return False  # the mtime by EXIF is not remembered
        return modes.S_ISREG(stat.st_mode) and remembered.state == state_of(stat)

    def _is_told(
        self, folder: bytes, name: bytes, stat: os.stat_result, remembered: Remembered
    ) -> bool:
        """Tell the caller of a file that is stored already; False where that fails."""
        assert self._hooks.stored is not None
        whole = Ref.trusted(remembered.whole) if remembered.whole else None
        stored = StoredFile(remembered.ref, stat.st_size, whole, stat.st_mtime_ns)
        try:
            self._hooks.stored(os.path.join(folder, name), stored)
        except (OSError, StoreError) as error:
            self._progress.failed(error)
            return False
        return True

    def _completer(self, report: Report, name: bytes) -> Callable[["_Folder"], None]:
        def complete(folder: _Folder) -> None:
            report(self._put_directory(folder, name))

        return complete

    def _put_directory(self, folder: "_Folder", name: bytes) -> Ref | None:
        """Send the blobs of a directory all of whose members are known."""
        plain = self.options.plain
        try:
            members = node_members(
                name, node_stat(folder.path, folder.stat, plain=plain), plain=plain
            )
        except (OSError, StoreError) as error:
            self._progress.failed(error)
            return None
        blobs = static_set_blobs([ref for ref in folder.members if ref is not None])
        text = encode({**members, "entries": blobs[-1][0]})
        blobs.append((Ref.of(text), text))
        if not all(self._cache.has(ref) for ref, _ in blobs):
            self._uploader.group().finish(blobs, self._problem_or_nothing)
        return blobs[-1][0]

    # -- nodes ----------------------------------------------------------------------------------

    def _put_node(self, path: bytes, stat: os.stat_result, report: Report) -> None:
        """Store what is no directory: a large file in a reading thread, all else at once."""
        if not modes.S_ISREG(stat.st_mode):
            report(self._put_special(path, stat))
            return
        if stat.st_size <= SMALL_FILE_BYTES:
            report(self._read(path, stat))
            return
        self._pending.acquire()
        if self._readers is None:
            from concurrent.futures import ThreadPoolExecutor  # slow to import

            self._readers = ThreadPoolExecutor(READERS, "reader")
        self._readers.submit(self._read_in_thread, path, stat, report)

    def _put_special(self, path: bytes, stat: os.stat_result) -> Ref | None:
        plain = self.options.plain
        blobs: list[tuple[Ref, bytes]] = []
        try:
            node = node_stat(path, stat, plain=plain)
            members = node_members(path, node, plain=plain)
            if "inodeRef" in members:
                text = inode_blob(node)
                blobs.append((Ref.of(text), text))
            if modes.S_ISLNK(stat.st_mode):
                members |= target_members(os.readlink(path))
        except (OSError, StoreError) as error:
            self._progress.failed(error)
            return None
        text = encode(members)
        ref = Ref.of(text)
        blobs.append((ref, text))

        def done(error: Exception | None) -> None:
            self._problem_or_nothing(error)
            if error is None:
                self._progress.files_done(1, 0)

        self._uploader.group().finish(blobs, done)
        return ref

    def _problem_or_nothing(self, error: Exception | None) -> None:
        if error is not None:
            self._progress.failed(error)

    # -- in the reading threads -------------------------------------------------------------------

    def _read_in_thread(self, path: bytes, stat: os.stat_result, report: Report) -> None:
        ref = None
        try:
            if self._failure is None:
                ref = self._read(path, stat)
        except BaseException as error:
            self._failure = self._failure or error
        finally:
            try:
                report(ref)
            except BaseException as error:
                self._failure = self._failure or error
            self._pending.release()

    def _read(self, path: bytes, stat: os.stat_result) -> Ref | None:
        """Send a file's blobs. A failure of this file alone is a problem, not an exception."""
        looked_at_ns = self._clock_ns()

        def done(error: Exception | None, stored: StoredFile) -> None:
            if error is None and self._hooks.stored is not None:
                try:
                    self._hooks.stored(path, stored)
                except (OSError, StoreError) as failure:
                    error = failure
            if error is not None:
                self._progress.failed(error)
                return
            if stored.is_unchanged and is_settled(stat, looked_at_ns):
                remembered = Remembered(state_of(stat), stored.ref, stored.whole or "")
                self._cache.remember_file(path, self.options.form, remembered)
            self._progress.files_done(1, stored.size_bytes)

        try:
            return self._files.put(path, stat, done)
        except OSError as error:
            self._progress.failed(error)
        except StoreError as error:
            if self._uploader.failure is not None:
                raise
            self._progress.failed(error)
        return None

    def _wait_for_readers(self) -> None:
        """Return when no file waits to be read. Raises what ended a reading thread."""
        for _ in range(PENDING_FILES):
            self._pending.acquire()
        for _ in range(PENDING_FILES):
            self._pending.release()
        if self._failure is not None:
            raise self._failure


_Member = tuple[bytes, os.stat_result]


class _Folder:
    """A directory on its way: its members' refs, in order, as they become known.

    known: the refs, None for those to come. When the last one has come, `complete` is called, in
    the thread that brought it.
    """

    __slots__ = ("_complete", "_lock", "_missing", "members", "path", "stat")

    def __init__(
        self,
        path: bytes,
        stat: os.stat_result,
        known: Sequence[Ref | None],
        complete: Callable[["_Folder"], None],
    ) -> None:
        self.path = path
        self.stat = stat
        self.members = list(known)
        self._missing = self.members.count(None)
        self._complete = complete
        self._lock = threading.Lock()

    def reporter(self, number: int) -> Report:
        def report(ref: Ref | None) -> None:
            with self._lock:
                self.members[number] = ref
                self._missing -= 1
                is_last = self._missing == 0
            if is_last:
                self.complete()

        return report

    def complete(self) -> None:
        self._complete(self)


def count_tree(path: bytes, is_ignored: Callable[[bytes], bool]) -> Iterator[tuple[int, int]]:
    """Yield the number of files and their bytes, for each directory below: to foretell an end."""
    to_enter: Sequence[bytes] = [path]
    while to_enter:
        path, *to_enter = to_enter
        files = size_bytes = 0
        below = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if is_ignored(entry.path):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        below.append(entry.path)
                        continue
                    files += 1
                    if entry.is_file(follow_symlinks=False):
                        size_bytes += entry.stat(follow_symlinks=False).st_size
        except OSError:
            pass  # the backup itself tells of it
        yield files, size_bytes
        to_enter = below + to_enter
