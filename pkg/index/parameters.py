"""Requests to the search endpoints, read from query parameters and JSON bodies."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..blob import Ref, parse_ref
from ..errors import Invalid
from ..schema.times import parse_time
from .describe import MAX_DIR_CHILDREN, USUAL_DIR_CHILDREN, DescribeRequest, Rule

Pairs = Sequence[tuple[str, str]]

MAX_RULES: Final = 1000
MAX_DEPTH: Final = 1000

_ZERO_TIMES_NS: Final = frozenset({0, -62_135_596_800 * 1_000_000_000})
_INTEGER_DIGITS: Final = 18


class BadParameter(Invalid):
    """A query parameter that is absent or wrong; the reason is the text for the client."""

    def __init__(self, word: str, name: str) -> None:
        super().__init__("read", "request", f'{word} parameter "{name}"')
        self._arguments = (word, name)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # type: ignore[override]
        return type(self), self._arguments


class Parameters:
    """Query parameters; the first of equal names counts unless all are asked for."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs: Final = pairs

    def text(self, name: str) -> str:
        return next((value for key, value in self.pairs if key == name), "")

    def texts(self, name: str) -> list[str]:
        return [value for key, value in self.pairs if key == name]

    def required(self, name: str) -> str:
        """Raises BadParameter when absent or empty."""
        value = self.text(name)
        if not value:
            raise BadParameter("Missing", name)
        return value

    def ref(self, name: str) -> Ref:
        """Raises BadParameter when absent or malformed."""
        ref = parse_ref(self.required(name))
        if ref is None:
            raise BadParameter("Invalid", name)
        return ref

    def integer(self, name: str) -> int:
        """0 when absent. Raises BadParameter when it is no number."""
        text = self.text(name)
        return 0 if not text else _integer(text, name)

    def limit(self, name: str, usual: int, most: int) -> int:
        """A number from 1 to `most`, else `usual`. Raises BadParameter when it is no number."""
        number = self.integer(name)
        return number if 0 < number <= most else usual

    def time_ns(self, name: str) -> int | None:
        """A moment; None when absent, malformed, zero or the Unix epoch."""
        try:
            time_ns = parse_time(self.text(name))
        except Invalid:
            return None
        return None if time_ns in _ZERO_TIMES_NS else time_ns


def _integer(text: str, name: str) -> int:
    digits = text[1:] if text[0] in "+-" else text
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > _INTEGER_DIGITS:
        raise BadParameter("Invalid", name)
    return int(text)


def describe_by_query(pairs: Pairs) -> DescribeRequest:
    """Raises BadParameter."""
    parameters = Parameters(pairs)
    parameters.required("blobref")
    refs = []
    for text in parameters.texts("blobref"):
        ref = parse_ref(text)
        if ref is None:
            raise BadParameter("Invalid", "blobref")
        refs.append(ref)
    return DescribeRequest(
        tuple(refs),
        _depth(parameters.integer("depth")),
        parameters.limit("maxdirchildren", USUAL_DIR_CHILDREN, MAX_DIR_CHILDREN),
        parameters.time_ns("at"),
    )


def describe_by_body(body: bytes) -> DescribeRequest:
    """Raises Invalid for what is no JSON object, and for members of a wrong type."""
    if not body.strip():
        raise Invalid("read", "request", "EOF")
    text = body.decode("utf-8", "replace").strip()
    try:
        value, _end = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        reason = "unexpected EOF" if error.pos >= len(text) else f"not JSON: {error}"
        raise Invalid("read", "request", reason) from None
    except (ValueError, RecursionError) as error:
        raise Invalid("read", "request", f"not JSON: {error}") from None
    return describe_by_json(value)


def describe_by_json(value: object) -> DescribeRequest:
    """The request in a JSON object, with names in any case. Raises Invalid."""
    members = _members({} if value is None else value)
    refs = [_ref(item) for item in _list(members.get("blobrefs"))]
    single = members.get("blobref")
    if single is not None:
        refs.append(_ref(single))
    most = _number(members.get("maxdirchildren"))
    return DescribeRequest(
        tuple(refs),
        _depth(_number(members.get("depth"))),
        most if 0 < most <= MAX_DIR_CHILDREN else USUAL_DIR_CHILDREN,
        _time_ns(members.get("at")),
        tuple(_rules(members.get("rules"))),
        _flag(members, "sizes"),
        _flag(members, "paths"),
        _flag(members, "facts"),
    )


def _depth(number: int) -> int:
    return min(max(number, 1), MAX_DEPTH)


def _rules(value: object) -> list[Rule]:
    """Nested rules laid flat, parents before children."""
    rules: list[Rule] = []
    pending: list[tuple[object, int | None]] = [(item, None) for item in _list(value)]
    while pending:
        item, parent = pending.pop(0)
        if len(rules) == MAX_RULES:
            raise Invalid("read", "request", f"over {MAX_RULES} rules")
        members = _members({} if item is None else item)
        names = tuple(_text(name) for name in _list(members.get("attrs")))
        node_type = _text(members.get("ifcamlinodetype"))
        rules.append(Rule(names, _flag(members, "ifResultRoot"), node_type, parent))
        pending += [(inner, len(rules) - 1) for inner in _list(members.get("rules"))]
    return rules


# -- JSON values; null stands for absence everywhere ----------------------------------------------


def _wrong(what: str) -> Invalid:
    return Invalid("read", "request", f"json: cannot unmarshal {what}")


def _members(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong("into an object")
    return {name.lower(): item for name, item in value.items()}


def _list(value: object) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong("into a list")
    return value


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong("into a string")
    return value


def _flag(members: Mapping[str, Any], name: str) -> bool:
    value = members.get(name.lower())
    if value is not None and not isinstance(value, bool):
        raise _wrong(name)
    return value is True


def _number(value: object) -> int:
    if value is None:
        return 0
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong("into a number")
    return value


def _ref(value: object) -> Ref:
    text = _text(value)
    ref = parse_ref(text)
    if ref is None:
        raise Invalid("read", "request", f'blobref: invalid blobref "{text}" ({len(text)})')
    return ref


def _time_ns(value: object) -> int | None:
    text = _text(value)
    if not text:
        return None
    time_ns = parse_time(text)
    return None if time_ns in _ZERO_TIMES_NS else time_ns
