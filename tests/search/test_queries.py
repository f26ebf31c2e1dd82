"""Queries against the golden answers."""

from typing import Any

import pytest

from tests.index.corpus import vectors

from .asking import Json, ask, ask_text, differences, refs_of


def in_order(value: Any) -> Any:
    """A description with its sets sorted, as the vectors have them."""
    if isinstance(value, list):
        return [in_order(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: in_order(item) for name, item in value.items()}
    if "dirChildren" in found:
        found["dirChildren"].sort()
    return found


def wanted_refs(case: Json) -> list[str]:
    """The right results: without what only a defect shows."""
    if "correct" in case:
        return list(case["correct"])
    left_out = case.get("deletedInResults", ())
    golden = case["response"]["blobs"] or ()
    return [entry["blob"] for entry in golden if entry["blob"] not in left_out]


def check(case: Json) -> None:
    """Ask and compare, as tests/vectors/search/README.md says."""
    answer = ask_text(case["requestBody"]) if "requestBody" in case else ask(case["request"])
    golden = case["response"]
    assert answer.status == case["status"]
    if answer.status != 200:
        assert answer.body["errorType"] == golden["errorType"]
        if case["id"] not in differences("words"):
            assert answer.body["error"] == golden["error"]
        return
    got, wanted = refs_of(answer), wanted_refs(case)
    if case["order"] == "exact":
        assert got == wanted
    elif case["order"] == "set":
        assert sorted(got) == sorted(wanted)
    else:
        assert case["order"] == f"any{len(set(got))}"
    if "correct" not in case and "varies" not in case:
        assert answer.body["LocationArea"] == golden["LocationArea"]
        assert answer.body.get("continue") == golden.get("continue")
        assert in_order(answer.body["description"]) == in_order(golden["description"])


@pytest.mark.vectors("search")
@pytest.mark.parametrize("case", vectors("queries"), ids=lambda case: case["id"])
def test_a_query_is_answered_as_by_perkeep(case: Json) -> None:
    check(case)


@pytest.mark.vectors("search")
@pytest.mark.parametrize("case", vectors("errors"), ids=lambda case: case["id"])
def test_a_bad_query_is_refused_as_by_perkeep(case: Json) -> None:
    check(case)


@pytest.mark.vectors("search")
@pytest.mark.parametrize("case", vectors("continuation"), ids=lambda case: case["id"])
def test_pages_follow_each_other_as_with_perkeep(case: Json) -> None:
    for page in case["pages"]:
        answer = ask(page["request"])
        assert answer == (page["status"], page["response"])


def test_every_listed_difference_is_a_defect_of_a_vector_and_the_other_way_round() -> None:
    cases = [*vectors("queries"), *vectors("errors")]
    defects = {case["id"] for case in cases if {"defect", "deletedInResults"} & case.keys()}
    assert differences("query").keys() == defects
    assert differences("words").keys() <= {case["id"] for case in cases if case["status"] == 500}
