"""Frames of the stream: bytes to values and back (pkg/blobserver/STREAM.md). Pure."""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ...blob import MAX_BLOB_SIZE, Ref, SizedRef
from ...errors import Invalid
from .codes import Code as Code
from .codes import ProtocolViolation as ProtocolViolation
from .codes import Violation as Violation

VERSION: Final = 1
HEADER: Final = struct.Struct(">BBII")
WHOLE: Final = 0xFFFFFFFF
"""In ERROR, for an item: the whole request. In SIZES: the blob is not there."""
TO_THE_END: Final = 0xFFFFFFFF_FFFFFFFF

# -- types -------------------------------------------------------------------------------------

HELLO, PING, PONG, GOODBYE, DATA = 0x01, 0x02, 0x03, 0x04, 0x05
PUT, STAT, FETCH, FILE, SUBSCRIBE, STOP, CREDIT = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16
ACK, ERROR, SIZES, BLOB, HOLE, DONE = 0x20, 0x21, 0x22, 0x23, 0x24, 0x25
ARRIVED, CHANGED = 0x26, 0x27

# -- flags -------------------------------------------------------------------------------------

CLASS: Final = 0x03
END: Final = 0x04
ABORT: Final = 0x08
ZSTD: Final = 0x10
NO_RUSH: Final = 0x20
NAMES: Final = 0x20
PLACED: Final = 0x40
SCHEMA: Final = 0x80

INTERACTIVE, NORMAL, BULK = 0, 1, 2
"""Classes: what has the lower number goes first."""
CLASSES: Final = (INTERACTIVE, NORMAL, BULK)

TOPIC_BLOBS: Final = 1
TOPIC_CHANGES: Final = 2

# -- sizes -------------------------------------------------------------------------------------

MAX_REF_BYTES: Final = 512
MAX_TEXT_BYTES: Final = 1024
MAX_CURSOR_BYTES: Final = 1024


class Hello(NamedTuple):
    """What an end announces: the versions that it speaks, and what it takes at most.

    features: bit 0: it unpacks zstd; bit 1: ARRIVED; bit 2: CHANGED.
    window: of a server, the cost of unanswered uploads; of a client, the first credit of each
    class, both in bytes. message_bytes: of one message. requests: unanswered at a time, uploads
    not counted. items: of one request. heartbeat_s: it gives up after three times that silence.
    """

    lowest: int = VERSION
    highest: int = VERSION
    features: int = 0
    window: int = 4 * 1024 * 1024
    message_bytes: int = 1024 * 1024
    requests: int = 64
    items: int = 1000
    heartbeat_s: int = 20
    name: str = ""


FEATURE_ZSTD: Final = 1
FEATURE_BLOBS: Final = 2
FEATURE_CHANGES: Final = 4

LEAST: Final = Hello(
    VERSION, VERSION, 0, window=1024 * 1024, message_bytes=256 * 1024, requests=16, items=1000
)
"""What every end grants; it holds until the peer's hello has come."""


class Item(NamedTuple):
    """A blob asked for, or `length` bytes of it from `offset` (length None: the whole blob)."""

    ref: Ref
    offset: int = 0
    length: int | None = None


class Place(NamedTuple):
    """Where a chunk lies: its bytes from `start` on, `length` of them, are the file's from
    `offset` on."""

    offset: int
    start: int
    length: int


class PutHead(NamedTuple):
    size: int
    ref: Ref
    piece: memoryview


class BlobHead(NamedTuple):
    item: int
    size: int
    ref: str  # "" where the item tells it
    place: Place | None
    piece: memoryview


class FileQuery(NamedTuple):
    offset: int
    length: int
    ref: Ref


class ErrorBody(NamedTuple):
    code: int
    item: int
    text: str


class Frame(NamedTuple):
    """One frame of a message; the body is a view of the message."""

    kind: int
    flags: int
    request: int
    body: memoryview


ALLOWED_FLAGS: Final = {
    HELLO: 0,
    PING: 0,
    PONG: 0,
    GOODBYE: 0,
    DATA: END | ABORT,
    PUT: CLASS | END | ZSTD | NO_RUSH,
    STAT: CLASS,
    FETCH: CLASS,
    FILE: CLASS | NAMES | SCHEMA,
    SUBSCRIBE: 0,
    STOP: 0,
    CREDIT: CLASS,
    ACK: 0,
    ERROR: 0,
    SIZES: END,
    BLOB: CLASS | END | ZSTD | NAMES | PLACED | SCHEMA,
    HOLE: 0,
    DONE: ABORT,
    ARRIVED: 0,
    CHANGED: 0,
}
"""The table of frame types."""

_HELLO: Final = struct.Struct(">4sHHIIIIIHH")
_MAGIC: Final = b"pkst"
_PUT: Final = struct.Struct(">IH")
_BLOB: Final = struct.Struct(">IIH")
_PLACE: Final = struct.Struct(">QII")
_FILE: Final = struct.Struct(">QQ")
_ERROR: Final = struct.Struct(">HI")
_U16: Final = struct.Struct(">H")
_U64: Final = struct.Struct(">Q")


def malformed(what: str) -> ProtocolViolation:
    return ProtocolViolation(Violation.MALFORMED, what)


# -- frames ------------------------------------------------------------------------------------


def frame(kind: int, flags: int, request: int, body: bytes = b"") -> bytes:
    return HEADER.pack(kind, flags, request, len(body)) + body


def decode(message: bytes) -> Iterator[Frame]:
    """The frames of a message, each checked for type, flags and length, not for its body.

    Raises ProtocolViolation.
    """
    view = memoryview(message)
    at, end = 0, len(message)
    if not end:
        raise malformed("an empty message")
    while at < end:
        if end - at < HEADER.size:
            raise malformed("a frame header is cut off")
        kind, flags, request, length = HEADER.unpack_from(message, at)
        at += HEADER.size
        if length > end - at:
            raise malformed("a frame is longer than its message")
        allowed = ALLOWED_FLAGS.get(kind)
        if allowed is None:
            raise malformed(f"unknown frame type {kind:#04x}")
        if flags & ~allowed or (allowed & CLASS and flags & CLASS == CLASS):
            raise malformed(f"flags {flags:#04x} in a frame of type {kind:#04x}")
        yield Frame(kind, flags, request, view[at : at + length])
        at += length


# -- bodies that carry bytes of blobs: hot -----------------------------------------------------


def put_head(request: int, flags: int, ref: str, size: int, piece_bytes: int) -> bytes:
    """Header and head of a PUT whose first piece, of `piece_bytes`, follows."""
    name = ref.encode("ascii")
    return (
        HEADER.pack(PUT, flags, request, _PUT.size + len(name) + piece_bytes)
        + _PUT.pack(size, len(name))
        + name
    )


def parse_put(body: memoryview) -> PutHead:
    if len(body) < _PUT.size:
        raise malformed("a PUT without its head")
    size, length = _PUT.unpack_from(body)
    after = _PUT.size + length
    if length > MAX_REF_BYTES or after > len(body):
        raise malformed("the ref of a PUT is cut off or too long")
    if size > MAX_BLOB_SIZE:
        raise ProtocolViolation(Violation.LIMIT, f"a blob of {size} bytes")
    return PutHead(size, _ref(body[_PUT.size : after]), body[after:])


def blob_head(
    request: int,
    flags: int,
    item: int,
    size: int,
    piece_bytes: int,
    ref: str = "",
    place: Place | None = None,
) -> bytes:
    """Header and head of a BLOB whose first piece, of `piece_bytes`, follows.

    PLACED is to be set in `flags` by the caller where there is a place.
    """
    name = ref.encode("ascii")
    where = _PLACE.pack(*place) if place is not None else b""
    length = _BLOB.size + len(where) + len(name) + piece_bytes
    return (
        HEADER.pack(BLOB, flags, request, length) + _BLOB.pack(item, size, len(name)) + where + name
    )


def parse_blob(flags: int, body: memoryview) -> BlobHead:
    at = _BLOB.size + (_PLACE.size if flags & PLACED else 0)
    if len(body) < at:
        raise malformed("a BLOB without its head")
    item, size, length = _BLOB.unpack_from(body)
    place = Place(*_PLACE.unpack_from(body, _BLOB.size)) if flags & PLACED else None
    after = at + length
    if length > MAX_REF_BYTES or after > len(body):
        raise malformed("the ref of a BLOB is cut off or too long")
    if size > MAX_BLOB_SIZE:
        raise ProtocolViolation(Violation.LIMIT, f"a blob of {size} bytes")
    if place is not None and place.start + place.length > size:
        raise malformed("a BLOB is placed by bytes that it does not have")
    return BlobHead(item, size, _ref(body[at:after]) if length else "", place, body[after:])


# -- other bodies ------------------------------------------------------------------------------


def hello_body(hello: Hello) -> bytes:
    name = hello.name.encode()[:MAX_TEXT_BYTES]
    return _HELLO.pack(_MAGIC, *hello[:8], len(name)) + name


def parse_hello(body: memoryview) -> Hello:
    if len(body) < _HELLO.size:
        raise malformed("a short HELLO")
    magic, *numbers, length = _HELLO.unpack_from(body)
    if magic != _MAGIC:
        raise malformed("no HELLO of this protocol")
    if length > MAX_TEXT_BYTES or _HELLO.size + length > len(body):
        raise malformed("the name in HELLO is cut off or too long")
    hello = Hello._make([*numbers, _text(body[_HELLO.size : _HELLO.size + length])])
    if (
        hello.window < LEAST.window
        or hello.message_bytes < LEAST.message_bytes
        or hello.requests < LEAST.requests
        or hello.items < LEAST.items
        or not hello.heartbeat_s
    ):
        raise malformed("HELLO grants less than the least")
    return hello


def lines_body(refs: Iterable[str]) -> bytes:
    return "\n".join(refs).encode("ascii")


def parse_refs(body: memoryview, most: int) -> list[Ref]:
    """Refs, one a line; at most `most` of them."""
    return [_ref_text(line) for line in _lines(body, most)]


def items_body(items: Iterable[Item]) -> bytes:
    return "\n".join(
        item.ref if item.length is None else f"{item.ref} {item.offset} {item.length}"
        for item in items
    ).encode("ascii")


def parse_items(body: memoryview, most: int) -> list[Item]:
    return [_item(line) for line in _lines(body, most)]


def file_body(ref: str, offset: int, length: int) -> bytes:
    return _FILE.pack(offset, length) + ref.encode("ascii")


def parse_file(body: memoryview) -> FileQuery:
    if len(body) < _FILE.size:
        raise malformed("a short FILE")
    offset, length = _FILE.unpack_from(body)
    return FileQuery(offset, length, _ref(body[_FILE.size :]))


def subscribe_body(topics: int, cursor: bytes) -> bytes:
    return bytes([topics]) + cursor


def parse_subscribe(body: memoryview) -> tuple[int, bytes]:
    """Topics and cursor."""
    if not 1 <= len(body) <= 1 + MAX_CURSOR_BYTES or body[0] not in (1, 2, 3):
        raise malformed("a SUBSCRIBE without topics, or with too long a cursor")
    return body[0], bytes(body[1:])


def number_body(number: int) -> bytes:
    """Of CREDIT."""
    return _U64.pack(number)


def parse_number(body: memoryview) -> int:
    if len(body) != _U64.size:
        raise malformed("a number of another length than 8")
    number: int = _U64.unpack(body)[0]
    return number


def numbers_body(numbers: Sequence[int]) -> bytes:
    """Of ACK and SIZES."""
    return struct.pack(f">{len(numbers)}I", *numbers)


def parse_numbers(body: memoryview) -> tuple[int, ...]:
    if len(body) % 4:
        raise malformed("a list of numbers is cut off")
    return struct.unpack(f">{len(body) // 4}I", body)


def error_body(code: int, text: str, item: int = WHOLE) -> bytes:
    return _ERROR.pack(code, item) + clipped(text)


def parse_error(body: memoryview) -> ErrorBody:
    if not _ERROR.size <= len(body) <= _ERROR.size + MAX_TEXT_BYTES:
        raise malformed("an ERROR of a wrong length")
    code, item = _ERROR.unpack_from(body)
    return ErrorBody(code, item, _text(body[_ERROR.size :]))


def goodbye_body(code: int, text: str) -> bytes:
    return _U16.pack(code) + clipped(text)


def parse_goodbye(body: memoryview) -> tuple[int, str]:
    if not _U16.size <= len(body) <= _U16.size + MAX_TEXT_BYTES:
        raise malformed("a GOODBYE of a wrong length")
    code: int = _U16.unpack_from(body)[0]
    return code, _text(body[_U16.size :])


def hole_body(offset: int, length: int) -> bytes:
    return _FILE.pack(offset, length)


def parse_hole(body: memoryview) -> tuple[int, int]:
    """Offset and length."""
    if len(body) != _FILE.size:
        raise malformed("a HOLE of a wrong length")
    offset, length = _FILE.unpack(body)
    return offset, length


def event_body(cursor: bytes, payload: bytes) -> bytes:
    """Of ARRIVED and CHANGED."""
    return _U16.pack(len(cursor)) + cursor + payload


def parse_event(body: memoryview) -> tuple[bytes, memoryview]:
    """Cursor and payload."""
    if len(body) < _U16.size:
        raise malformed("an event without a cursor")
    after = _U16.size + int(_U16.unpack_from(body)[0])
    if after > min(len(body), _U16.size + MAX_CURSOR_BYTES):
        raise malformed("the cursor of an event is cut off or too long")
    return bytes(body[_U16.size : after]), body[after:]


def arrived_lines(blobs: Iterable[SizedRef]) -> bytes:
    return "\n".join([f"{ref} {size}" for ref, size in blobs]).encode("ascii")


def parse_arrived(payload: memoryview) -> list[SizedRef]:
    found = []
    for line in _ascii(payload).split("\n") if payload else ():
        ref, _, size = line.partition(" ")
        found.append(SizedRef(_ref_text(ref), _decimal(size)))
    return found


# -- parts of bodies ---------------------------------------------------------------------------


def clipped(text: str) -> bytes:
    """The text in at most MAX_TEXT_BYTES, whole characters."""
    raw = text.encode("utf-8", "replace")
    if len(raw) > MAX_TEXT_BYTES:
        raw = raw[:MAX_TEXT_BYTES].decode("utf-8", "ignore").encode()
    return raw


def _text(raw: memoryview) -> str:
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError:
        raise malformed("text that is not UTF-8") from None


def _ascii(raw: memoryview) -> str:
    try:
        return str(raw, "ascii")
    except UnicodeDecodeError:
        raise malformed("refs that are not ASCII") from None


def _ref(raw: memoryview) -> Ref:
    return _ref_text(_ascii(raw))


def _ref_text(text: str) -> Ref:
    try:
        return Ref(text)
    except Invalid:
        raise malformed(f"{text[:80]!r} is no ref") from None


def _lines(body: memoryview, most: int) -> list[str]:
    if not body:
        raise malformed("a request without items")
    # The limit before the split: a claim must not cost memory.
    text = _ascii(body)
    if text.count("\n") >= most:
        raise ProtocolViolation(Violation.LIMIT, f"more than {most} items in a request")
    return text.split("\n")


def _item(line: str) -> Item:
    parts = line.split(" ")
    if len(parts) == 1:
        return Item(_ref_text(line))
    if len(parts) != 3:
        raise malformed("an item is a ref, or a ref, an offset and a length")
    return Item(_ref_text(parts[0]), _decimal(parts[1]), _decimal(parts[2]))


def _decimal(text: str) -> int:
    if not (0 < len(text) <= 10 and text.isdigit()):
        raise malformed(f"{text[:20]!r} is no number")
    return int(text)
