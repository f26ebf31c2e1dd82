"""Put one regular file: look for a copy on the server, else cut it and send the chunks."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ..blob import Ref, SizedRef
from ..errors import Invalid, StoreError
from ..schema.chunker import FIRST_CHUNK_SIZE, cuts
from ..schema.filetree import FileTree, PartMembers, part_members, parts_blob
from ..schema.filewriter import WholeRef
from ..schema.node import inode_blob, node_members
from ..schema.parse import parse_object
from ..schema.text import encode
from ..schema.times import format_time, parse_time
from .local import FileSource, holes_of, is_same, node_stat, open_regular, read_pieces, read_whole
from .uploader import AnyUploader, FileGroup

if TYPE_CHECKING:
    from datetime import tzinfo

PROBED_BYTES: Final = 16 * 1024 * 1024
"""A file above this size is hashed to look for a copy only if the server has its first chunk, which
every writer cuts alike: to read a large file twice costs more than it may save."""

_ZEROS: Final = bytes(1024 * 1024)
_ZEROS_REF: Final = Ref.of(_ZEROS)


class FileOptions(NamedTuple):
    """How files become blobs.

    plain: exactly what Perkeep writes, without our own members. contents_only: `parts` alone.
    cap_ctime: no ctime above the mtime. vivify: the server makes a permanode for each file.
    exif_zone: pictures get the time at which they were taken as their mtime; this is the time
    zone of those that don't tell their place. None: all keep the mtime of the file.
    needs_whole: find out the digest of the contents of every file (`StoredFile.whole`), also
    where that means to hash all of it once more.
    """

    plain: bool = False
    contents_only: bool = False
    cap_ctime: bool = False
    vivify: bool = False
    needs_whole: bool = False
    exif_zone: "tzinfo | None" = None

    @property
    def form(self) -> str:
        """What distinguishes results of the same file in the cache."""
        names = ("plain", "contents_only", "cap_ctime", "vivify")
        words = [name for name in names if getattr(self, name)]
        return " ".join(words + ([f"exif {self.exif_zone}"] if self.exif_zone else []))


class StoredFile(NamedTuple):
    """A file whose blobs are durable. whole: the ref of its contents, None where not known.

    mtime_ns: as the file blob says. is_unchanged: whether the file was the same before and after
    it was read.
    """

    ref: Ref
    size_bytes: int
    whole: Ref | None
    mtime_ns: int
    is_unchanged: bool = True


class Copies(Protocol):
    """Finds out whether the server has a file with the same contents."""

    def may_exist(self, first_chunk: Ref) -> bool:
        """Whether there may be a copy of a file that starts with this chunk."""
        ...

    def parts_of(self, whole: Mapping[str, Ref]) -> list[PartMembers] | None:
        """The `parts` of a copy that can be read there whole; None if there is none.

        whole: the digests of the contents by their hash names, those in `hash_names`.
        """
        ...

    @property
    def hash_names(self) -> tuple[str, ...]: ...


class FileStorer:
    """Puts regular files through an uploader. Safe to use from many threads."""

    def __init__(
        self, uploader: AnyUploader, options: FileOptions, copies: Copies | None = None
    ) -> None:
        self._uploader = uploader
        self.options = options
        self._copies = copies

    def put(
        self,
        path: bytes,
        stat: os.stat_result,
        done: Callable[[Exception | None, StoredFile], None],
    ) -> Ref:
        """Read the file that lstat described and send its blobs.

        Returns the ref once all was read; `done` is called when everything is durable, or with
        what went wrong. At most the size that `stat` says is read. Raises OSError,
        ChangedError, and what made the uploader give up.
        """
        group = self._uploader.group()
        with open_regular(path, stat) as descriptor:
            last: list[tuple[Ref, bytes]] = []
            members = self._members(path, descriptor, stat, last)
            text, whole = self._text(group, path, descriptor, stat, members)
            is_unchanged = is_same(stat, os.fstat(descriptor))
        ref = Ref.of(text)
        last.append((ref, text))
        stored = StoredFile(ref, stat.st_size, whole, self._mtime_ns(members, stat), is_unchanged)
        group.finish(last, lambda error: done(error, stored), vivify=self.options.vivify)
        return ref

    def _members(
        self, path: bytes, descriptor: int, stat: os.stat_result, last: list[tuple[Ref, bytes]]
    ) -> dict[str, object]:
        """The file blob's members but `parts`; an inode blob, where there is one, into `last`."""
        options = self.options
        if options.contents_only:
            return {"camliType": "file"}
        holes = [] if options.plain else holes_of(descriptor, stat)
        node = node_stat(descriptor, stat, plain=options.plain, holes=holes)
        members = node_members(path, node, plain=options.plain, cap_ctime=options.cap_ctime)
        if options.exif_zone is not None:
            members |= _taken(descriptor, stat, options.exif_zone)
        if "inodeRef" in members:
            text = inode_blob(node)
            last.append((Ref.of(text), text))
        return members

    def _mtime_ns(self, members: Mapping[str, object], stat: os.stat_result) -> int:
        """The mtime in the members: that of the file, unless a picture told another."""
        text = members.get("unixMtime")
        if self.options.exif_zone is None or not isinstance(text, str):
            return stat.st_mtime_ns
        try:
            return parse_time(text)
        except Invalid:  # a year above 9999, which can be written and not read
            return stat.st_mtime_ns

    def _text(
        self,
        group: FileGroup,
        path: bytes,
        descriptor: int,
        stat: os.stat_result,
        members: dict[str, object],
    ) -> tuple[bytes, Ref | None]:
        """The file blob, after its chunks were sent, and the ref of all contents, if known."""
        if stat.st_size <= FIRST_CHUNK_SIZE:
            return _small_text(group, members, read_whole(descriptor, path, stat))
        whole: Ref | None = None
        if self._copies is not None and self._may_have_copy(descriptor, stat):
            digests = _digests(self._pieces(descriptor, path, stat), self._copies.hash_names)
            whole = digests["sha224"]
            parts = self._copies.parts_of(digests)
            if parts is not None:
                return encode({"camliType": "file", **members, "parts": parts}), whole
        is_hashed_whole = whole is None and self.options.needs_whole
        tree = FileTree(group.add)
        hashing = WholeRef()
        for data, bits in cuts(self._pieces(descriptor, path, stat), stat.st_size):
            ref = _ZEROS_REF if data == _ZEROS else Ref.of(data)
            if is_hashed_whole:
                hashing.add(data, ref)
            group.add(ref, data)
            tree.add(len(data), ref, bits)
        return tree.file_blob(members), hashing.ref() if is_hashed_whole else whole

    def _pieces(self, descriptor: int, path: bytes, stat: os.stat_result) -> Iterator[bytes]:
        """The contents; given up where nothing can be sent any more."""
        for piece in read_pieces(descriptor, path, stat):
            if self._uploader.failure is not None:
                raise self._uploader.failure
            yield piece

    def _may_have_copy(self, descriptor: int, stat: os.stat_result) -> bool:
        """Whether it is worth while to hash the whole file, to look for a copy of it."""
        assert self._copies is not None
        if stat.st_size <= PROBED_BYTES:
            return True
        first_chunk = os.pread(descriptor, FIRST_CHUNK_SIZE, 0)
        return self._copies.may_exist(Ref.of(first_chunk))


def _small_text(group: FileGroup, members: dict[str, object], data: bytes) -> tuple[bytes, Ref]:
    """As `FileStorer._text`, of a file that is one chunk, or empty: most files are."""
    whole = Ref.of(data)
    parts: list[PartMembers] = []
    if data:
        group.add(whole, data)
        parts.append({"blobRef": whole, "size": len(data)})
    return parts_blob({"camliType": "file", **members}, parts, group.add), whole


def _taken(descriptor: int, stat: os.stat_result, zone: "tzinfo") -> dict[str, object]:
    """The mtime of a picture by its EXIF data; nothing for other files."""
    from ..index.media import exif_time_ns  # many readers, which few backups need

    taken_ns = exif_time_ns(FileSource(descriptor, stat.st_size), zone)
    return {} if taken_ns is None else {"unixMtime": format_time(taken_ns)}


def _digests(pieces: Iterator[bytes], hash_names: tuple[str, ...]) -> dict[str, Ref]:
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in hash_names}
    for piece in pieces:
        for each in hashes.values():
            each.update(piece)
    return {name: Ref.from_digest(name, each.digest()) for name, each in hashes.items()}


class FileServer(Protocol):
    """What a server offers to those who look for a file by its contents; see `ServerCopies`."""

    def fetch(self, ref: Ref) -> bytes: ...

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]: ...

    def search(self, search_root: str, operation: str, query: str) -> Mapping[str, object]: ...

    def has_contents(self, download_helper: str, file: Ref, whole: Ref) -> bool: ...


class ServerCopies:
    """Looks for copies by the search and download handlers of a server.

    A handler that fails counts as finding nothing: the file is sent then.
    """

    def __init__(
        self, server: FileServer, search_root: str, download_helper: str, *, sha1: bool = False
    ) -> None:
        self._server = server
        self._search_root = search_root
        self._download_helper = download_helper
        self._hash_names = ("sha224", "sha1") if sha1 else ("sha224",)

    @property
    def hash_names(self) -> tuple[str, ...]:
        return self._hash_names

    def may_exist(self, first_chunk: Ref) -> bool:
        try:
            return any(True for _ in self._server.stat([first_chunk]))
        except StoreError:
            return False

    def parts_of(self, whole: Mapping[str, Ref]) -> list[PartMembers] | None:
        query = "&".join(f"wholedigest={ref}" for ref in whole.values())
        try:
            found = self._server.search(self._search_root, "files", query).get("files")
            if not isinstance(found, dict):
                return None
            for digest in whole.values():
                for text in found.get(digest) or ():
                    file = Ref(text)
                    if self._server.has_contents(self._download_helper, file, digest):
                        return self._parts(file)
        except StoreError:
            return None
        return None

    def _parts(self, file: Ref) -> list[PartMembers] | None:
        schema = parse_object(self._server.fetch(file))
        if schema is None or schema.type != "file":
            return None
        return part_members(schema.parts)
