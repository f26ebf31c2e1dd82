"""Several files and directories in one zip, made while it is sent."""

import io
import stat
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import IO, TYPE_CHECKING, Final, NamedTuple, cast

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..blob import Ref, parse_ref
from ..blobserver.storage import Storage
from ..errors import Corrupt, Invalid, NotFound
from ..schema.directory import directory_members
from ..schema.filereader import FileReader
from ..schema.parse import Schema, parse_object
from .answers import HttpError
from .bridge import Bridge
from .files import json_complaint, missing_chunk, pages
from .forms import form_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MAX_ENTRIES: Final = 200_000
MAX_DEPTH: Final = 200
MEMBER_BATCH: Final = 500
WINDOW_BYTES: Final = 1024 * 1024

_FIRST_DATE: Final = (1980, 1, 1, 0, 0, 0)
_LAST_DATE: Final = (2107, 12, 31, 23, 59, 58)
_KINDS: Final = {"file": stat.S_IFREG, "symlink": stat.S_IFLNK, "directory": stat.S_IFDIR}


class Entry(NamedTuple):
    """What goes into the zip: path inside it, the blob, its schema."""

    path: str
    ref: Ref
    schema: Schema


class Zips:
    """`POST /ui/download/` with `files=<ref>,<ref>…`."""

    def __init__(self, storage: Storage, bridge: Bridge) -> None:
        self._storage = storage
        self._bridge = bridge

    async def serve(self, request: Request) -> Response:
        refs = []
        for text in (await form_of(request)).get("files", "").split(","):
            ref = parse_ref(text)
            if text and ref is None:
                raise HttpError(400, f'"{text[:100]}" is not a valid blobRef')
            if ref is not None:
                refs.append(ref)
        if not refs:
            raise HttpError(400, "No file blobRefs specified")
        entries = await self._bridge.call(collect, self._storage, refs)
        answer = StreamingResponse(self._bridge.pages(zipped(self._storage, entries)))
        name = time.strftime("camli-download-%Y%m%d%H%M%S.zip", time.gmtime())
        answer.headers["Content-Type"] = "application/zip"
        answer.headers["Content-Disposition"] = f"attachment; filename={name}"
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer


# -- what goes in ---------------------------------------------------------------------------------


def collect(storage: Storage, refs: list[Ref]) -> list[Entry]:
    """Walk everything and look for every chunk before the first byte is sent. HttpError 500."""
    names = Names()
    entries: list[Entry] = []
    for ref in dict.fromkeys(refs):
        try:
            data = storage.fetch(ref)
        except NotFound:
            raise HttpError(500, f"could not fetch {ref}: file does not exist") from None
        schema = parse_object(data)
        if schema is None:
            complaint = json_complaint(data)
            raise HttpError(500, f"could not read {ref} as blob: {complaint}")
        entries += _walk(storage, Entry(names.free(schema, ref), ref, schema), 0)
        if len(entries) > MAX_ENTRIES:
            raise HttpError(500, f"more than {MAX_ENTRIES} files: take parts of it")
    for entry in entries:
        _check(storage, entry)
    return entries


def _walk(storage: Storage, entry: Entry, depth: int) -> Iterator[Entry]:
    kind = entry.schema.type
    if kind not in _KINDS:
        raise HttpError(500, f'{entry.ref} not a supported file or directory type: "{kind}"')
    if kind != "directory":
        yield entry
        return
    if depth > MAX_DEPTH:
        raise HttpError(500, f"{entry.path}: directories nested beyond all reason")
    names = Names()
    is_empty = True
    for child in _children(storage, entry, names):
        is_empty = False
        yield from _walk(storage, child, depth + 1)
    if is_empty:
        yield entry


def _children(storage: Storage, entry: Entry, names: "Names") -> Iterator[Entry]:
    members = directory_members(storage, entry.schema)
    while batch := list(islice(members, MEMBER_BATCH)):
        for ref, data in storage.fetch_many(batch):
            if not isinstance(data, bytes):
                raise HttpError(500, f"could not read {ref}: file does not exist")
            schema = parse_object(data)
            if schema is None:
                raise HttpError(500, f"could not read {ref} as blob: {json_complaint(data)}")
            if schema.type in _KINDS:
                yield Entry(f"{entry.path}/{names.free(schema, ref)}", ref, schema)


class Names:
    """The names in one directory of the zip, made safe and different from each other."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def free(self, schema: Schema, ref: Ref) -> str:
        """The name of this node. What could lead out of the folder on unpacking is replaced."""
        text = schema.file_name.decode("utf-8", "replace") or f"{schema.type}-{ref}"
        name = text.translate(_UNSAFE)
        if name in ("", ".", ".."):
            name = name.replace(".", "_") or "_"
        stem, dot, extension = name.rpartition(".")
        unique, number = name, 2
        while unique in self._taken:
            unique = f"{stem} ({number}).{extension}" if dot and stem else f"{name} ({number})"
            number += 1
        self._taken.add(unique)
        return unique


_UNSAFE = str.maketrans(dict.fromkeys("/\\\0", "_"))


def _check(storage: Storage, entry: Entry) -> None:
    if entry.schema.type != "file":
        return
    try:
        reader = FileReader(storage, entry.schema)
        missing = missing_chunk(storage, reader, 0, reader.size)
    except NotFound:
        missing = entry.ref
    except (Invalid, Corrupt) as error:
        raise HttpError(500, f"could not read {entry.ref}: {error}") from None
    if missing is not None:
        raise HttpError(500, f"could not read {entry.ref}: file does not exist")


# -- writing --------------------------------------------------------------------------------------


class _Outlet(io.RawIOBase):
    """What zipfile writes to: collects bytes until they are taken."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self.waiting = 0

    def writable(self) -> bool:
        return True

    def write(self, data: "ReadableBuffer", /) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self.waiting += len(piece)
        return len(piece)

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces, self.waiting = [], 0
        return data


def zipped(storage: Storage, entries: list[Entry]) -> Iterator[bytes]:
    """The zip in pieces of about WINDOW_BYTES; files are stored, not compressed."""
    outlet = _Outlet()
    with zipfile.ZipFile(cast("IO[bytes]", outlet), "w") as archive:
        for entry in entries:
            info = _info(entry)
            with archive.open(info, "w", force_zip64=_needs_64(storage, entry)) as target:
                for piece in _content(storage, entry):
                    target.write(piece)
                    if outlet.waiting >= WINDOW_BYTES:
                        yield outlet.take()
    yield outlet.take()


def _content(storage: Storage, entry: Entry) -> Iterator[bytes]:
    if entry.schema.type == "symlink":
        yield entry.schema.symlink_target
    elif entry.schema.type == "file":
        reader = FileReader(storage, entry.schema)
        yield from pages(storage, reader, 0, reader.size)


def _needs_64(storage: Storage, entry: Entry) -> bool:
    return entry.schema.type == "file" and FileReader(storage, entry.schema).size >= 1 << 31


def _info(entry: Entry) -> zipfile.ZipInfo:
    schema = entry.schema
    path = entry.path + ("/" if schema.type == "directory" else "")
    info = zipfile.ZipInfo(path, _date(schema.time_ns("unixMtime")))
    default = {"file": 0o644, "symlink": 0o777, "directory": 0o755}[schema.type]
    mode = _permission(schema)
    permission = default if schema.type == "symlink" or mode is None else mode
    info.external_attr = (_KINDS[schema.type] | permission) << 16
    info.create_system = 3  # Unix: the mode counts
    return info


def _permission(schema: Schema) -> int | None:
    try:
        return int(schema.string("unixPermission"), 8) & 0o7777
    except ValueError:
        return None


def _date(at_ns: int | None) -> tuple[int, int, int, int, int, int]:
    """The date in UTC, as far as a zip can say it."""
    if at_ns is None:
        return _FIRST_DATE
    try:
        at = datetime.fromtimestamp(at_ns // 1_000_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return _FIRST_DATE if at_ns < 0 else _LAST_DATE
    date = (at.year, at.month, at.day, at.hour, at.minute, at.second)
    return max(_FIRST_DATE, min(date, _LAST_DATE))
