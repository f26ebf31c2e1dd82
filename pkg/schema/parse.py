"""Recognise schema blobs and read their members (pkg/schema/README.md, "Recognition")."""

import math
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from ..blob import Ref, parse_ref
from ..errors import Corrupt, Invalid
from .names import join_pieces
from .text import MAX_SCHEMA_SIZE, MinusZero, RepeatedNames, decode
from .times import parse_time

_OBJECT_BEGINS: Final = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*["}]')
"""Of 256 chunks of files one begins with `{`: to decode it takes as long as a hundred others."""

_KEPT_BYTES: Final = 2 * 1024 * 1024
_KEPT_BLOB_BYTES: Final = 32 * 1024
"""What was read last is kept, of texts up to this size: a blob that arrives is read by who decides
where it goes and by the index, and a `bytes` blob once more with its file, of 1 GB perhaps."""


class Part(NamedTuple):
    """A piece of a file: `size` bytes from `offset` of a blob or of the content of a schema.

    Both refs absent: `size` zero bytes. Both present: broken, an error on reading.
    """

    size: int
    blob_ref: Ref | None = None
    bytes_ref: Ref | None = None
    offset: int = 0


class Schema:
    """The members of a schema blob. Do not change them.

    members: known ones under their canonical names, with values of the right type (refs as
    Ref, without nulls), unknown ones as they stand in the text. `parts` stands apart.
    """

    __slots__ = ("_parts", "members", "type", "version")

    def __init__(self, members: Mapping[str, object], parts: tuple[Part | None, ...] = ()) -> None:
        self.members: Final = members
        self.type: Final = self.string("camliType")
        self.version: Final = self.integer("camliVersion")
        self._parts: Final = parts

    def __repr__(self) -> str:
        return f"<Schema {self.type or 'untyped'}: {', '.join(sorted(self.members))}>"

    def string(self, name: str) -> str:
        """A text member; "" if absent."""
        value = self.members.get(name)
        return value if isinstance(value, str) else ""

    def ref(self, name: str) -> Ref | None:
        value = self.members.get(name)
        return value if isinstance(value, Ref) else parse_ref(value)

    def refs(self, name: str) -> list[Ref]:
        value = self.members.get(name)
        if not isinstance(value, list):
            return []
        refs = (item if isinstance(item, Ref) else parse_ref(item) for item in value)
        return [ref for ref in refs if ref is not None]

    def integer(self, name: str) -> int | None:
        value = self.members.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def boolean(self, name: str) -> bool:
        return self.members.get(name) is True

    def time_ns(self, name: str) -> int | None:
        """A time member as nanoseconds since the epoch; None if absent or unreadable."""
        try:
            return parse_time(self.string(name))
        except Invalid:
            return None

    @property
    def parts(self) -> tuple[Part, ...]:
        """The content in order. Raises Corrupt if an element is null, which breaks a file."""
        if None in self._parts:
            raise Corrupt("read", "parts", "an element is null")
        return self._parts  # type: ignore[return-value]  # no None in it

    @property
    def has_null_part(self) -> bool:
        """Whether this is the broken file that must not enter a store (it stops Perkeep)."""
        return None in self._parts

    @property
    def file_name(self) -> bytes:
        """The name; b"" if absent or if it holds a slash or a backslash, as all readers say.

        `.`, `..` and NUL are not filtered: see names.is_safe_name.
        """
        name = self.string("fileName").encode() or self._joined("fileNameBytes")
        return b"" if b"/" in name or b"\\" in name else name

    @property
    def symlink_target(self) -> bytes:
        return self.string("symlinkTarget").encode() or self._joined("symlinkTargetBytes")

    def _joined(self, name: str) -> bytes:
        value = self.members.get(name)
        return join_pieces(value) if isinstance(value, list) else b""


def parse(data: bytes) -> Schema | None:
    """The schema blob that these bytes are by all five rules, or None."""
    if data[:1] != b"{" or len(data) > MAX_SCHEMA_SIZE or b"camliVersion" not in data:
        return None
    return _parse(data)


def is_schema(data: bytes) -> bool:
    return parse(data) is not None


def may_be_schema(data: bytes) -> bool:
    """What is seen without reading it: False for all but very few chunks of files."""
    return data[:1] == b"{" and b"camliVersion" in data


def parse_object(data: bytes) -> Schema | None:
    """Like `parse` without the rules on the first byte and the word `camliVersion`.

    What the readers of files and directories, shares and the routing by content take.
    """
    if len(data) > MAX_SCHEMA_SIZE or _OBJECT_BEGINS.match(data) is None:
        return None  # most chunks of files: spared the decoder
    return _parse(data)


class Kept:
    """The schemas that were read last, by their texts. Safe to use from many threads."""

    def __init__(self, limit_bytes: int = _KEPT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._schemas: dict[bytes, Schema | None] = {}
        self.size_bytes = 0

    def read(self, data: bytes) -> Schema | None:
        try:
            return self._schemas[data]
        except KeyError:
            schema = _read(data)
        with self._lock:
            if data not in self._schemas:
                self._schemas[data] = schema
                self.size_bytes += len(data)
            while self.size_bytes > self._limit_bytes:
                oldest = next(iter(self._schemas))
                del self._schemas[oldest]
                self.size_bytes -= len(oldest)
        return schema


_KEPT: Final = Kept()


def _parse(data: bytes) -> Schema | None:
    is_kept = len(data) <= _KEPT_BLOB_BYTES and type(data) is bytes
    return _KEPT.read(data) if is_kept else _read(data)


def _read(data: bytes) -> Schema | None:
    try:
        value = decode(data)
        if not isinstance(value, dict):
            return None
        members = _check_members(value, _KNOWN)
    except (Invalid, _UnfitError):
        return None
    parts = members.pop("parts", ())
    return Schema(members, parts)  # type: ignore[arg-type]  # _parts made it


# -- the types of known members -----------------------------------------------------------------


class _UnfitError(Exception):
    """A known member has a value of the wrong type."""


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise _UnfitError
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise _UnfitError
    return value


def _unsigned(value: object) -> int:
    if isinstance(value, MinusZero):
        raise _UnfitError  # zero, but with a sign
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**64:
        raise _UnfitError
    return value


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise _UnfitError
    return value


def _ref(value: object) -> Ref:
    ref = parse_ref(value)
    if ref is None:
        raise _UnfitError
    return ref


def _refs(value: object) -> list[Ref]:
    return [_ref(item) for item in _array(value) if item is not None]


def _array(value: object) -> list[object]:
    if not isinstance(value, list):
        raise _UnfitError
    return value


def _name_pieces(value: object) -> list[object]:
    pieces = _array(value)
    if any(isinstance(piece, float) and math.isinf(piece) for piece in pieces):
        raise _UnfitError  # a number beyond the range of a double
    return pieces


def _time(value: object) -> str | None:
    text = _string(value)
    if not text or text.startswith("0000-00-00T00:00:00"):
        return None
    try:
        parse_time(text)
    except Invalid:
        raise _UnfitError from None
    return text


def _anything(value: object) -> object:
    return value


def _parts(value: object) -> tuple[Part | None, ...]:
    return tuple([None if item is None else _part(item) for item in _array(value)])


def _part(value: object) -> Part:
    if not isinstance(value, dict):
        raise _UnfitError
    if len(value) == 2 and type(value) is dict:  # nearly all: a size and the ref of a chunk
        size, ref = value.get("size"), parse_ref(value.get("blobRef"))
        if ref is not None and type(size) is int and 0 <= size < 2**64:
            return Part(size, ref)
    found = _check_members(value, _KNOWN_IN_PART)
    return Part(
        found.get("size", 0),  # type: ignore[arg-type]  # the table says which type
        found.get("blobRef"),  # type: ignore[arg-type]
        found.get("bytesRef"),  # type: ignore[arg-type]
        found.get("offset", 0),  # type: ignore[arg-type]
    )


_Check = Callable[[object], object]
_ARRAYS = (_refs, _name_pieces, _parts)


def _table(kinds: Mapping[_Check, str]) -> dict[str, tuple[str, _Check]]:
    """Names, exact and folded, to the canonical name and its check."""
    table = {}
    for check, names in kinds.items():
        for name in names.split():
            table[name] = table[_folded(name)] = (name, check)
    return table


def _folded(name: str) -> str:
    # Readers compare names by simple case folding: two letters outside ASCII fold into it,
    # the Kelvin sign, which lower() knows, and the long s.
    return name.lower().replace("\u017f", "s")


_KNOWN = _table(
    {
        _integer: "camliVersion unixOwnerId unixGroupId",
        _string: "camliType camliSig claimType attribute value fileName symlinkTarget"
        " unixPermission unixOwner unixMtime unixCtime unixAtime unixGroup authType",
        _boolean: "transitive",
        _ref: "camliSigner permaNode entries target",
        _refs: "members mergeSets",
        _name_pieces: "fileNameBytes symlinkTargetBytes",
        _time: "claimDate expires",
        _parts: "parts",
        _anything: "search",
    }
)
_KNOWN_IN_PART = _table({_unsigned: "size offset", _ref: "blobRef bytesRef"})


def _check_members(
    value: dict[str, object], known: Mapping[str, tuple[str, _Check]]
) -> dict[str, object]:
    """Members under canonical names. Raises _UnfitError for a wrong type or a second reference."""
    pairs: Iterable[tuple[str, object]] = value.items()
    if isinstance(value, RepeatedNames):
        pairs = value.pairs
    members: dict[str, object] = {}
    for name, item in pairs:
        entry = known.get(name) or known.get(_folded(name))
        if entry is None:
            members[name] = item
            continue
        canonical, check = entry
        if check is _string and type(item) is str:  # nearly all there are
            members[canonical] = item
            continue
        if item is None and check in _ARRAYS:
            members.pop(canonical, None)
            continue
        if canonical in members and _holds_ref(members[canonical]) and item != []:
            raise _UnfitError  # a reference never gets a second value
        if item is None:
            continue
        checked = check(item)
        if checked is None:
            members.pop(canonical, None)
        else:
            members[canonical] = checked
    return members


def _holds_ref(value: object) -> bool:
    if isinstance(value, (list, tuple)) and not isinstance(value, Part):
        return any(isinstance(item, Ref) or _part_has_ref(item) for item in value)
    return isinstance(value, Ref)


def _part_has_ref(item: object) -> bool:
    return isinstance(item, Part) and (item.blob_ref or item.bytes_ref) is not None
