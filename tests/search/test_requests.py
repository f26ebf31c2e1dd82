"""Query requests: what is read from JSON, limits, and what is refused."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peatkeep.errors import Invalid, TooLarge
from peatkeep.search.constraint import (
    AND,
    NOTHING,
    Constraint,
    IntConstraint,
    LogicalConstraint,
    PermanodeConstraint,
    RelationConstraint,
    StringConstraint,
    TimeConstraint,
    operands,
)
from peatkeep.search.decode import decode_constraint
from peatkeep.search.encode import FIELDS, encode
from peatkeep.search.validate import validate

from .asking import ask, ask_text, refs_of


def test_members_are_read_in_any_case() -> None:
    value = {"PERMANODE": {"ATTR": "tag", "valueMatches": {"HASPREFIX": "a"}}}
    test = PermanodeConstraint(attr="tag", value_matches=StringConstraint(has_prefix="a"))
    assert decode_constraint(value) == Constraint(permanode=test)


def test_values_that_clients_spell_out_are_not_set() -> None:
    value = {
        "file": None,
        "claim": None,
        "permanode": {
            "at": "0001-01-01T00:00:00Z",
            "time": {"before": None, "after": None, "inLast": 0},
            "relation": {"Relation": "child", "EdgeType": "", "Any": {}, "All": None},
            "location": None,
            "valueInSet": None,
        },
    }
    relation = RelationConstraint("child", any=NOTHING)
    test = PermanodeConstraint(time=TimeConstraint(), relation=relation)
    assert decode_constraint(value) == Constraint(permanode=test)


@pytest.mark.parametrize("text", ["", "0000-00-00T00:00:00Z", "0001-01-01T00:00:00Z"])
def test_a_bound_may_be_a_text_that_says_nothing(text: str) -> None:
    test = Constraint(permanode=PermanodeConstraint(time=TimeConstraint()))
    assert decode_constraint({"permanode": {"time": {"before": text, "after": text}}}) == test
    with pytest.raises(Invalid, match='cannot parse "x" as "2006"'):
        decode_constraint({"permanode": {"time": {"after": "x"}}})


def test_a_request_may_spell_out_that_nothing_is_set() -> None:
    request: dict[str, Any] = {
        "expression": "tag:paris",
        "constraint": None,
        "around": None,
        "continue": "",
        "sort": None,
        "limit": 0,
        "describe": {"blobref": None, "blobrefs": None, "at": None, "rules": None},
    }
    assert refs_of(ask(request)) == refs_of(ask({"expression": "tag:paris"})) != []


@pytest.mark.parametrize(
    "value",
    [
        *([], 1, "x", True, {"permanode": []}, {"camliType": {}}, {"anything": 1}),
        *({"blobSize": {"min": 1.5}}, {"blobSize": {"min": 2**63}}, {"blobSize": {"min": True}}),
        *({"claim": 1}, {"file": {"wholeRef": "x"}}, {"permanode": {"at": "x"}}),
        *({"file": {"wholeRef": 1}}, {"permanode": {"at": 1}}, {"nosuch": None}),
        {"permanode": {"location": {"north": "1"}}},
        {"permanode": {"location": {"north": 10**400}}},
    ],
    ids=repr,
)
def test_a_constraint_of_a_wrong_form_is_refused(value: Any) -> None:
    with pytest.raises(Invalid):
        decode_constraint(value)


def test_unknown_members_are_passed_over_on_request() -> None:
    assert decode_constraint({"nosuch": 1, "camliType": "x"}, strict=False) == Constraint(
        camli_type="x"
    )


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"anything": True}
    for _ in range(levels):
        value = {"logical": {"op": "not", "a": value}}
    return value


def test_ten_thousand_nested_constraints_are_refused() -> None:
    text = '{"constraint":' + '{"logical":{"op":"not","a":' * 10_000 + "{}" + "}}" * 10_000 + "}"
    answer = ask_text(text)
    assert (answer.status, answer.body["errorType"]) == (500, "Internal Server Error")


def test_a_constraint_that_is_too_deep_is_refused() -> None:
    with pytest.raises(TooLarge):
        decode_constraint(nested(200))
    assert ask({"constraint": nested(100)}).status == 200


def test_a_constraint_that_is_too_wide_is_refused() -> None:
    part = {"logical": {"op": "and", "a": {"anything": True}, "b": {"anything": True}}}
    for _ in range(13):
        part = {"logical": {"op": "or", "a": part, "b": part}}
    with pytest.raises(TooLarge):
        decode_constraint(part)


def test_shared_constraints_count_as_often_as_they_stand_there() -> None:
    part = Constraint(anything=True)
    for _ in range(30):
        part = Constraint(logical=LogicalConstraint("xor", part, part))
    with pytest.raises(TooLarge):
        validate(part)


def test_a_chain_of_one_operation_is_one_list() -> None:
    parts = [Constraint(camli_type=str(number)) for number in range(500)]
    chain = parts[0]
    for part in parts[1:]:
        chain = Constraint(logical=LogicalConstraint(AND, chain, part))
    assert chain.logical is not None
    assert operands(chain.logical) == parts
    validate(chain)


def test_what_is_read_can_be_written_and_read_again() -> None:
    value = {
        "permanode": {
            "attr": "count",
            "valueMatchesInt": {"min": -5, "zeroMax": True},
            "time": {"before": "2012-01-01T00:00:00Z"},
            "location": {"Any": True},
        },
        "blobSize": {"equals": 0},
        "file": {"exif": {}},
    }
    found = decode_constraint(value)
    assert found is not None
    assert encode(found) == value
    assert found.blob_size == IntConstraint(equals=0)


@pytest.mark.parametrize(
    "body", ["", " ", "hello", "{", "[]", '"x"', "{} x", "[" * 100_000, '{"a":NaN}', "\0", "nul"]
)
def test_any_body_is_answered(body: str) -> None:
    answer = ask_text(body)
    assert answer.status == (200 if body == "{} x" else 500)


@pytest.mark.parametrize(
    "pattern", ["(a*)*" * 50 + "b", "(" * 5000 + ")" * 5000, "a{1000}{1000}", "(?=x)", "\\C" * 9]
)
def test_a_regexp_is_no_bomb(pattern: str) -> None:
    test = {"attr": "title", "valueMatches": {"regexp": pattern}}
    assert ask({"constraint": {"permanode": test}, "limit": 3}).status == 200


NAMES = sorted({name for fields in FIELDS.values() for name in fields})
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["", "and", "or", "not", "parent", "child", "tag", "sha224-0", "2012-01-01T00:00:00Z", "("]
    ),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON)
def test_any_constraint_is_answered_or_refused(value: Any) -> None:
    answer = ask_text(json.dumps({"constraint": value, "limit": 5}))
    assert answer.status in (200, 500)


FORMS = {
    "Constraint": st.deferred(
        lambda: st.one_of(
            st.fixed_dictionaries({"camliType": st.sampled_from(["permanode", "file", "claim"])}),
            st.just({"anything": True}),
            st.fixed_dictionaries({"permanode": PERMANODES}),
            st.fixed_dictionaries({"logical": LOGICALS}),
        )
    )
}
VALUES = st.sampled_from(["travel", "island", "paris", "image", "Samoa", ""])
PERMANODES = st.one_of(
    st.fixed_dictionaries(
        {"attr": st.sampled_from(["tag", "title"]), "value": VALUES.filter(bool)}
    ),
    st.fixed_dictionaries(
        {
            "attr": st.sampled_from(["tag", "title"]),
            "valueMatches": st.fixed_dictionaries(
                {"contains": VALUES, "caseInsensitive": st.booleans()}
            ),
        }
    ),
    st.fixed_dictionaries({"skipHidden": st.booleans()}),
    st.just({"time": {"after": "2012-01-01T00:00:00Z", "before": "2016-01-01T00:00:00Z"}}),
    st.just({"location": {"north": 60, "south": -30, "west": -50, "east": 30}}),
    st.fixed_dictionaries(
        {"attr": st.just("camliMember"), "valueInSet": st.deferred(lambda: FORMS["Constraint"])}
    ),
    st.fixed_dictionaries(
        {
            "relation": st.fixed_dictionaries(
                {
                    "relation": st.sampled_from(["parent", "child"]),
                    "any": st.deferred(lambda: FORMS["Constraint"]),
                }
            )
        }
    ),
)
LOGICALS = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["and", "or", "xor", "not"]),
        "a": FORMS["Constraint"],
        "b": FORMS["Constraint"],
    }
)


@settings(deadline=None)
@given(FORMS["Constraint"], st.sampled_from(["blobref", "unsorted", "-created", "-mod"]))
def test_the_planner_leaves_out_nothing(constraint: Any, sort: str) -> None:
    # An alternative that has no source of candidates makes the planner look at everything.
    everything = {"logical": {"op": "xor", "a": {"anything": True}, "b": {"anything": True}}}
    unplanned = {"logical": {"op": "or", "a": constraint, "b": everything}}
    planned = ask({"constraint": constraint, "sort": sort, "limit": -1})
    if planned.status == 500 and sort in ("-created", "-mod"):
        return
    wanted = ask({"constraint": unplanned, "sort": "blobref", "limit": -1})
    if sort in ("-created", "-mod"):
        # Only what has a time, and is not deleted, is in an order of time.
        timed = set(refs_of(ask({"constraint": {"camliType": "permanode"}, "limit": -1})))
        assert set(refs_of(planned)) == set(refs_of(wanted)) & timed
    else:
        assert sorted(refs_of(planned)) == refs_of(wanted)
