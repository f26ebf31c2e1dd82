"""Writing loose blobs: temporary files, then a group commit that makes them durable."""

import itertools
import secrets
import stat
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from ..blob import Ref, SizedRef
from ..errors import ReadOnly, StoreError, Unavailable
from .filesystem import FileSystem, translate
from .groupcommit import GroupCommit
from .loose import folder_of, path_of

SMALL_GROUP: Final = 4
"""Up to so many blobs are synced one by one, more by syncing the whole file system
(pkg/blobserver/README.md, "What a sync costs")."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A blob that is written to a temporary file and waits for a sync."""

    ref: Ref
    temporary: str
    path: str
    folder: str
    is_new: bool  # nothing lay at `path` before: nobody may see it until it is durable
    descriptor: int | None  # open while an fsync of this file alone may be to come
    is_renamed: bool = False


class LooseWriter:
    """Writes and removes the files of a tree of loose blobs, durably.

    A blob becomes visible under its name only when its data is durable, and is hidden by `hides`
    until the name is durable too. After a failed sync nothing is written any more: nobody can
    know what the disk holds, so no later success would mean anything.
    """

    def __init__(
        self,
        root: str,
        root_descriptor: int,
        files: FileSystem,
        is_intact: Callable[[Ref, bytes], bool],
    ) -> None:
        """is_intact: whether the file of this blob holds these bytes, so need not be replaced."""
        self._root = root
        self._root_descriptor = root_descriptor
        self._files = files
        self._is_intact = is_intact
        self._temporary_numbers = itertools.count(secrets.randbelow(10**9))
        self._waiting: dict[Ref, _Waiting] = {}
        self._waiting_lock = threading.Lock()
        self._grown: set[str] = set()  # folders in which one was made since their last sync
        self._grown_lock = threading.Lock()
        self._failure = ""
        self._group = GroupCommit(self._commit)

    def hides(self, ref: Ref) -> bool:
        """Whether a blob is on its way and must not be seen yet, wherever its file is."""
        waiting = self._waiting.get(ref)
        return waiting is not None and waiting.is_new

    def adopt(self) -> None:
        """Sync what an earlier process may have left: files renamed, their folders unsynced."""
        try:
            self._files.sync_all(self._root_descriptor)
        except OSError as error:
            self._fail(error)

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        """Write what is not there undamaged. If one can't be written, none of them is kept."""
        self._refuse_after_failure("write")
        taken: list[SizedRef] = []
        written: dict[Ref, _Waiting] = {}
        try:
            for ref, data in blobs:
                taken.append(SizedRef(ref, len(data)))
                if ref in self._waiting or ref in written or self._is_intact(ref, data):
                    continue
                written[ref] = self._write(ref, data, len(written))
            with self._waiting_lock:
                # Another thread may have stored the same blob meanwhile: it must stay visible,
                # and where its copy waits, one is enough.
                for blob in written.values():
                    blob.is_new = blob.is_new and not self._exists(blob.path)
                twice = [
                    blob
                    for ref, blob in written.items()
                    if self._waiting.setdefault(ref, blob) is not blob
                ]
        except BaseException:
            self._discard(written.values())
            raise
        self._discard(twice)
        self._group.wrote()
        return taken

    def sync(self) -> None:
        """Raises ReadOnly after a failed sync, Unavailable when a rename failed; try again."""
        self._refuse_after_failure("sync")
        self._group.sync()
        self._refuse_after_failure("sync")

    def remove(self, refs: Iterable[Ref]) -> None:
        """Remove the files durably, and the folders that this leaves empty."""
        self._refuse_after_failure("remove")
        folders = set()
        with self._group.alone():
            for ref in refs:
                with self._waiting_lock:
                    waiting = self._waiting.pop(ref, None)
                if waiting is not None:
                    self._discard([waiting])
                path = path_of(self._root, ref)
                try:
                    self._files.unlink(path)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as error:
                    raise translate(error, "remove", path) from error
                folders.add(f"{self._root}/{folder_of(ref)}")
            try:
                self._sync_folders(folders)
            except OSError as error:
                raise self._fail(error) from error
        for folder in folders:
            self._prune(folder)

    def close(self) -> None:
        """Drop what nobody synced."""
        with self._group.alone(), self._waiting_lock:
            left = list(self._waiting.values())
            self._waiting.clear()
        self._discard(left)

    # -- one blob -------------------------------------------------------------------------------

    def _write(self, ref: Ref, data: bytes, place: int) -> _Waiting:
        """Write the temporary file of a blob that is number `place` of its batch."""
        folder = f"{self._root}/{folder_of(ref)}"
        path = path_of(self._root, ref)
        waiting = _Waiting(ref, "", path, folder, not self._exists(path), None)
        try:
            self._create(waiting)
            assert waiting.descriptor is not None
            self._files.write_all(waiting.descriptor, data)
        except OSError as error:
            self._discard([waiting])
            raise translate(error, "store", path) from error
        if len(self._waiting) + place >= SMALL_GROUP:
            self._let_go(waiting)
        return waiting

    def _let_go(self, waiting: _Waiting) -> None:
        """Close a file that the sync of the whole file system will cover, else sync it now.

        So only a few files stay open, however large a group is.
        """
        try:
            if not self._files.can_sync_all and waiting.descriptor is not None:
                self._files.fsync(waiting.descriptor)
        except OSError as error:
            self._discard([waiting])
            raise self._fail(error) from error
        self._close(waiting)

    def _exists(self, path: str) -> bool:
        try:
            status = self._files.status(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise translate(error, "store", path) from error
        if stat.S_ISDIR(status.st_mode):
            # Refused here, where only this batch fails: the rename would fail for every sync.
            raise Unavailable("store", path, "a folder lies where the file should be")
        return True

    def _create(self, waiting: _Waiting) -> None:
        while True:
            temporary = f"{waiting.path}.tmp{next(self._temporary_numbers)}"
            try:
                waiting.descriptor = self._files.open_new(temporary)
            except FileExistsError:
                continue  # left by an earlier process, which chose the same number
            except FileNotFoundError:
                self._make_folders(waiting.folder)
                continue
            waiting.temporary = temporary
            return

    def _make_folders(self, folder: str) -> None:
        # Under the lock: a commit that takes `_grown` must know the parent of every folder that
        # a blob may lie in already.
        with self._grown_lock:
            missing = [folder]
            while missing:
                try:
                    self._files.make_folder(missing[-1])
                except FileNotFoundError:
                    if missing[-1] == self._root:
                        raise
                    missing.append(missing[-1].rpartition("/")[0])
                    continue
                except FileExistsError:
                    pass
                else:
                    self._grown.add(missing[-1].rpartition("/")[0])
                missing.pop()

    def _close(self, waiting: _Waiting) -> None:
        descriptor, waiting.descriptor = waiting.descriptor, None
        if descriptor is not None:
            self._files.close(descriptor)

    def _discard(self, blobs: Iterable[_Waiting]) -> None:
        for waiting in blobs:
            self._close(waiting)
            if waiting.temporary and not waiting.is_renamed:
                try:
                    self._files.unlink(waiting.temporary)
                except OSError:
                    pass  # it stays as a stray, which nobody reads

    def _prune(self, folder: str) -> None:
        """Remove a folder and its parent if they are empty, so that listing stays quick."""
        for path in (folder, folder.rpartition("/")[0]):
            try:
                self._files.remove_folder(path)
            except OSError:
                return  # not empty, or gone

    # -- the group ------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Data durable, then named, then names durable, then visible."""
        self._refuse_after_failure("sync")
        with self._waiting_lock:
            group = list(self._waiting.values())
        to_name = [blob for blob in group if not blob.is_renamed]
        whole = self._files.can_sync_all and (
            len(to_name) > SMALL_GROUP or any(blob.descriptor is None for blob in to_name)
        )
        try:
            self._sync_data(to_name, whole)
            self._rename(to_name)
            self._sync_folders({blob.folder for blob in group})
        except OSError as error:
            raise self._fail(error) from error
        for blob in group:
            self._close(blob)
        with self._waiting_lock:
            for blob in group:
                del self._waiting[blob.ref]

    def _sync_data(self, group: list[_Waiting], whole: bool) -> None:
        if whole:
            self._files.sync_all(self._root_descriptor)
            return
        for blob in group:
            if blob.descriptor is not None:
                self._files.fsync(blob.descriptor)

    def _rename(self, group: list[_Waiting]) -> None:
        """Name the files. A failure here leaves them waiting for the next sync.

        Only a temporary file that vanished is final: the write that it held is lost, and whoever
        made it may ask only later.
        """
        for blob in group:
            try:
                self._files.rename(blob.temporary, blob.path)
            except FileNotFoundError:
                raise
            except OSError as error:
                raise translate(error, "store", blob.path) from error
            blob.is_renamed = True

    def _sync_folders(self, folders: set[str]) -> None:
        with self._grown_lock:
            folders |= self._grown
            self._grown = set()
        # A blob in a new folder needs up to four: its own, and those in which one was made.
        if self._files.can_sync_all and len(folders) > 4 * SMALL_GROUP:
            self._files.sync_all(self._root_descriptor)
            return
        for folder in sorted(folders):
            try:
                self._files.sync_folder(folder)
            except FileNotFoundError:
                pass
            except StoreError:  # it could not be opened: the next sync tries all of them again
                with self._grown_lock:
                    self._grown |= folders
                raise

    # -- failure --------------------------------------------------------------------------------

    def _fail(self, error: OSError) -> ReadOnly:
        self._failure = f"a sync failed ({error.strerror or error}); restart to write again"
        return ReadOnly("sync", self._root, self._failure)

    def _refuse_after_failure(self, operation: str) -> None:
        if self._failure:
            raise ReadOnly(operation, self._root, self._failure)
