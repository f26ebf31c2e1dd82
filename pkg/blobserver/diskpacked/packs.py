"""The pack files of a folder: which there are, how far they go, reading from them."""

import stat
import threading
from collections.abc import Iterator

from ...blob import Ref
from ...errors import ConfigError, ReadOnly, StoreError
from ...sorted.kv import KeyValue
from ..filesystem import translate
from .files import PackFileSystem
from .records import Place, header, is_removed, pack_name, pack_number
from .walk import PackReader


class Packs:
    """Knows the packs of a folder, and reads from them. Safe to use from many threads.

    ends: for each pack, by its number as rows write it, how far rows may reach, in bytes.
    """

    def __init__(self, root: str, files: PackFileSystem) -> None:
        """Raises ConfigError where the folder is missing, Unavailable."""
        self.root = root
        self.ends: dict[bytes, int] = {}
        self._files = files
        self._lock = threading.Lock()
        self._descriptors: dict[int, int] = {}
        try:
            for number in sorted(self._numbers()):
                self.set_end(number, self._length(number))
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigError("open", root, "there is no such folder") from None
        except OSError as error:
            raise translate(error, "open", root) from error

    def _numbers(self) -> Iterator[int]:
        for name in self._files.list_folder(self.root):
            number = pack_number(name)
            if number is not None:
                yield number

    def _length(self, number: int) -> int:
        """Bytes in a pack; 0 for a link that leads nowhere, or what is no file."""
        try:
            status = self._files.status(self.path(number))
        except FileNotFoundError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) else 0

    @property
    def numbers(self) -> list[int]:
        return sorted(int(number) for number in list(self.ends))

    def path(self, number: int) -> str:
        return f"{self.root}/{pack_name(number)}"

    def end(self, number: int) -> int:
        return self.ends.get(b"%d" % number, 0)

    def set_end(self, number: int, end: int) -> None:
        self.ends[b"%d" % number] = end

    def create(self, number: int) -> int:
        """Make a new, empty pack, durably; returns its descriptor. Raises Unavailable, ReadOnly.

        ReadOnly after a failed sync of the folder: then nothing may be promised any more.
        """
        path = self.path(number)
        try:
            descriptor = self._files.open_new(path)
        except OSError as error:
            raise translate(error, "create", path) from error
        try:
            self._files.sync_folder(self.root)
        except StoreError:  # the folder could not be opened: nothing is lost, try again
            self._files.close(descriptor)
            self._files.unlink(path)
            raise
        except OSError as error:
            self._files.close(descriptor)
            raise ReadOnly("sync", self.root, sync_failed(error)) from error
        self.set_end(number, 0)
        return descriptor

    def usable(self, value: bytes | None) -> Place | None:
        """The place that a row names, if the pack is there and reaches so far."""
        place = None if value is None else Place.from_row(value)
        return None if place is None or place.end > self.end(place.pack) else place

    def place_of(self, rows: KeyValue, key: bytes, value: bytes | None) -> Place | None:
        """As `usable` for a row seen a while ago: if it leads nowhere now, it is looked up again.

        Compaction may have moved the blob since, and emptied the pack.
        """
        place = self.usable(value)
        return self.usable(rows.get(key)) if place is None and value is not None else place

    def read(self, place: Place, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a place, which may be cut short. Raises Unavailable, NotFound (no such pack)."""
        size = place.size - offset if length is None else min(length, place.size - offset)
        return self.read_at(place.pack, place.offset + offset, size)

    def read_at(self, number: int, offset: int, size: int) -> bytes:
        try:
            return self._files.read_all_at(self._descriptor(number), size, offset)
        except OSError as error:
            raise translate(error, "read", self.path(number)) from error

    def reader(self, number: int) -> PackReader:
        """A reader of one pack up to its present end. Raises Unavailable, NotFound."""
        end = self.end(number)
        try:
            descriptor = self._descriptor(number) if end else -1  # where nothing is to be read
        except OSError as error:
            raise translate(error, "read", self.path(number)) from error
        return PackReader(self._files, descriptor, self.path(number), end)

    def has_header(self, ref: Ref, place: Place) -> bool:
        """Whether the header of this blob lies before this place."""
        expected = header(ref, place.size)
        begin = place.offset - len(expected)
        return begin >= 0 and self.read_at(place.pack, begin, len(expected)) == expected

    def was_removed(self, ref: Ref, place: Place) -> bool:
        """Whether the record of this blob at this place was removed."""
        length = len(header(ref, place.size))
        begin = place.offset - length
        if begin < 0:
            return False
        found = self.read_at(place.pack, begin, length)
        name, _, rest = found[1:].partition(b" ")
        return found[:1] == b"[" and is_removed(name) and rest == b"%d]" % place.size

    def status(self, number: int) -> tuple[int, ...]:
        """What changes when somebody else writes to the pack, or puts another in its place."""
        try:
            found = self._files.status_of(self._descriptor(number))
        except OSError as error:
            raise translate(error, "read", self.path(number)) from error
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def close(self) -> None:
        with self._lock:
            for descriptor in self._descriptors.values():
                self._files.close(descriptor)
            self._descriptors.clear()
            self.ends.clear()

    def _descriptor(self, number: int) -> int:
        found = self._descriptors.get(number)
        if found is None:
            with self._lock:
                found = self._descriptors.get(number)
                if found is None:
                    found = self._descriptors[number] = self._files.open_read(self.path(number))
        return found


def sync_failed(error: OSError) -> str:
    """The reason for which a store takes no more writes."""
    return f"a sync failed ({error.strerror or error}); restart to write again"
