"""Whether a blob matches a constraint."""

from collections.abc import Iterable
from typing import Final

from ..blob import Ref, parse_ref
from ..errors import Invalid
from ..index.rows import PATH_ATTRIBUTE, Meta
from ..index.snapshot import Attributes
from .constraint import (
    AND,
    NOT,
    NOTHING,
    OR,
    PARENT,
    Constraint,
    LogicalConstraint,
    PermanodeConstraint,
    RelationConstraint,
    operands,
)
from .facts import Facts
from .filematch import FileMatcher
from .gotext import parse_float, parse_int
from .prefix import has_prefix
from .values import float_matches, int_matches, place_matches, string_matches, time_matches

_HIDING: Final = (("camliDefVis", "hide"), ("camliNodeType", "foursquare.com:venue"))
"""Attribute and value of permanodes that are not shown where `skipHidden` is asked for."""


class Matcher:
    """Tests blobs for one query."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._files = FileMatcher(facts, self.matches)

    def matches(self, constraint: Constraint, blob: Ref) -> bool:
        """Whether the blob is indexed and matches."""
        meta = self._facts.meta(blob)
        return meta is not None and self._matches(constraint, blob, meta)

    def _matches(self, constraint: Constraint, blob: Ref, meta: Meta) -> bool:
        self._facts.step()
        return (
            constraint != NOTHING
            and _matches_by_row(constraint, blob, meta)
            and (not constraint.text or blob in self._facts.texts(constraint.text))
            and (constraint.logical is None or self._logical(constraint.logical, blob, meta))
            and (constraint.permanode is None or self._permanode(constraint.permanode, blob, meta))
            and (constraint.file is None or self._files.file(constraint.file, blob, meta))
            and (constraint.dir is None or self._files.directory(constraint.dir, blob, meta))
        )

    def _logical(self, logical: LogicalConstraint, blob: Ref, meta: Meta) -> bool:
        results = (self._matches(operand, blob, meta) for operand in operands(logical))
        if logical.op == AND:
            return all(results)
        if logical.op == OR:
            return any(results)
        if logical.op == NOT:
            return not next(results)
        return next(results) != next(results)

    # -- permanodes -----------------------------------------------------------------------------

    def _permanode(self, test: PermanodeConstraint, blob: Ref, meta: Meta) -> bool:
        facts = self._facts
        if meta.camli_type != "permanode" or facts.snapshot(blob).is_deleted:
            return False
        if test.attr and not self._attribute(test, facts.attributes(blob, test.at_ns)):
            return False
        if test.skip_hidden and _is_hidden(facts.attributes(blob, test.at_ns)):
            return False
        if test.mod_time is not None:
            modified_ns = facts.snapshot(blob).modified_ns
            if modified_ns is None or not time_matches(test.mod_time, modified_ns, facts.now_ns):
                return False
        if test.time is not None:
            created_ns = facts.snapshot(blob).created_ns
            if created_ns is None or not time_matches(test.time, created_ns, facts.now_ns):
                return False
        if test.location is not None:
            place = facts.place((blob, test.at_ns))
            if place is None or not place_matches(test.location, place):
                return False
        return test.relation is None or self._relation(test.relation, blob, test.at_ns)

    def _attribute(self, test: PermanodeConstraint, attributes: Attributes) -> bool:
        values = attributes.get(test.attr, [])
        if test.num_value is not None and not int_matches(test.num_value, len(values)):
            return False
        if not test.tests_values:
            return True
        results = (self._value(test, value) for value in values)
        return bool(values) and all(results) if test.value_all_match else any(results)

    def _value(self, test: PermanodeConstraint, value: str) -> bool:
        if test.value and value != test.value:
            return False
        if test.value_matches is not None and not string_matches(test.value_matches, value):
            return False
        if test.value_matches_int is not None:
            number = parse_int(value)
            if number is None or not int_matches(test.value_matches_int, number):
                return False
        if test.value_matches_float is not None:
            try:
                if not float_matches(test.value_matches_float, parse_float(value)):
                    return False
            except Invalid:
                return False
        if test.value_in_set is not None:
            ref = parse_ref(value)
            return ref is not None and self.matches(test.value_in_set, ref)
        return True

    def _relation(self, test: RelationConstraint, blob: Ref, at_ns: int | None) -> bool:
        related = self.related(test, blob, at_ns)
        if test.any is not None:
            return any(self.matches(test.any, ref) for ref in related)
        assert test.all is not None
        return bool(related) and all(self.matches(test.all, ref) for ref in related)

    def related(self, test: RelationConstraint, blob: Ref, at_ns: int | None) -> set[Ref]:
        """What has the blob as a member at a moment, or what it has."""
        if test.relation != PARENT:
            return set(members(self._facts, test.edge_type, blob, at_ns))
        candidates = set(self._facts.corpus.parents(blob, test.edge_type))
        return {
            parent
            for parent in candidates
            if blob in members(self._facts, test.edge_type, parent, at_ns)
        }


def _matches_by_row(constraint: Constraint, blob: Ref, meta: Meta) -> bool:
    """The tests for which the `meta` row is enough."""
    if constraint.camli_type and meta.camli_type != constraint.camli_type:
        return False
    if constraint.any_camli_type and not meta.camli_type:
        return False
    if constraint.blob_ref_prefix and not has_prefix(blob, constraint.blob_ref_prefix):
        return False
    return constraint.blob_size is None or int_matches(constraint.blob_size, meta.size)


def members(facts: Facts, edge_type: str, parent: Ref, at_ns: int | None) -> Iterable[Ref]:
    """The refs among the values of attributes of this edge type, by anybody's claims."""
    found: dict[Ref, None] = {}
    for attribute, values in facts.anyones_attributes(parent, at_ns).items():
        if attribute == edge_type or (not edge_type and is_edge(attribute)):
            found.update((ref, None) for value in values if (ref := parse_ref(value)) is not None)
    return found


def is_edge(attribute: str) -> bool:
    """Whether the values of this attribute are members where no edge type is named."""
    return attribute == "camliMember" or attribute.startswith(PATH_ATTRIBUTE)


def _is_hidden(attributes: Attributes) -> bool:
    return any(attributes.get(name, [""])[0] == value for name, value in _HIDING)
