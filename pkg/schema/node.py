"""Files, directories, links and the like: what lstat says of them, as members and back.

What Perkeep's members can't hold stands in further members that it ignores, only on nodes
that have such things (pkg/schema/README.md, "Metadata" and "Members of our own").
"""

import re
import stat as modes
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from ..blob import Ref
from ..errors import TooLarge, Unsupported
from .names import name_members
from .parse import Schema
from .text import encode
from .times import format_time

MAX_HOLES: Final = 1000
"""Holes listed in a file blob; a file with more is stored without the list."""

MAX_XATTRS_SIZE: Final = 256 * 1024
"""Bytes of base64 that the extended attributes of one node may take."""

_TYPES = {
    modes.S_IFREG: "file",
    modes.S_IFDIR: "directory",
    modes.S_IFLNK: "symlink",
    modes.S_IFIFO: "fifo",
    modes.S_IFSOCK: "socket",
    modes.S_IFCHR: "socket",  # the format has no devices; Perkeep writes them so
    modes.S_IFBLK: "socket",
}
_DEVICE_LETTERS = {modes.S_IFCHR: "c", modes.S_IFBLK: "b"}
_SPECIAL_BITS = 0o7000
_MAX_ID = 2**32 - 2
_BILLION = 1_000_000_000

_OCTAL = re.compile(r"[0-7]{1,21}")
_DEVICE = re.compile(r"([cb]):(\d{1,10}):(\d{1,10})", re.ASCII)

Extent = tuple[int, int]
"""Offset and length in bytes."""

Device = tuple[str, int, int]
"""`"c"` (character) or `"b"` (block), major number, minor number."""


class NodeStat(NamedTuple):
    """What lstat and its neighbours say of a node of a file system.

    mode: kind and permission, as `st_mode`. user, group: names of the numbers on this machine,
    "" if they have none. xattrs: name to value. holes: the sparse areas of a file, ascending.
    special_device: major and minor number that a device node stands for.
    """

    mode: int
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    size: int = 0
    inode: int = 0
    device: int = 0
    nlink: int = 1
    user: str = ""
    group: str = ""
    xattrs: Mapping[bytes, bytes] = MappingProxyType({})
    holes: Sequence[Extent] = ()
    special_device: tuple[int, int] = (0, 0)


class RestoredStat(NamedTuple):
    """What a schema blob says of a node to be made again. None: not said.

    mode: the low 12 bits, with the usual default if not said; None on links, which have none.
    inode_ref: equal on the names of one file (hard links), if they are of one backup.
    holes: a hint only; the bytes there may be other than zero in a blob that lies.
    """

    mode: int | None
    uid: int | None
    gid: int | None
    mtime_ns: int | None
    user: str
    group: str
    xattrs: dict[bytes, bytes]
    holes: list[Extent]
    inode_ref: Ref | None
    special_device: Device | None


# -- writing ------------------------------------------------------------------------------------


def node_members(
    name: bytes, stat: NodeStat, *, plain: bool = False, cap_ctime: bool = False
) -> dict[str, object]:
    """The members of a node's blob that its name and lstat give.

    The caller adds what the node holds: `parts`, `entries` or `names.target_members(…)`, and
    for a node with `inodeRef` stores `inode_blob(stat)` as well.
    plain: only what Perkeep writes. cap_ctime: a file's ctime is at most its mtime.
    Raises Unsupported for a kind of node that has no blob type, TooLarge for attributes over
    MAX_XATTRS_SIZE.
    """
    kind = modes.S_IFMT(stat.mode)
    if kind not in _TYPES:
        raise Unsupported("describe", name, f"a node of mode {stat.mode:o}")
    members: dict[str, object] = {
        "camliType": _TYPES[kind],
        **name_members(name),
        "unixOwnerId": stat.uid,
        "unixGroupId": stat.gid,
        "unixMtime": format_time(stat.mtime_ns),
    }
    if kind != modes.S_IFLNK:
        members["unixPermission"] = f"0{stat.mode & 0o777:o}"
    if stat.user:
        members["unixOwner"] = stat.user
    if stat.group:
        members["unixGroup"] = stat.group
    if stat.ctime_ns != stat.mtime_ns and stat.ctime_ns // _BILLION != 0:
        members["unixCtime"] = format_time(stat.ctime_ns)
        if cap_ctime and kind == modes.S_IFREG:
            # Compared as texts: an oddity, but the blob has to come out the same.
            texts = format_time(stat.ctime_ns), format_time(stat.mtime_ns)
            members["unixCtime"] = min(texts)
    if not plain:
        members.update(_own_members(name, kind, stat))
    return members


def inode_blob(stat: NodeStat) -> bytes:
    """The `inode` blob that all names of a file with hard links refer to."""
    numbers = {"inodeId": stat.inode, "deviceId": stat.device, "numLinks": stat.nlink}
    return encode({"camliType": "inode", **numbers})


def _own_members(name: bytes, kind: int, stat: NodeStat) -> dict[str, object]:
    members: dict[str, object] = {}
    if stat.mode & _SPECIAL_BITS and kind != modes.S_IFLNK:
        members["unixMode"] = f"0{stat.mode & 0o7777:o}"
    if kind in _DEVICE_LETTERS:
        major, minor = stat.special_device
        members["unixDevice"] = f"{_DEVICE_LETTERS[kind]}:{major}:{minor}"
    if kind != modes.S_IFDIR and stat.nlink > 1:
        members["inodeRef"] = Ref.of(inode_blob(stat))
    if kind == modes.S_IFREG and 0 < len(stat.holes) <= MAX_HOLES:
        members["unixHoles"] = [list(hole) for hole in stat.holes]
    if stat.xattrs:
        xattrs = {
            _xattr_text(attribute): b64encode(value).decode()
            for attribute, value in stat.xattrs.items()
        }
        if sum(map(len, xattrs.values())) > MAX_XATTRS_SIZE:
            raise TooLarge("describe", name, f"attributes over {MAX_XATTRS_SIZE} bytes of base64")
        members["unixXattrs"] = xattrs
    return members


def _xattr_text(name: bytes) -> str:
    """An attribute's name as text: `%` and every byte that is not UTF-8 as `%XX`."""
    text = name.replace(b"%", b"%25").decode("utf-8", "surrogateescape")
    return re.sub("[\udc80-\udcff]", lambda found: f"%{ord(found[0]) & 0xFF:02X}", text)


# -- reading ------------------------------------------------------------------------------------


def permission(schema: Schema) -> int:
    """The low nine bits of the mode, as every reader takes them.

    Text that is not octal is 0; no text is 0755 for a directory, otherwise 0644.
    """
    text = schema.string("unixPermission")
    if not text:
        return 0o755 if schema.type == "directory" else 0o644
    return int(text, 8) & 0o777 if _OCTAL.fullmatch(text) else 0


def restore_stat(schema: Schema) -> RestoredStat:
    """What a node's blob says of its metadata. A member of ours that is malformed is left out."""
    members = schema.members  # hardly one node has the last four
    return RestoredStat(
        mode=None if schema.type == "symlink" else _mode(schema),
        uid=_owner_number(schema, "unixOwnerId"),
        gid=_owner_number(schema, "unixGroupId"),
        mtime_ns=schema.time_ns("unixMtime"),
        user=schema.string("unixOwner"),
        group=schema.string("unixGroup"),
        xattrs=dict(_xattrs(members["unixXattrs"])) if "unixXattrs" in members else {},
        holes=_holes(members["unixHoles"]) if "unixHoles" in members else [],
        inode_ref=schema.ref("inodeRef") if "inodeRef" in members else None,
        special_device=_device(schema.string("unixDevice")) if "unixDevice" in members else None,
    )


def _mode(schema: Schema) -> int:
    text = schema.string("unixMode")
    bits = permission(schema)
    if text and _OCTAL.fullmatch(text):
        bits |= int(text, 8) & _SPECIAL_BITS
    return bits


def _owner_number(schema: Schema, name: str) -> int | None:
    number = schema.integer(name)
    return number if number is not None and 0 <= number <= _MAX_ID else None


def _xattrs(value: object) -> Iterable[tuple[bytes, bytes]]:
    if not isinstance(value, dict):
        return
    for text, value_text in value.items():
        name = unquote_to_bytes(text)
        if name and b"\0" not in name and isinstance(value_text, str):
            try:
                yield name, b64decode(value_text, validate=True)
            except ValueError:
                continue


def _holes(value: object) -> list[Extent]:
    """The holes, or none at all if one of them is not an extent behind the one before it."""
    if not isinstance(value, list) or not all(_is_extent(item) for item in value):
        return []
    holes: list[Extent] = [(offset, length) for offset, length in value]
    in_order = all(before[0] + before[1] <= after[0] for before, after in pairwise(holes))
    return holes if in_order else []


def _is_extent(item: object) -> bool:
    return (
        isinstance(item, list)
        and len(item) == 2
        and all(isinstance(number, int) and not isinstance(number, bool) for number in item)
        and item[0] >= 0
        and 0 < item[1] <= 2**63 - item[0]
    )


def _device(text: str) -> Device | None:
    match = _DEVICE.fullmatch(text)
    return (match[1], int(match[2]), int(match[3])) if match else None
