"""JSON text of schema blobs: the one exact form that is written, and every form that is read."""

import json
import re
from array import array
from collections.abc import Mapping
from itertools import accumulate
from json.encoder import encode_basestring
from typing import Final

from ..blob import Ref
from ..errors import Invalid

MAX_SCHEMA_SIZE: Final = 1024 * 1024
"""Bytes of the largest schema blob; a longer blob is plain data whatever it holds."""

MAX_NESTING: Final = 300
"""Levels of arrays and objects that are read: far above any schema, far below the stack."""

MAX_CONTAINERS: Final = 32_768
"""Arrays and objects that are read in one text; a file blob of 1 MiB has 9,000 parts."""

# -- writing ------------------------------------------------------------------------------------

_ESCAPED = "<>&\u2028\u2029"
_ESCAPES = {ord(sign): f"\\u{ord(sign):04x}" for sign in _ESCAPED}
_SURROGATE = re.compile("[\ud800-\udfff]")


def encode(members: Mapping[str, object]) -> bytes:
    """The exact text of the schema blob with these members (pkg/schema/README.md, "Text").

    members: str, int, float, bool, None, lists and mappings of them, in any order.
    `camliVersion` may be left out: it is 1. A surrogate in a text, as `os.fsdecode` makes it
    of a byte that is not UTF-8, becomes U+FFFD. No line feed follows the final brace.
    """
    version = members.get("camliVersion", 1)
    lines = [
        f"  {encode_basestring(name)}: {_value(members[name], '  ')}"
        for name in sorted(members)
        if name != "camliVersion"
    ]
    text = ",\n".join([f'{{"camliVersion": {_value(version, "")}', *lines]) + "\n}"
    if any(sign in text for sign in _ESCAPED):  # which only texts can hold
        text = text.translate(_ESCAPES)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text).encode()


def _value(value: object, indent: str) -> str:
    if isinstance(value, Ref):
        return f'"{value}"'  # most of what there is, and nothing in it needs an escape
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if value is None:
        return "null"
    if isinstance(value, float):
        return _float(value)
    inner = indent + "  "
    if isinstance(value, (dict, Mapping)):  # the first spares the second, which is slow
        items = [
            f"{inner}{encode_basestring(key)}: {_value(value[key], inner)}" for key in sorted(value)
        ]
        return _block("{", items, indent, "}")
    if isinstance(value, (list, tuple)):
        return _block("[", [inner + _value(item, inner) for item in value], indent, "]")
    raise TypeError(f"no JSON form for {type(value).__name__}")


def _block(opening: str, items: list[str], indent: str, closing: str) -> str:
    if not items:
        return opening + closing
    return opening + "\n" + ",\n".join(items) + "\n" + indent + closing


def _float(number: float) -> str:
    """The shortest digits that read back as this number; an exponent only for the extremes."""
    if number != number or number in (float("inf"), float("-inf")):
        raise Invalid("encode", number, "not a number that JSON has")
    if number == 0:
        return "-0" if str(number).startswith("-") else "0"
    if 1e-6 <= abs(number) < 1e21:
        from decimal import Decimal  # blobs hold hardly ever a number with a point

        return format(Decimal(repr(number)), "f").removesuffix(".0")
    mantissa, _, exponent = repr(number).partition("e")
    sign = exponent[0] if exponent[0] in "+-" else "+"
    return f"{mantissa.removesuffix('.0')}e{sign}{exponent.lstrip('+-0')}"


# -- reading ------------------------------------------------------------------------------------


class RepeatedNames(dict[str, object]):
    """An object in which a name stands more than once: a dict of the last ones, and all pairs."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs


class MinusZero(int):
    """What the text `-0` reads as: zero, but signed."""


_ODD_ESCAPES = re.compile(
    r"\\\\"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
_BRACKETS_TO_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def decode(data: bytes) -> object:
    """Read one JSON text with nothing but white space around it. Raises Invalid.

    Objects become dicts with the last value of each name (RepeatedNames keeps the others).
    A byte in a text that is not UTF-8, and an escape of half a surrogate pair, reads as
    U+FFFD. An integer of over 300 digits reads as a float.
    """
    if data.count(b"[") + data.count(b"{") > MAX_NESTING:
        _check_containers(data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = _SURROGATE.sub("\ufffd", data.decode("utf-8", "surrogateescape"))
    if "\\u" in text:
        text = _ODD_ESCAPES.sub(lambda found: "\\ufffd" if found[1] else found[0], text)
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise Invalid("read JSON", f"{len(data)} bytes", str(error)) from None


def _check_containers(data: bytes) -> None:
    """Refuse what would take too much stack or time; exact for JSON, without a loop in Python."""
    outside_strings = data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    steps = b"".join(outside_strings).translate(_BRACKETS_TO_STEPS, _NOT_BRACKETS)
    if steps.count(b"\x01") > MAX_CONTAINERS:
        raise Invalid("read JSON", f"{len(data)} bytes", f"over {MAX_CONTAINERS} containers")
    if max(accumulate(array("b", steps)), default=0) > MAX_NESTING:
        raise Invalid("read JSON", f"{len(data)} bytes", f"over {MAX_NESTING} levels deep")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else RepeatedNames(pairs)


def _integer(digits: str) -> int | float:
    if len(digits) > 300:  # int() refuses thousands of digits; far beyond any known member
        return float(digits)
    return int(digits) if digits != "-0" else MinusZero()


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_constant=_no_constant
)
