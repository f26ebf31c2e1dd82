"""Loose blobs in folders, as Perkeep's `storage-filesystem` keeps them."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from ..blob import MAX_BLOB_SIZE, Ref, SizedRef
from ..errors import ConfigError, Corrupt, NotFound, Unavailable
from ..sorted.options import Options
from .filesystem import FileSystem, translate
from .generation import open_generation, renew_generation
from .loose import path_of, strays, walk
from .loosewriter import LooseWriter
from .storage import Generation, Storage, check_range
from .verified import Identity, Verified


class Damaged(NamedTuple):
    """What `check` found: a blob that is not served, and why."""

    ref: Ref
    reason: str


class LocalDisk(Storage):
    """One file for each blob: `<root>/<hash>/<d0d1>/<d2d3>/<ref>.dat`.

    Every read is verified. A damaged file is reported, left where it is, and replaced when its
    blob is stored again. After a failed sync the store takes no more writes.
    """

    def __init__(self, root: Path, files: FileSystem | None = None) -> None:
        """Open the store in an existing folder; one named `packed` is created.

        files: the file system calls, for tests. Raises ConfigError, Unavailable.
        """
        self._files = files or FileSystem()
        self._root = str(root)
        try:
            if root.name == "packed":
                root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._root_descriptor = self._files.open_read(f"{self._root}/.")
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError("open", root, "there is no such folder") from None
        except OSError as error:
            raise translate(error, "open", self._root) from error
        self._verified = Verified()
        self._writer = LooseWriter(self._root, self._root_descriptor, self._files, self._is_intact)
        self._writer.adopt()
        self._generation = open_generation(self._root, self._files)

    @classmethod
    def from_config(cls, args: Mapping[str, object], _: Callable[[str], Storage]) -> Self:
        with Options("storage-filesystem", args) as options:
            root = Path(options.string("path"))
        return cls(root)

    def fetch(self, ref: Ref) -> bytes:
        path = path_of(self._root, ref)
        descriptor, identity, opened_ns = self._open(ref, path)
        try:
            data = self._files.read_all(descriptor, min(identity.size, MAX_BLOB_SIZE + 1))
        except OSError as error:
            raise translate(error, "fetch", path) from error
        finally:
            self._files.close(descriptor)
        if not ref.matches(data):
            known = "the bytes have another digest" if ref.is_supported else "unknown hash"
            raise Corrupt("fetch", ref, f"{path}: {known}")
        self._verified.remember(ref, identity, opened_ns)
        return data

    def fetch_range(self, ref: Ref, offset: int, length: int) -> bytes:
        """A file that was verified and has not changed since is read only in part."""
        path = path_of(self._root, ref)
        descriptor, identity, _ = self._open(ref, path)
        try:
            if self._verified.knows(ref, identity):
                return self._part(ref, descriptor, identity.size, offset, length)
        except OSError as error:
            raise translate(error, "fetch", path) from error
        finally:
            self._files.close(descriptor)
        return super().fetch_range(ref, offset, length)

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        path = path_of(self._root, ref)
        descriptor, identity, _ = self._open(ref, path)
        try:
            return self._part(ref, descriptor, identity.size, offset, length)
        except OSError as error:
            raise translate(error, "fetch", path) from error
        finally:
            self._files.close(descriptor)

    def _part(self, ref: Ref, descriptor: int, size: int, offset: int, length: int) -> bytes:
        check_range(ref, offset, length, size)
        self._files.seek(descriptor, offset)
        return self._files.read_all(descriptor, min(length, size - offset))

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:
        for ref in dict.fromkeys(refs):
            if not self._writer.hides(ref):
                status = self._status(ref)
                if status is not None:
                    yield SizedRef(ref, status.st_size)

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:
        for found in walk(self._root, after, self._files):
            if not self._writer.hides(found.ref):
                yield found

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        return self._writer.write_many(blobs)

    def sync(self) -> None:
        self._writer.sync()

    def remove(self, refs: Iterable[Ref]) -> None:
        self._writer.remove(refs)

    def generation(self) -> Generation | None:
        return self._generation

    def reset_generation(self) -> None:
        self._generation = renew_generation(self._root, self._files)

    def check(self) -> Iterator[Damaged]:
        """Read everything, and name each blob that is damaged, unreadable or misplaced."""
        for ref, _ in self.enumerate():
            try:
                self.fetch(ref)
            except NotFound:
                continue  # removed since it was listed
            except (Corrupt, Unavailable) as error:
                yield Damaged(ref, error.reason)
        yield from self.misplaced()

    def misplaced(self) -> Iterator[Damaged]:
        """Name blobs that are not served, but lie whole where nothing looks for them."""
        for ref, name in strays(self._root, self._files):
            path = f"{self._root}/{name}"
            if not self._is_served(ref) and self._holds(path, ref):
                place = path_of(self._root, ref)
                yield Damaged(ref, f"misplaced, but whole: move {path} to {place}")

    def _is_served(self, ref: Ref) -> bool:
        try:
            self.fetch(ref)
        except (NotFound, Corrupt, Unavailable):
            return False
        return True

    def _holds(self, path: str, ref: Ref) -> bool:
        try:
            descriptor = self._files.open_read(path)
        except OSError:
            return False
        try:
            return ref.matches(self._files.read_all(descriptor, MAX_BLOB_SIZE + 1))
        except OSError:
            return False
        finally:
            self._files.close(descriptor)

    def close(self) -> None:
        """Blobs written but not synced are dropped."""
        if self._root_descriptor >= 0:
            self._writer.close()
            self._files.close(self._root_descriptor)
            self._root_descriptor = -1

    def _open(self, ref: Ref, path: str) -> tuple[int, Identity, int]:
        """The open file, its identity, and when that was taken, in nanoseconds."""
        if self._writer.hides(ref):
            raise NotFound("fetch", ref)
        opened_ns = self._files.now_ns()
        try:
            descriptor = self._files.open_read(path)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound("fetch", ref) from None
        except OSError as error:
            raise translate(error, "fetch", path) from error
        try:
            status = self._files.status_of(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise NotFound("fetch", ref, f"{path} is no file")
        except BaseException:
            self._files.close(descriptor)
            raise
        return descriptor, Identity.of(status), opened_ns

    def _status(self, ref: Ref) -> os.stat_result | None:
        """What lies under the name of the blob, if it is a file."""
        path = path_of(self._root, ref)
        try:
            status = self._files.status(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise translate(error, "stat", path) from error
        return status if stat.S_ISREG(status.st_mode) else None

    def _is_intact(self, ref: Ref, data: bytes) -> bool:
        """Whether the file holds exactly these bytes: by memory, else by reading it."""
        status = self._status(ref)
        if status is None or status.st_size != len(data):
            return False
        if self._verified.knows(ref, Identity.of(status)):
            return True
        try:
            return self.fetch(ref) == data
        except (NotFound, Corrupt, Unavailable):
            return False  # then the blob is written anew
