"""JSON objects to constraints."""

import json
import re
from typing import Any, Final, NamedTuple, cast

from ..blob import parse_ref
from ..errors import Invalid, TooLarge
from .constraint import Constraint
from .encode import FIELDS, Form
from .gotext import bound_of, quote, time_of

MAX_NESTING: Final = 250
"""Records within each other; `{"logical": {"a": {...` has two a step."""

MAX_RECORDS: Final = 10_000

_ZERO_TIME_NS: Final = -62_135_596_800 * 1_000_000_000
"""The first instant of the year 1, with which clients spell "not set"."""

_BLANKS = re.compile(r"[ \t\r\n]*")


def refused(reason: str) -> Invalid:
    """The error of a malformed request; the reason is the text for the client."""
    return Invalid("read", "search query", reason)


def parse_json(text: str) -> Any:
    """The first JSON value of a text; what stands behind it is not looked at. Raises Invalid."""
    start = cast(re.Match[str], _BLANKS.match(text)).end()
    if start == len(text):
        raise refused("EOF")
    try:
        return _DECODER.raw_decode(text, start)[0]
    except json.JSONDecodeError as error:
        if error.pos >= len(text) or error.msg.startswith("Unterminated"):
            raise refused("unexpected EOF") from None
        char = text[error.pos]
        raise refused(f"invalid character '{char}' looking for beginning of value") from None
    except (ValueError, RecursionError) as error:
        raise refused(f"invalid JSON: {error}") from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant)


def decode_constraint(value: object, *, strict: bool = True) -> Constraint | None:
    """The constraint in a JSON value; None for null.

    Names of members in any case. strict: unknown members are errors, else they are passed over.
    Raises Invalid for what is of a wrong form, TooLarge for what is over a limit.
    """
    if value is None:
        return None
    return cast(Constraint, _Decoder(strict).record(value, Constraint, 0))


class _Decoder:
    """Reads one value; counts what it makes."""

    def __init__(self, strict: bool) -> None:
        self._strict = strict
        self._records = 0

    def record(self, value: object, kind: type, depth: int) -> NamedTuple:
        self._records += 1
        if depth > MAX_NESTING or self._records > MAX_RECORDS:
            limits = f"over {MAX_NESTING} constraints within each other or {MAX_RECORDS} in all"
            raise TooLarge("read", "search query", limits)
        if not isinstance(value, dict):
            raise refused(f"json: cannot unmarshal {json_name(value)} into a {kind.__name__}")
        names = _NAMES[kind]
        found = {}
        for name, item in value.items():
            attribute = names.get(name.lower())
            if attribute is None:
                if self._strict:
                    raise refused(f"json: unknown field {quote(name)}")
            elif item is not None:
                found[attribute] = self._value(item, name, _FORMS[kind][attribute], depth)
        return cast(NamedTuple, kind(**found))

    def _value(self, value: object, name: str, form: Form | type, depth: int) -> object:
        if not isinstance(form, Form):
            return self.record(value, form, depth + 1)
        return plain(value, name, form)


def plain(value: object, name: str, form: Form) -> object:
    """A value of a member that is no record. Raises Invalid for another form."""
    if form is Form.PRESENT:
        if isinstance(value, dict):
            return True
    elif form is Form.BOOLEAN:
        if isinstance(value, bool):
            return value
    elif form is Form.TEXT:
        if isinstance(value, str):
            return value
    elif form is Form.REF:
        if isinstance(value, str):
            return _ref(value)
    elif form is Form.TIME:
        if isinstance(value, str):
            return _time(time_of(value))
    elif form is Form.BOUND:
        if isinstance(value, str):
            return _time(bound_of(value))
    elif form is Form.NUMBER:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return _float(value)
    elif isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    raise refused(f"json: cannot unmarshal {json_name(value)} into field {name}")


def _float(value: float) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if number in (float("inf"), float("-inf")):
        raise refused("json: cannot unmarshal a number out of range")
    return number


def _ref(text: str) -> str:
    ref = parse_ref(text)
    if ref is None:
        raise refused(f"blobref: invalid blobref {quote(text)} ({len(text.encode())})")
    return ref


def _time(time_ns: int | None) -> int | None:
    return None if time_ns == _ZERO_TIME_NS else time_ns


def json_name(value: object) -> str:
    """What JSON calls a value of this form."""
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    if isinstance(value, str):
        return "string"
    return "bool" if isinstance(value, bool) else "number"


_NAMES: Final = {
    kind: {name.lower(): attribute for name, (attribute, _) in fields.items()}
    for kind, fields in FIELDS.items()
}
_FORMS: Final = {kind: dict(fields.values()) for kind, fields in FIELDS.items()}
