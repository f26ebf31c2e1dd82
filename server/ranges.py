"""Range and conditional requests, as pure functions from header text to what to send."""

import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

MAX_RANGES: Final = 100
"""Ranges in one request; more is an attack, not a reader."""

_RANGE = re.compile(r"(\d{0,19})[ \t]*-[ \t]*(\d{0,19})", re.ASCII)


class Span(NamedTuple):
    """Part of a body: the first byte and how many."""

    start: int
    length: int

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


class BadRange(Exception):
    """416. size: set when the ranges were well formed but all lie past the end."""

    def __init__(self, message: str, size: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.size = size


def spans(header: str | None, size: int) -> list[Span]:
    """What a Range header asks of a body of `size` bytes; empty means the whole of it.

    Raises BadRange. Ranges past the end are left out, unless all of them are. A list of ranges that
    together ask for more than the body is answered with the whole body. An empty body has no
    ranges: it is sent as it is.
    """
    if header is None or header == "":
        return []
    unit, equals, text = header.partition("=")
    if unit != "bytes" or not equals:
        raise BadRange("invalid range")
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > MAX_RANGES:
        raise BadRange("invalid range")
    asked = [_span(part, size) for part in parts if part]
    found = [span for span in asked if span is not None]
    if asked and not found:
        if size == 0:
            return []
        raise BadRange("invalid range: failed to overlap", size)
    return found if sum(span.length for span in found) <= size else []


def _span(text: str, size: int) -> Span | None:
    """One range; None when it lies past the end. Raises BadRange when it is malformed."""
    match = _RANGE.fullmatch(text)
    if match is None or text == "-":
        raise BadRange("invalid range")
    first, last = match[1], match[2]
    if first == "":
        length = min(int(last), size)
        return Span(size - length, length) if length else None
    start = int(first)
    if start >= size:
        return None
    end = size - 1 if last == "" else int(last)
    if end < start:
        raise BadRange("invalid range")
    return Span(start, min(end, size - 1) - start + 1)


def precondition(headers: Mapping[str, str], last_modified: str) -> int | None:
    """The status that a conditional request gets instead of the body: 304, 412, or None.

    For a resource without an entity tag: If-Match fits only `*`, If-None-Match nothing else.
    A date that can't be read is ignored (RFC 9110, section 13).
    """
    match = headers.get("if-match")
    if match is not None:
        if match.strip() != "*":
            return 412
    elif _is_newer(last_modified, headers.get("if-unmodified-since")):
        return 412
    none_match = headers.get("if-none-match")
    if none_match is not None:
        return 304 if none_match.strip() == "*" else None
    since = headers.get("if-modified-since")
    return 304 if _date(since) is not None and not _is_newer(last_modified, since) else None


def range_counts(headers: Mapping[str, str], last_modified: str) -> bool:
    """Whether If-Range, where it is sent, names what we would send parts of."""
    condition = headers.get("if-range")
    return condition is None or _date(condition) == _date(last_modified) is not None


def _date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text) if text else None
    except (TypeError, ValueError, OverflowError):
        return None


def _is_newer(last_modified: str, text: str | None) -> bool:
    date, ours = _date(text), _date(last_modified)
    if date is None or ours is None:
        return False
    # A date without a zone is taken for what all others are: UTC.
    return ours > (date if date.tzinfo else date.replace(tzinfo=UTC))


class ByteRanges(NamedTuple):
    """The frame of a multipart/byteranges body: what stands before each part, and at the end."""

    content_type: str
    heads: list[bytes]
    tail: bytes

    def length(self, parts: Sequence[Span]) -> int:
        return sum(map(len, self.heads)) + sum(part.length for part in parts) + len(self.tail)


def byte_ranges(parts: Sequence[Span], size: int, content_type: str) -> ByteRanges:
    """Lay a multipart/byteranges body out for these parts of a body of `size` bytes."""
    boundary = secrets.token_hex(30)
    heads = []
    for number, part in enumerate(parts):
        start = "\r\n" if number else ""
        heads.append(
            f"{start}--{boundary}\r\nContent-Range: {part.content_range(size)}\r\n"
            f"Content-Type: {content_type}\r\n\r\n".encode()
        )
    tail = f"\r\n--{boundary}--\r\n".encode()
    return ByteRanges(f"multipart/byteranges; boundary={boundary}", heads, tail)
