"""Text as Go's library quotes, unquotes and parses it: clients see its words in errors."""

import re
from typing import Final

from ..errors import Invalid
from ..schema.times import parse_time

_SHORT_ESCAPES: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}
_UNESCAPES: Final = {escape[1]: char for char, escape in _SHORT_ESCAPES.items()}
_ESCAPE = re.compile(
    r"\\(?:x([0-9A-Fa-f]{2})|([0-7]{3})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL
)

SPACES: Final = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
"""Unicode's white space."""


def quote(text: str) -> str:
    """The text in double quotes, with escapes for what does not print."""
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(char: str) -> str:
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote(text: str) -> str:
    """What stands between double quotes, unescaped. Raises Invalid for a bad escape."""
    if "\n" in text:
        raise Invalid("unquote", text[:60], "invalid syntax")
    pieces = []
    end = 0
    for match in _ESCAPE.finditer(text):
        pieces.append(text[end : match.start()].encode("utf-8", "replace"))
        pieces.append(_unescaped(match))
        end = match.end()
    pieces.append(text[end:].encode("utf-8", "replace"))
    if "\\" in text[end:]:
        raise Invalid("unquote", text[:60], "invalid syntax")
    return b"".join(pieces).decode("utf-8", "replace")


def _unescaped(match: re.Match[str]) -> bytes:
    one_byte, octal, short, long, simple = match.groups()
    if simple is not None:
        if simple in _UNESCAPES:
            return _UNESCAPES[simple].encode()
    elif one_byte is not None or octal is not None:
        code = int(one_byte, 16) if one_byte is not None else int(octal, 8)
        if code < 256:
            return bytes([code])
    else:
        code = int(short or long, 16)
        if code <= 0x10FFFF and not 0xD800 <= code < 0xE000:
            return chr(code).encode()
    raise Invalid("unquote", match[0], "invalid syntax")


# -- numbers ------------------------------------------------------------------------------------

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_MAX_DIGITS: Final = 19
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_HEX_FLOAT = re.compile(
    r"[+-]?0[xX](?:[0-9A-Fa-f]+\.?[0-9A-Fa-f]*|\.[0-9A-Fa-f]+)[pP][+-]?[0-9]{1,9}", re.ASCII
)
_SPECIAL_FLOAT = re.compile(r"[+-]?inf(?:inity)?|nan", re.IGNORECASE | re.ASCII)


def parse_int(text: str) -> int | None:
    """A decimal number of 64 bits, or None."""
    if not _INTEGER.fullmatch(text):
        return None
    digits = text.lstrip("+-").lstrip("0")
    if len(digits) > _MAX_DIGITS:
        return None
    number = -int(digits or "0") if text[0] == "-" else int(digits or "0")
    return number if -(2**63) <= number < 2**63 else None


def parse_float(text: str) -> float:
    """Raises Invalid: no number, or one out of range."""
    if _SPECIAL_FLOAT.fullmatch(text):
        return float(text)
    try:
        if _FLOAT.fullmatch(text):
            number = float(text)
        elif _HEX_FLOAT.fullmatch(text):
            number = float.fromhex(text)
        else:
            raise Invalid("parse", "number", _float_words(text, "invalid syntax"))
    except OverflowError:
        number = float("inf")
    if number in (float("inf"), float("-inf")):
        raise Invalid("parse", "number", _float_words(text, "value out of range"))
    return number


def _float_words(text: str, problem: str) -> str:
    return f"strconv.ParseFloat: parsing {quote(text)}: {problem}"


# -- times --------------------------------------------------------------------------------------

_LAYOUT: Final = "2006-01-02T15:04:05Z07:00"
_FINE_LAYOUT: Final = "2006-01-02T15:04:05.999999999Z07:00"
_ELEMENTS: Final = (
    ("2006", r"\d{4}", None),
    ("-", "-", None),
    ("01", r"\d\d", (1, 12, "month")),
    ("-", "-", None),
    ("02", r"\d\d", None),  # looked at last, with its month
    ("T", "T", None),
    ("15", r"\d\d?", (0, 23, "hour")),
    (":", ":", None),
    ("04", r"\d\d", (0, 59, "minute")),
    (":", ":", None),
    ("05", r"\d\d(?:[.,]\d+)?", (0, 59, "second")),
    ("Z07:00", r"Z|[+-](?=\d\d:\d\d)", None),
    ("", r"(?<=[+-])\d\d|", (0, 24, "time zone offset hour")),
    ("", r"(?<=\d):\d\d|", (0, 60, "time zone offset minute")),
)


def time_of(text: str, layout: str = _LAYOUT) -> int:
    """Nanoseconds since 1970 of an RFC 3339 text. Raises Invalid in the words of Go."""
    try:
        return parse_time(text)
    except Invalid:
        words = f"parsing time {quote(text)}{_time_words(text, layout)}"
        raise Invalid("parse", "time", words) from None


def bound_of(text: str) -> int | None:
    """The same, but None for an empty text or one of zeros, as dates of claims are read."""
    if text == "" or text.startswith("0000-00-00T00:00:00"):
        return None
    return time_of(text, _FINE_LAYOUT)


def _time_words(text: str, layout: str) -> str:
    """Which element of the layout the text breaks."""
    end = 0
    for name, form, limits in _ELEMENTS:
        match = re.compile(form, re.ASCII).match(text, end)
        if match is None:
            return f' as "{layout}": cannot parse {quote(text[end:])} as {quote(name)}'
        digits = match[0].lstrip(":")[:2]
        if limits is not None and digits and not limits[0] <= int(digits) <= limits[1]:
            return f": {limits[2]} out of range"
        end = match.end()
    rest = text[end:]
    return f": extra text: {quote(rest)}" if rest else ": day out of range"
