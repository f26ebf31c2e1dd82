"""Search expressions against the golden constraints and errors."""

import contextlib
import json
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.errors import Invalid
from peatkeep.search.constraint import Constraint, LocationConstraint, PermanodeConstraint
from peatkeep.search.encode import encode
from peatkeep.search.parser import BadExpression, parse
from tests.index.corpus import vectors

DIFFERENCES = Path(__file__).parent / "differences.toml"


class Names:
    """A resolver that knows one search and one place."""

    def named(self, name: str) -> Constraint:
        if name != "known":
            raise Invalid("find", "named search", f"No named search found for: {name}")
        return Constraint(permanode=PermanodeConstraint(attr="tag", value="known"))

    def places(self, name: str) -> Sequence[LocationConstraint]:
        if name != "here":
            return ()
        return LocationConstraint(north=2, west=1, east=2, south=1), LocationConstraint(any=True)


@cache
def differences() -> dict[str, dict[str, Any]]:
    listed = tomllib.loads(DIFFERENCES.read_text())["expression"]
    return {entry["expression"]: entry for entry in listed}


@pytest.mark.vectors("search")
@pytest.mark.parametrize("case", vectors("expressions"), ids=lambda case: case["expression"])
def test_an_expression_means_what_it_means_to_perkeep(case: dict[str, Any]) -> None:
    if case["expression"] in differences():
        same = differences()[case["expression"]]["same_as"]
        assert parse(case["expression"], Names()) == parse(same, Names())
        assert encode(parse(case["expression"], Names())) != case["constraint"]
    elif "error" in case:
        with pytest.raises(BadExpression) as raised:
            parse(case["expression"], Names())
        assert raised.value.reason == case["error"]
    else:
        assert encode(parse(case["expression"], Names())) == case["constraint"]


def test_every_listed_difference_is_of_a_vector() -> None:
    assert differences().keys() <= {case["expression"] for case in vectors("expressions")}


@pytest.mark.parametrize(
    ("expression", "wanted"),
    [
        ("loc:here", {"op": "or"}),
        ("named:known", {"attr": "tag", "value": "known"}),
        ("width:0", {"zeroMin": True, "zeroMax": True}),
        ("width:7", {"min": 7, "max": 7}),
    ],
)
def test_predicates_without_a_vector(expression: str, wanted: dict[str, Any]) -> None:
    found = json.dumps(encode(parse(expression, Names())))
    for name, value in wanted.items():
        assert f"{json.dumps(name)}: {json.dumps(value)}" in found


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ('"open', 'Unclosed quote at position 0, token: "Unclosed quote"'),
        ('tag:a "open', 'Unclosed quote at position 6, token: "Unclosed quote"'),
        ("ü:x ü", 'Unknown search predicate: "ü:x" at position 0, token: "ü:x"'),
        ("tag:ü ü", 'No support for literals yet at position 7, token: "ü"'),
        ("named:unknown", 'No named search found for: unknown at position 0, token: "named:'),
        ("loc:nowhere", 'No location found for "nowhere" at position 0'),
        ("x²:y", 'No support for literals yet at position 0, token: "x²"'),
        ('before:"2012-01-32T00:00:0xZ"', 'cannot parse "0xZ" as "05" at position 0'),
        ('before:"2012-02-30T00:00:00Z"', '": day out of range at position 0'),
        (
            'after:"2012-01-01T00:00:00+25:00"',
            '": time zone offset hour out of range at position 0',
        ),
        ("(tag:a -", "Expected an atom at position -1"),
        ("before:2012-02-30", 'parsing time "2012-02-30T00:00:00Z": day out of range at'),
        ('before:"2012-02-03T00:00:00Zx"', 'parsing time "2012-02-03T00:00:00Zx": extra text: "x"'),
        ("locrect:1e999,2,3,4", 'parsing "1e999": value out of range'),
        (r'tag:"\q"', "invalid syntax"),
        (r'tag:"\400"', "invalid syntax"),
        (r'tag:"\ud800"', "invalid syntax"),
        ('tag:"a\nb"', "invalid syntax"),
    ],
)
def test_errors_without_a_vector(expression: str, message: str) -> None:
    with pytest.raises(BadExpression) as raised:
        parse(expression, Names())
    assert message in raised.value.reason


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 10_000 + "tag:a" + ")" * 10_000,
        "-(" * 10_000 + "tag:a" + ")" * 10_000,
        "tag:a " * 10_000,
        "tag:a or " * 10_000,
        "x" * 100_000,
        "-" * 70_000,
    ],
    ids=["parentheses", "negations", "terms", "alternatives", "length", "minuses"],
)
def test_an_expression_over_a_limit_is_refused(expression: str) -> None:
    with pytest.raises(BadExpression) as raised:
        parse(expression, Names())
    assert "ver " in raised.value.reason


def test_a_thousand_terms_are_taken() -> None:
    found = parse("tag:a " * 500 + "or tag:b " * 500, Names())
    assert found.logical is not None


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(expression: str) -> None:
    with contextlib.suppress(BadExpression):
        parse(expression, Names())


PIECES = st.sampled_from(
    [
        *("tag", ":", '"', "(", ")", "-", " ", "and", "or", "is:image", "width:", "1-2", "\\", "a"),
        *(
            "before:",
            "2012",
            "named:known",
            "loc:here",
            "attr:a:",
            "~",
            "é",
            "\u00a0",
            "\n",
            "\x00",
        ),
    ]
)


@given(st.lists(PIECES, max_size=25).map("".join))
def test_any_pieces_of_expressions_are_parsed_or_refused(expression: str) -> None:
    with contextlib.suppress(BadExpression):
        encode(parse(expression, Names()))
