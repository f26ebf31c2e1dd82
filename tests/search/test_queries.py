"""Queries against the golden answers."""

from typing import Any

import pytest

from peatkeep.search.endpoint import answer_query
from tests.index import make
from tests.index.corpus import World, vectors

from .asking import Json, ask, ask_text, differences, refs_of, world


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


@pytest.mark.parametrize("sort", ["-created", "-mod"])
@pytest.mark.parametrize("limit", [1, 7, 95])
def test_pages_have_every_result_once_also_those_before_1970(sort: str, limit: int) -> None:
    request = {"constraint": {"camliType": "permanode"}, "sort": sort, "limit": -1}
    everything = refs_of(ask(request))
    request["limit"] = limit
    pages: list[str] = []
    while True:
        answer = ask(request)
        pages += refs_of(answer)
        if "continue" not in answer.body:
            break
        request["continue"] = answer.body["continue"]
    assert pages == everything


def test_an_explanation_tells_what_was_looked_at() -> None:
    explained = ask({"expression": "tag:paris title:eiffel", "explain": True}).body["explain"]
    assert explained["sources"] == ["tag = paris", "values of title …"]
    assert explained["tested"] == explained["matched"] == 1
    assert explained["candidates"] == "permanodes by time, of title with eiffel"


def test_a_query_is_given_up_when_it_takes_too_long() -> None:
    body = b'{"constraint": {"anything": true}, "limit": -1}'
    answer = answer_query(world().index, body, 0, patience_s=-1.0)
    assert answer.status == 503
    assert answer.body["errorType"] == "Service Unavailable"


def test_what_arrives_is_found_by_the_next_query() -> None:
    fresh = World()
    permanode = make.permanode("fresh")
    fresh.add([make.key(), permanode])
    request = {"expression": "tag:fresh"}
    assert refs_of(ask(request, fresh)) == []
    tagged = make.claim(permanode[0], "tag", "fresh")
    fresh.add([tagged])
    assert refs_of(ask(request, fresh)) == [permanode[0]]
    deleted = make.delete(tagged[0])
    fresh.add([deleted])
    assert refs_of(ask(request, fresh)) == []
    fresh.add([make.delete(deleted[0])])
    assert refs_of(ask(request, fresh)) == [permanode[0]]


def test_named_searches_in_a_circle_are_refused() -> None:
    fresh = World()
    permanode, text = make.permanode("circle"), make.blob(b"named:circle")
    fresh.add(
        [
            *(make.key(), permanode, text),
            make.claim(permanode[0], "camliNamedSearch", "circle"),
            make.claim(permanode[0], "camliContent", text[0]),
        ]
    )
    answer = ask({"expression": "named:circle"}, fresh)
    assert answer.status == 500
    assert "Over 10 named searches within each other" in answer.body["error"]
