"""What a blob must be like to be found: the constraints of a query, as plain records.

Field by field they are the JSON objects of pkg/search/README.md, "Constraints". A field at its
default is not set. All fields that are set must hold; a constraint without any holds for nothing.
"""

from typing import Final, NamedTuple

from ..blob import Ref

AND: Final = "and"
OR: Final = "or"
XOR: Final = "xor"
NOT: Final = "not"

PARENT: Final = "parent"
CHILD: Final = "child"


class IntConstraint(NamedTuple):
    """A range, ends included. A bound of 0 counts only with its `zero_` flag; equals overrides."""

    min: int = 0
    max: int = 0
    zero_min: bool = False
    zero_max: bool = False
    equals: int | None = None


class FloatConstraint(NamedTuple):
    """A range, ends included. A bound of 0 counts only with its `zero_` flag."""

    min: float = 0.0
    max: float = 0.0
    zero_min: bool = False
    zero_max: bool = False


class StringConstraint(NamedTuple):
    """Tests of a text; with a regexp only it, `empty` and `byte_length` count."""

    empty: bool = False
    equals: str = ""
    contains: str = ""
    has_prefix: str = ""
    has_suffix: str = ""
    byte_length: IntConstraint | None = None
    case_insensitive: bool = False
    regexp: str = ""


class TimeConstraint(NamedTuple):
    """before_ns: exclusive; after_ns: inclusive; both nanoseconds since 1970, None: not set.

    in_last_ns: a duration before now, where after_ns is not set.
    """

    before_ns: int | None = None
    after_ns: int | None = None
    in_last_ns: int = 0


class LocationConstraint(NamedTuple):
    """A rectangle in degrees; it wraps around the date line when west >= east. any: any place."""

    any: bool = False
    north: float = 0.0
    west: float = 0.0
    east: float = 0.0
    south: float = 0.0


class MediaTagConstraint(NamedTuple):
    """A fact of a piece of music; an absent one reads as ""."""

    tag: str = ""
    string: StringConstraint | None = None
    int: IntConstraint | None = None


class DirConstraint(NamedTuple):
    """A `directory`. contains: some child; recursive_contains: some child, or some directory in
    it matches this whole constraint again."""

    file_name: StringConstraint | None = None
    blob_ref_prefix: str = ""
    parent_dir: "DirConstraint | None" = None
    top_file_count: IntConstraint | None = None
    contains: "Constraint | None" = None
    recursive_contains: "Constraint | None" = None


class FileConstraint(NamedTuple):
    """A `file`. time: its oldest, mod_time: its newest, which only a file with two times has."""

    file_size: IntConstraint | None = None
    file_name: StringConstraint | None = None
    mime_type: StringConstraint | None = None
    time: TimeConstraint | None = None
    mod_time: TimeConstraint | None = None
    whole_ref: Ref | None = None
    parent_dir: DirConstraint | None = None
    is_image: bool = False
    width: IntConstraint | None = None
    height: IntConstraint | None = None
    width_height_ratio: FloatConstraint | None = None
    location: LocationConstraint | None = None
    media_tag: MediaTagConstraint | None = None
    exif: bool = False


class RelationConstraint(NamedTuple):
    """relation PARENT: what has this permanode as a member must match; CHILD: its members.

    edge_type: the attribute that makes members; "": `camliMember` and `camliPath:*`.
    any: one must match; all: all, and there is one.
    """

    relation: str = ""
    edge_type: str = ""
    any: "Constraint | None" = None
    all: "Constraint | None" = None


class PermanodeConstraint(NamedTuple):
    """A permanode that is not deleted. at_ns: the moment of its attributes; None: the latest."""

    at_ns: int | None = None
    mod_time: TimeConstraint | None = None
    time: TimeConstraint | None = None
    attr: str = ""
    skip_hidden: bool = False
    num_value: IntConstraint | None = None
    value_all_match: bool = False
    value: str = ""
    value_matches: StringConstraint | None = None
    value_matches_int: IntConstraint | None = None
    value_matches_float: FloatConstraint | None = None
    value_in_set: "Constraint | None" = None
    relation: RelationConstraint | None = None
    location: LocationConstraint | None = None

    @property
    def tests_values(self) -> bool:
        """Whether single values of `attr` are tested."""
        return self.value != "" or any(
            test is not None
            for test in (
                self.value_matches,
                self.value_matches_int,
                self.value_matches_float,
                self.value_in_set,
            )
        )


class LogicalConstraint(NamedTuple):
    """op: AND, OR, XOR of a and b; NOT of a."""

    op: str = ""
    a: "Constraint | None" = None
    b: "Constraint | None" = None


class Constraint(NamedTuple):
    """claim: nothing can be said about claims yet; it is there to be refused.

    text: words that stand next to each other in the texts of a permanode, of the file that is its
    content, or of a file.
    """

    logical: LogicalConstraint | None = None
    anything: bool = False
    camli_type: str = ""
    any_camli_type: bool = False
    blob_ref_prefix: str = ""
    file: FileConstraint | None = None
    dir: DirConstraint | None = None
    claim: bool = False
    blob_size: IntConstraint | None = None
    permanode: PermanodeConstraint | None = None
    text: str = ""


NOTHING: Final = Constraint()
"""No field is set: no blob matches."""


def both(a: Constraint, b: Constraint) -> Constraint:
    return Constraint(logical=LogicalConstraint(AND, a, b))


def either(a: Constraint, b: Constraint) -> Constraint:
    return Constraint(logical=LogicalConstraint(OR, a, b))


def negated(a: Constraint) -> Constraint:
    return Constraint(logical=LogicalConstraint(NOT, a))


def operands(logical: LogicalConstraint) -> list[Constraint]:
    """The operands of a chain of one operation, in order: `(a and b) and c` is a, b, c.

    Chains can be long, so whoever walks a constraint recurses through these, not through a and b.
    """
    if logical.op not in (AND, OR):
        return [side for side in (logical.a, logical.b) if side is not None]
    found: list[Constraint] = []
    current: LogicalConstraint | None = logical
    while current is not None:
        if current.b is not None:
            found.append(current.b)
        left = current.a
        current = None
        if left is not None and left.logical is not None and left.logical.op == logical.op:
            current = left.logical if left == Constraint(logical=left.logical) else None
        if current is None and left is not None:
            found.append(left)
    return found[::-1]


def only_permanodes(constraint: Constraint) -> bool:
    """Whether every match is a permanode by the look of it, so that results have times."""
    if constraint.permanode is not None or constraint.camli_type == "permanode":
        return True
    logical = constraint.logical
    if logical is None or logical.op != AND:
        return False
    return any(map(only_permanodes, operands(logical)))
