"""What an expression says of the whole search: `sort:`, `at:` (README.md, "Expressions")."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from .constraint import Constraint, LogicalConstraint, PermanodeConstraint, operands
from .lexer import Kind, Token

SORT: Final = "sort"
AT: Final = "at"

_ARGUMENTS: Final = (Kind.ARGUMENT, Kind.QUOTED_ARGUMENT)


class Setting(NamedTuple):
    """name: `sort` or `at`. arguments: what stands behind its colons, as written."""

    name: Token
    arguments: tuple[Token, ...]


def split_settings(tokens: Sequence[Token]) -> tuple[list[Token], list[Setting]]:
    """The tokens that are left for the constraint, and the settings among them.

    Settings stand outside parentheses, anywhere but behind `or` and `-`, where they would seem to
    hold for a part only; there they stay, to be refused as unknown predicates.
    """
    left: list[Token] = []
    found: list[Setting] = []
    depth = place = 0
    while place < len(tokens):
        token = tokens[place]
        end = place + 1
        while end < len(tokens) and tokens[end].kind in _ARGUMENTS:
            end += 1
        depth += {Kind.OPEN: 1, Kind.CLOSE: -1}.get(token.kind, 0)
        before = left[-1].kind if left else None
        if depth or not _is_setting(token) or before in (Kind.NOT, Kind.OR):
            left += tokens[place:end]
        else:
            found.append(Setting(token, tuple(tokens[place + 1 : end])))
            # One `and` goes with it: the one before it, else the one behind.
            if before is Kind.AND:
                left.pop()
            elif tokens[end].kind is Kind.AND:
                end += 1
        place = end
    return left, found


def _is_setting(token: Token) -> bool:
    return token.kind is Kind.PREDICATE and token.text in (SORT, AT)


def as_of(constraint: Constraint, at_ns: int) -> Constraint:
    """The same constraint over the attributes, relations and places of a moment.

    at_ns: nanoseconds since 1970. Where a part says its own moment, that stays.
    """
    permanode, logical = constraint.permanode, constraint.logical
    return constraint._replace(
        permanode=None if permanode is None else _permanode_as_of(permanode, at_ns),
        logical=None if logical is None else _logical_as_of(logical, at_ns),
    )


def _logical_as_of(logical: LogicalConstraint, at_ns: int) -> LogicalConstraint:
    first, *others = (as_of(part, at_ns) for part in operands(logical))
    if not others:
        return logical._replace(a=first)
    # A chain may be long, so it is not gone down by recursion.
    for part in others[:-1]:
        first = Constraint(logical=LogicalConstraint(logical.op, first, part))
    return logical._replace(a=first, b=others[-1])


def _permanode_as_of(test: PermanodeConstraint, at_ns: int) -> PermanodeConstraint:
    inner, relation = test.value_in_set, test.relation
    if relation is not None:
        relation = relation._replace(
            any=None if relation.any is None else as_of(relation.any, at_ns),
            all=None if relation.all is None else as_of(relation.all, at_ns),
        )
    return test._replace(
        at_ns=at_ns if test.at_ns is None else test.at_ns,
        value_in_set=None if inner is None else as_of(inner, at_ns),
        relation=relation,
    )
