"""What is refused about a well-formed constraint, in the words that clients know."""

from typing import Final

from ..errors import Invalid, TooLarge
from .constraint import (
    AND,
    CHILD,
    NOT,
    OR,
    PARENT,
    XOR,
    Constraint,
    DirConstraint,
    IntConstraint,
    LogicalConstraint,
    PermanodeConstraint,
    operands,
)
from .gotext import quote

PREFIX: Final = "Invalid SearchQuery: "

MAX_DEPTH: Final = 150
"""Constraints within each other; a chain of one operation counts once."""

MAX_CONSTRAINTS: Final = 10_000

_NO_CHILD_TEST: Final = (
    "[Recursive]Contains constraint should have a *FileConstraint, or a *DirConstraint,"
    " or a *LogicalConstraint combination of the aforementioned."
)


def validate(constraint: Constraint) -> None:
    """Raise Invalid, its reason the text for the client, for what makes no sense.

    As with Perkeep, numbers and attribute tests are looked at on the outside and in `logical`,
    not within `valueInSet`, relations and the like; what no blob could be tested by, everywhere.
    Raises TooLarge for one that is too deep or too wide; named searches can make it so.
    """
    _Validator().constraint(constraint, 0)


def invalid(reason: str) -> Invalid:
    return Invalid("check", "search query", PREFIX + reason)


class _Validator:
    """One walk over a constraint. is_outside: not within `valueInSet` and the like."""

    def __init__(self) -> None:
        self._count = 0

    def constraint(self, constraint: Constraint, depth: int, is_outside: bool = True) -> None:
        self._count += 1
        if depth > MAX_DEPTH or self._count > MAX_CONSTRAINTS:
            limits = f"over {MAX_DEPTH} constraints within each other or {MAX_CONSTRAINTS} in all"
            raise TooLarge("check", "search query", PREFIX + limits)
        if constraint.claim:
            raise invalid("TODO: implement ClaimConstraint")
        if constraint.logical is not None:
            _check_operation(constraint.logical)
            for operand in operands(constraint.logical):
                self.constraint(operand, depth + 1, is_outside)
        if constraint.blob_size is not None and is_outside:
            _check_int(constraint.blob_size)
        if constraint.permanode is not None:
            self._permanode(constraint.permanode, depth, is_outside)
        if constraint.file is not None and constraint.file.parent_dir is not None:
            self._dir(constraint.file.parent_dir, depth + 1)
        if constraint.dir is not None:
            self._dir(constraint.dir, depth)

    def _permanode(self, permanode: PermanodeConstraint, depth: int, is_outside: bool) -> None:
        if permanode.attr and is_outside:
            _check_attribute(permanode)
        if permanode.value_in_set is not None:
            self.constraint(permanode.value_in_set, depth + 1, is_outside=False)
        relation = permanode.relation
        if relation is None:
            return
        if relation.relation not in (PARENT, CHILD):
            raise invalid(
                'only RelationConstraint.Relation of "parent" or "child" is currently supported'
            )
        related = relation.all if relation.any is None else relation.any
        if related is None or (relation.any is not None and relation.all is not None):
            raise invalid("exactly one of RelationConstraint Any or All must be defined")
        self.constraint(related, depth + 1, is_outside=False)

    def _dir(self, directory: DirConstraint, depth: int) -> None:
        if directory.contains is not None and directory.recursive_contains is not None:
            raise invalid(
                "Contains and RecursiveContains in a DirConstraint are mutually exclusive"
            )
        if directory.parent_dir is not None:
            # As a constraint, so that it counts.
            self.constraint(Constraint(dir=directory.parent_dir), depth + 1, is_outside=False)
        for child in (directory.contains, directory.recursive_contains):
            if child is not None:
                self.constraint(child, depth + 1, is_outside=False)
                if not _tests_a_child(child):
                    raise Invalid("check", "search query", _NO_CHILD_TEST)


def _check_operation(logical: LogicalConstraint) -> None:
    if logical.op == NOT:
        if logical.a is None:
            raise invalid("In LogicalConstraint, need to set A")
        return
    if logical.op not in (AND, OR, XOR):
        raise invalid(f"In LogicalConstraint, unknown operation {quote(logical.op)}")
    current: LogicalConstraint | None = logical
    while current is not None and current.op == logical.op:
        if current.a is None or current.b is None:
            raise invalid("In LogicalConstraint, need both A and B set")
        current = current.a.logical


def _check_int(number: IntConstraint) -> None:
    if number.zero_min and number.min != 0:
        raise invalid("in IntConstraint, can't set both ZeroMin and Min")
    if number.zero_max and number.max != 0:
        raise invalid("in IntConstraint, can't set both ZeroMax and Max")
    has_min, has_max = number.min != 0 or number.zero_min, number.max != 0 or number.zero_max
    if has_min and has_max and number.min > number.max:
        raise invalid("in IntConstraint, min is greater than max")


def _check_attribute(permanode: PermanodeConstraint) -> None:
    count = permanode.num_value
    if count is None:
        if not permanode.tests_values:
            raise invalid(
                "PermanodeConstraint with Attr requires also setting NumValue"
                " or a value-matching constraint"
            )
        return
    if count.zero_min:
        raise invalid("NumValue with ZeroMin makes no sense; matches everything")
    if count.zero_max and permanode.tests_values:
        raise invalid(
            "NumValue with ZeroMax makes no sense in conjunction with a value-matching"
            " constraint; matches nothing"
        )
    if count.min < 0 or count.max < 0:
        raise invalid("NumValue with negative Min or Max makes no sense")


def _tests_a_child(constraint: Constraint) -> bool:
    if constraint.blob_ref_prefix or constraint.file is not None or constraint.dir is not None:
        return True
    logical = constraint.logical
    return logical is not None and all(map(_tests_a_child, operands(logical)))
