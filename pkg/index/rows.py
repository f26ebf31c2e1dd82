"""Keys and values of the index's rows, to and from text (pkg/index/README.md, "Rows")."""

import hashlib
import re
from functools import lru_cache
from typing import Final, NamedTuple, Self
from urllib.parse import quote_plus, unquote_to_bytes

from ..blob import Ref, parse_ref
from ..errors import Corrupt, Invalid
from ..schema.claims import DEL_ATTRIBUTE, Claim
from ..schema.times import format_time, parse_time
from ..sorted.kv import MAX_KEY_SIZE, MAX_VALUE_SIZE

Row = tuple[bytes, bytes]

SCHEMA_VERSION_KEY: Final = b"schemaversion"
SCHEMA_VERSION: Final = b"5"

OWN: Final = b"pk|"
"""What rows of our own begin with; everything else is as Perkeep writes it."""

CLAIM: Final = b"claim|"
LONG: Final = b"pk|long|"
NEEDS: Final = b"pk|needs|"
REFUSED: Final = b"pk|refused|"
DATED: Final = b"pk|dated|"
OWN_VERSION_KEY: Final = b"pk|version"
OWN_VERSION: Final = b"1"
STATE_KEY: Final = b"pk|state"
IN_USE: Final = b"in use"
WIPING: Final = b"wiping"
"""There while an index is open: found at the next start, the end was not a clean one."""

SCHEMA_MIME: Final = "application/json; camliType="

LOOKUP_ATTRIBUTES: Final = frozenset({"tag", "title", "camliRoot", "camliImportRoot"})
"""Attributes whose values are found through `signerattrvalue` rows."""

PATH_ATTRIBUTE: Final = "camliPath:"

_PART_SIZE: Final = 60_000
_SURROGATE = re.compile("[\ud800-\udfff]")
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*", re.ASCII)
_PLAIN_AND_BLANKS = re.compile(r"[A-Za-z0-9_.~ -]*", re.ASCII)
_PLAIN_BYTES = re.compile(rb"[A-Za-z0-9_.~-]*")
_REVERSED_DIGITS: Final = str.maketrans("0123456789", "9876543210")


# -- parts of keys and values -------------------------------------------------------------------


def utf8(text: str) -> bytes:
    """The text's bytes; a lone surrogate, which JSON can write, becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text).encode()


def esc(text: str | bytes) -> str:
    """Query escaping: letters, digits and `-_.~` stay, a blank is `+`, other bytes are %XX."""
    if isinstance(text, str):
        if _PLAIN.fullmatch(text):
            return text
        if _PLAIN_AND_BLANKS.fullmatch(text):
            return text.replace(" ", "+")
        text = utf8(text)
    elif _PLAIN_BYTES.fullmatch(text):
        return text.decode()
    return "".join(map(_ESCAPED.__getitem__, text))


_ESCAPED: Final = [quote_plus(bytes([byte]), safe="~") for byte in range(256)]
_esc_mime = lru_cache(maxsize=256)(esc)  # of the few kinds that there are


def unesc_bytes(text: str) -> bytes:
    return unquote_to_bytes(text.replace("+", " "))


def unesc(text: str) -> str:
    """The text that was escaped; bytes that are not UTF-8 become U+FFFD."""
    if "%" not in text and "+" not in text:
        return text
    return unesc_bytes(text).decode("utf-8", "replace")


def reverse_time(time: str) -> str:
    """A time text that sorts newest first; undoes itself apart from the `rt`."""
    return "rt" + time.translate(_REVERSED_DIGITS)


def time_of_reverse(text: str) -> str:
    return text.removeprefix("rt").translate(_REVERSED_DIGITS)


# -- rows of every blob -------------------------------------------------------------------------


class DamagedRow(Corrupt):
    """A row that nobody has written so: the index is to be made anew."""


def have_key(ref: str) -> bytes:
    return b"have:" + ref.encode()


def meta_key(ref: str) -> bytes:
    return b"meta:" + ref.encode()


def meta_row(ref: str, size: int, mime: str) -> Row:
    """size: bytes of the blob."""
    return meta_key(ref), f"{size}|{mime}".encode()


def have_row(ref: str, size: int) -> Row:
    """Of a blob whose indexing is complete."""
    return have_key(ref), b"%d|indexed" % size


def missing_key(have: str, needed: str) -> bytes:
    return f"missing|{have}|{needed}".encode()


def needs_key(needed: str, have: str) -> bytes:
    return f"pk|needs|{needed}|{have}".encode()


def refused_key(ref: str) -> bytes:
    return REFUSED + ref.encode()


class Meta(NamedTuple):
    """size: bytes of the blob. mime: of a plain blob, "" when unknown.

    camli_type: of a schema blob, possibly ""; None for a plain blob.
    """

    size: int
    mime: str
    camli_type: str | None


def parse_meta(value: bytes) -> Meta:
    """Raises DamagedRow."""
    size, bar, mime = value.decode("utf-8", "replace").partition("|")
    if not bar or not size.isdecimal():
        raise DamagedRow("read", "meta row", repr(value[:60]))
    if mime.startswith(SCHEMA_MIME):
        return Meta(int(size), "", mime[len(SCHEMA_MIME) :])
    return Meta(int(size), mime, None)


def parse_have(value: bytes) -> tuple[int, bool]:
    """Size in bytes, and whether the blob's indexing is complete."""
    size, _, state = value.partition(b"|")
    if not size.isdigit():
        raise DamagedRow("read", "have row", repr(value[:60]))
    return int(size), state == b"indexed"


# -- rows of claims -----------------------------------------------------------------------------


def signer_row(claim: Claim) -> Row:
    return f"signerkeyid:{claim.signer_ref}".encode(), claim.key_id.encode()


class Escaped(NamedTuple):
    """What the rows of a claim have in common. date: its text; newest_first: see `reverse_time`."""

    date: str
    newest_first: str
    attribute: str
    value: str

    @classmethod
    def of(cls, claim: Claim, date: str = "") -> Self:
        """date: if it is known."""
        text = date or format_time(claim.date_ns)
        return cls(text, reverse_time(text), esc(claim.attribute), esc(claim.value))


def attribute_rows(claim: Claim, permanode: Ref, escaped: Escaped) -> list[Row]:
    """Of a claim about a permanode, of any type."""
    rows = [claim_row(claim, permanode, escaped), recent_row(claim, permanode, escaped)]
    attribute = claim.attribute
    if attribute in LOOKUP_ATTRIBUTES:
        if claim.type != DEL_ATTRIBUTE:
            rows.append(value_row(claim, permanode, escaped))
    elif attribute == "camliMember":
        child = parse_ref(claim.value)
        if child is not None:
            rows.append(edge_row(claim, permanode, child))
    elif attribute.startswith(PATH_ATTRIBUTE):
        target = parse_ref(claim.value)
        if target is not None:
            rows += path_rows(claim, permanode, escaped, target)
    return rows


def claim_row(claim: Claim, permanode: Ref, escaped: Escaped) -> Row:
    date, _, attribute, value = escaped
    return (
        f"claim|{permanode}|{claim.key_id}|{date}|{claim.ref}".encode(),
        f"{esc(claim.type)}|{attribute}|{value}|{claim.signer_ref}".encode(),
    )


def parse_claim(key: bytes, value: bytes) -> Claim:
    """Raises DamagedRow."""
    try:
        _, permanode, key_id, date, ref = key.decode().split("|")
        kind, attribute, text, signer = value.decode().split("|")
        date_ns = parse_time(date)
    except (ValueError, Invalid) as error:
        raise DamagedRow("read", f"claim row {key[:200]!r}", str(error)) from None
    return Claim(
        Ref.trusted(ref),
        Ref.trusted(signer),
        key_id,
        date_ns,
        unesc(kind),
        Ref.trusted(permanode),
        unesc(attribute),
        unesc(text),
    )


def recent_row(claim: Claim, permanode: Ref, escaped: Escaped) -> Row:
    key = f"recpn|{claim.key_id}|{escaped.newest_first}|{claim.ref}"
    return key.encode(), permanode.encode()


def _hashed(text: str) -> str:
    return hashlib.sha224(text.encode()).hexdigest()


def value_prefix(key_id: str, attribute: str, value: str) -> bytes:
    """What keys of `signerattrvalue` rows of this value begin with.

    A value too long for a key is looked up by its digest, in rows of our own.
    """
    return _value_prefix(key_id, esc(attribute), esc(value)).encode()


def _value_prefix(key_id: str, attribute: str, value: str) -> str:
    """Both are escaped."""
    head = f"signerattrvalue|{key_id}|{attribute}|{value}|"
    if len(head) <= _MAX_LOOKUP_SIZE:
        return head
    return f"pk|value|{key_id}|{attribute}|{_hashed(value)}|"


_MAX_LOOKUP_SIZE: Final = MAX_KEY_SIZE - 32 - 1 - 63
"""Bytes of a key before its reverse time and claim ref."""


def value_row(claim: Claim, permanode: Ref, escaped: Escaped) -> Row:
    _, newest_first, attribute, value = escaped
    head = _value_prefix(claim.key_id, attribute, value)
    return f"{head}{newest_first}|{claim.ref}".encode(), permanode.encode()


def path_rows(claim: Claim, permanode: Ref, escaped: Escaped, target: Ref) -> list[Row]:
    """`path` and `signertargetpath` of a `camliPath:` claim; a long suffix goes by its digest."""
    suffix = esc(claim.attribute.removeprefix(PATH_ATTRIBUTE))
    active = "N" if claim.type == DEL_ATTRIBUTE else "Y"
    head = f"path|{claim.key_id}|{permanode}|{suffix}|"
    if len(head) > _MAX_LOOKUP_SIZE:
        head = f"pk|path|{claim.key_id}|{permanode}|{_hashed(suffix)}|"
    return [
        (
            f"{head}{escaped.newest_first}|{claim.ref}".encode(),
            f"{active}|{target}".encode(),
        ),
        (
            f"signertargetpath|{claim.key_id}|{target}|{claim.ref}".encode(),
            f"{escaped.date}|{permanode}|{active}|{suffix}".encode(),
        ),
    ]


class TargetPath(NamedTuple):
    """That `base` names a target by `camliPath:suffix`, or no longer does (not active)."""

    claim: Ref
    date: str
    base: Ref
    is_active: bool
    suffix: str


def parse_target_path(key: bytes, value: bytes) -> TargetPath:
    """Raises DamagedRow."""
    fields = value.decode().split("|")
    if len(fields) != 4:
        raise DamagedRow("read", "signertargetpath row", repr(key[:200]))
    claim = Ref.trusted(key.decode().rpartition("|")[2])
    return TargetPath(claim, fields[0], Ref.trusted(fields[1]), fields[2] == "Y", unesc(fields[3]))


def edge_row(claim: Claim, permanode: Ref, child: Ref) -> Row:
    return f"edgeback|{child}|{permanode}|{claim.ref}".encode(), b"permanode|"


def deleted_row(claim: Claim, target: Ref, date: str) -> Row:
    return f"deleted|{target}|{reverse_time(date)}|{claim.ref}".encode(), b""


# -- rows of files and directories --------------------------------------------------------------


class FileInfo(NamedTuple):
    """size: bytes of the content, or the number of children. whole_ref: None for a directory."""

    size: int
    name: bytes
    mime: str
    whole_ref: Ref | None


def file_info_key(ref: str) -> bytes:
    return f"fileinfo|{ref}".encode()


def file_info_row(ref: Ref, info: FileInfo) -> Row:
    value = f"{info.size}|{esc(info.name)}|{_esc_mime(info.mime)}|{info.whole_ref or ''}"
    return file_info_key(ref), value.encode()


def dated_key(ref: str) -> bytes:
    return DATED + ref.encode()


def dated_row(ref: Ref, time_ns: int) -> Row:
    """When a file or directory is from, by more than the time at which it was written."""
    return dated_key(ref), format_time(time_ns).encode()


def parse_file_info(value: bytes) -> FileInfo:
    """Raises DamagedRow."""
    fields = value.decode().split("|")
    if len(fields) < 3 or not fields[0].isdecimal():
        raise DamagedRow("read", "fileinfo row", repr(value[:200]))
    whole_ref = parse_ref(fields[3]) if len(fields) > 3 else None
    return FileInfo(int(fields[0]), unesc_bytes(fields[1]), unesc(fields[2]), whole_ref)


# -- rows that fit, and values too long for one ---------------------------------------------------

SHORT_ROW: Final = 400
"""Bytes of a row, key and value, up to which no key over the limit can follow from it."""


def is_plain_row(row: Row) -> bool:
    """Whether it, and what follows from it, fits every store for sure.

    That is: it is short, of ASCII, and without NUL.
    """
    key, value = row
    return (
        len(key) + len(value) <= SHORT_ROW
        and key.isascii()
        and value.isascii()
        and b"\0" not in key
        and b"\0" not in value
    )


def fitted(row: Row) -> list[Row]:
    """The row, or the rows of our own that hold its value in parts.

    A key over the limit names something that no store can hold (refs of unknown hashes have no
    longest form): such a row is left out.
    """
    key, value = row
    if len(value) <= MAX_VALUE_SIZE:
        return [row] if len(key) <= MAX_KEY_SIZE else []
    if len(LONG) + len(key) + 6 > MAX_KEY_SIZE:
        return []
    pieces = _text_pieces(value)
    return [(LONG + key + b"|%05d" % number, piece) for number, piece in enumerate(pieces)]


def _text_pieces(value: bytes) -> list[bytes]:
    """Cut between characters: every row must be valid UTF-8."""
    pieces = []
    start = 0
    while start < len(value):
        end = start + _PART_SIZE
        while end < len(value) and value[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(value[start:end])
        start = end
    return pieces
