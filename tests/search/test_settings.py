"""`sort:` and `at:` in expressions, completion, places that the store knows."""

from typing import Any

import pytest

from peatkeep.index.endpoints import Answer
from peatkeep.search.constraint import operands
from peatkeep.search.endpoint import answer
from peatkeep.search.manual import FORMS, SETTINGS, manual
from peatkeep.search.parser import BadExpression, parse, parse_whole
from peatkeep.search.predicates import _FIXED, _PREDICATES

from .asking import ask, refs_of, world
from .test_expressions import Names

LATER = "2098-01-01T00:00:00Z"


def found(expression: str, **members: Any) -> list[str]:
    return refs_of(ask({"expression": expression, "limit": -1, **members}))


def test_an_order_in_the_expression_is_that_of_the_request() -> None:
    for order in ("-created", "created", "-mod", "blobref"):
        assert found(f"tag:travel sort:{order}") == found("tag:travel", sort=order)
    assert found("sort:blobref tag:travel", sort="-mod") == found("tag:travel", sort="-mod")


@pytest.mark.parametrize(
    "expression",
    [
        "sort:-mod tag:a or tag:b",
        "tag:a or tag:b sort:-mod",
        "tag:a or sort:-mod and tag:b",
        "tag:a sort:-mod or tag:b",
    ],
)
def test_a_setting_leaves_the_rest_of_the_expression_alone(expression: str) -> None:
    if "or sort" in expression:
        with pytest.raises(BadExpression, match="Unknown search predicate"):
            parse(expression, Names())
    else:
        assert parse_whole(expression, Names()) == (parse("tag:a or tag:b", Names()), "-mod")


@pytest.mark.parametrize("text", ["and sort:created", "sort:created and", "sort:created"])
def test_an_and_goes_with_the_setting(text: str) -> None:
    expression = f"tag:a {text} tag:b" if text.startswith("and") else f"{text} tag:a tag:b"
    assert parse(expression, Names()) == parse("tag:a tag:b", Names())


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("-sort:created", 'Unknown search predicate: "sort:created"'),
        ("(at:2012)", 'Unknown search predicate: "at:2012"'),
        ("sort:sideways", "Unknown order: sideways"),
        ("sort:", "Wrong number of arguments"),
        ("at:x", "parsing time"),
        ('sort:"\\q"', "invalid syntax"),
    ],
)
def test_settings_that_make_no_sense_are_refused(expression: str, message: str) -> None:
    with pytest.raises(BadExpression) as raised:
        parse(expression, Names())
    assert message in raised.value.reason


def test_a_search_can_be_of_a_moment() -> None:
    assert found(f'tag:travel at:"{LATER}"') == found("tag:travel")
    assert found("tag:travel at:1990") == []


def test_a_moment_reaches_every_part_of_a_long_expression() -> None:
    constraint = parse("at:2012 " + "tag:a " * 900, Names())
    assert constraint.logical is not None
    visible, said = operands(constraint.logical)
    assert said.logical is not None
    parts = [visible, *operands(said.logical)]
    assert len(parts) == 901
    assert all(part.permanode is not None and part.permanode.at_ns for part in parts)


def test_the_manual_has_every_predicate() -> None:
    written = {word for form, _ in (*FORMS, *SETTINGS) for word in form.split()}
    assert {word.partition(":")[0] for word in written} == {
        *_PREDICATES,
        *(fixed.partition(":")[0] for fixed in _FIXED),
        "sort",
        "at",
    }
    assert set(_FIXED) <= written
    assert max(map(len, manual().splitlines())) <= 100


# -- completion and places -----------------------------------------------------------------------


def complete(**parameters: str) -> Answer:
    return answer(world().index, "GET", "complete", list(parameters.items()), b"", 0)


def texts(**parameters: str) -> list[str]:
    return [item["text"] for item in complete(**parameters).body["completions"]]


def test_attributes_are_completed() -> None:
    assert texts(prefix="camliC") == ["camliContent"]
    assert "tag" in texts(prefix="T")
    assert len(texts(max="3")) == 3


def test_values_are_completed_the_most_used_first() -> None:
    assert "travel" in texts(attr="tag", prefix="trav")
    assert texts(attr="tag", prefix="TRAV") == texts(attr="tag", prefix="trav")
    counts = [item["uses"] for item in complete(attr="tag").body["completions"]]
    assert counts == sorted(counts, reverse=True)


def test_a_limit_that_is_no_number_is_refused() -> None:
    assert complete(max="many").status == 400


def test_a_place_is_known_by_what_is_called_so() -> None:
    assert found('loc:"Eiffel Tower at night"') != []
    assert ask({"expression": "loc:atlantis"}).status == 500
