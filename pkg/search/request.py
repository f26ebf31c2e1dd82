"""The query that a request body asks for."""

import json
import re
from enum import Enum
from typing import Any, Final, NamedTuple

from ..blob import Ref, parse_ref
from ..index.describe import DescribeRequest
from ..index.parameters import describe_by_json
from .constraint import Constraint
from .decode import decode_constraint, json_name, parse_json, plain, refused
from .encode import Form
from .gotext import quote
from .parser import VISIBLE_PERMANODES, BadExpression, Parsed, parse_whole
from .predicates import Resolver
from .validate import invalid, validate

USUAL_LIMIT: Final = 200


class Sort(Enum):
    """Order of results, by the name that requests have for it."""

    UNSORTED = "unsorted"
    MODIFIED_DESCENDING = "-mod"
    MODIFIED = "mod"
    CREATED_DESCENDING = "-created"
    CREATED = "created"
    REF = "blobref"
    MAP = "map"
    SIZE_DESCENDING = "-size"


class Position(NamedTuple):
    """Where a page ended: time of its last result, nanoseconds since 1970, and its ref."""

    time_ns: int
    ref: Ref


class Query(NamedTuple):
    """limit: results; None: all. sort: None: as fits the constraint. around: the ref to centre
    the page on. after: the end of the page before. describe: its refs are those of the results.
    explain: whether the answer tells how it was found. snippets: whether it shows found words.
    """

    constraint: Constraint
    limit: int | None = USUAL_LIMIT
    sort: Sort | None = None
    around: Ref | None = None
    after: Position | None = None
    describe: DescribeRequest | None = None
    explain: bool = False
    snippets: bool = False


def read_query(body: bytes, resolver: Resolver) -> Query:
    """Raises Invalid, its reason the text for the client; what the resolver raises, too."""
    value = parse_json(body.decode("utf-8", "replace"))
    members = _members({} if value is None else value)
    sort = _sort(members.get("sort"))
    around = _member(members, "around", Form.REF)
    token = _member(members, "continue", Form.TEXT) or ""
    limit = _member(members, "limit", Form.INTEGER) or USUAL_LIMIT
    expression = _member(members, "expression", Form.TEXT) or ""
    constraint = decode_constraint(members.get("constraint"))
    describe = members.get("describe")
    request = None if describe is None else describe_by_json(describe)
    explain = _member(members, "explain", Form.BOOLEAN) is True
    parsed = _parsed_of(constraint, expression, resolver)
    constraint = parsed.constraint
    if sort is None and parsed.sort is not None:
        sort = Sort(parsed.sort)
    validate(constraint)
    if token and around is not None:
        raise invalid("Continue and Around parameters are mutually exclusive")
    if sort is Sort.MAP and (token or around is not None):
        raise invalid("Continue or Around parameters are not available with MapSort")
    return Query(
        constraint,
        None if limit < 0 else limit,
        sort,
        around,
        _position(token),
        request,
        explain,
        _member(members, "snippets", Form.BOOLEAN) is True,
    )


_NAMES: Final = frozenset(
    {
        "expression",
        "constraint",
        "limit",
        "sort",
        "around",
        "continue",
        "describe",
        "explain",
        "snippets",
    }
)


def _members(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise refused(
            f"json: cannot unmarshal {json_name(value)} into Go value of type search.SearchQuery"
        )
    members = {}
    for name, item in value.items():
        if name.lower() not in _NAMES:
            raise refused(f"json: unknown field {quote(name)}")
        members[name.lower()] = item
    return members


def _member(members: dict[str, Any], name: str, form: Form) -> Any:
    value = members.get(name)
    return None if value is None else plain(value, name, form)


def _sort(value: object) -> Sort | None:
    if value is None:
        return None
    try:
        return Sort(value)
    except ValueError:
        text = json.dumps(value, ensure_ascii=False)
        raise refused(f"Bogus search sort type {quote(text)}") from None


_TOKEN = re.compile(r"pn:(-?[0-9]{1,30}):(.+)", re.ASCII)


def _position(token: str) -> Position | None:
    """One that can't be read is passed over, as by Perkeep: the pages begin anew."""
    match = _TOKEN.fullmatch(token)
    ref = None if match is None else parse_ref(match[2])
    return None if match is None or ref is None else Position(int(match[1]), ref)


def token_of(position: Position) -> str:
    """The `continue` token of a page that ends here."""
    return f"pn:{position.time_ns}:{position.ref}"


def _parsed_of(given: Constraint | None, expression: str, resolver: Resolver) -> Parsed:
    if given is None:
        return _parsed(expression, resolver) if expression else Parsed(VISIBLE_PERMANODES)
    if expression:
        raise invalid("Constraint and Expression are mutually exclusive in a search query")
    return Parsed(given)


def _parsed(expression: str, resolver: Resolver) -> Parsed:
    try:
        return parse_whole(expression, resolver)
    except BadExpression as error:
        head = f"Error parsing search expression {quote(expression)}: "
        raise invalid(head + error.reason) from None
