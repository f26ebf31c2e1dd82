"""Describe: rules, depth, limits, and requests as they come over the wire."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.blob import Ref
from peatkeep.errors import Invalid
from peatkeep.index import describe as describe_module
from peatkeep.index.describe import DescribeRequest, Rule, describe_meta
from peatkeep.index.endpoints import answer
from peatkeep.index.parameters import (
    BadParameter,
    describe_by_body,
    describe_by_json,
    describe_by_query,
)
from tests.index import make
from tests.index.corpus import World

REF = Ref.of(b"x")


def chain(length: int) -> tuple[World, list[Ref]]:
    """Permanodes of which each has the next as a member, and the last the first."""
    nodes = [make.permanode(f"p{number}") for number in range(length)]
    refs = [ref for ref, _ in nodes]
    members = [
        make.claim(ref, "camliMember", refs[(number + 1) % length])
        for number, ref in enumerate(refs)
    ]
    world = World()
    world.add([make.key(), *nodes, *members], batch=100)
    return world, refs


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 9])
def test_each_level_of_depth_is_one_step_along_attributes(depth: int) -> None:
    world, refs = chain(4)
    meta = describe_meta(world.index.view, DescribeRequest((refs[0],), depth))
    assert set(meta) == set(refs[:depth])


def test_a_blob_is_described_at_its_greatest_depth() -> None:
    world, refs = chain(5)
    # refs[1] is met at depth 1 from refs[0] and asked for at depth 2 itself.
    meta = describe_meta(world.index.view, DescribeRequest((refs[0], refs[1]), 2))
    assert set(meta) == set(refs[:3])


def test_rules_follow_a_circle_once() -> None:
    world, refs = chain(4)
    rules = (Rule(("camli*",)),)
    meta = describe_meta(world.index.view, DescribeRequest((refs[0],), rules=rules))
    assert set(meta) == set(refs)


def test_a_nested_rule_applies_only_to_what_its_parent_led_to() -> None:
    world, refs = chain(5)
    member = ("camliMember",)
    rules = (Rule(member, if_result_root=True), Rule(member, parent=0), Rule(("none",), parent=1))
    meta = describe_meta(world.index.view, DescribeRequest((refs[0],), rules=rules))
    assert set(meta) == set(refs[:3])


def test_an_answer_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describe_module, "MAX_DESCRIBED", 3)
    world, refs = chain(6)
    meta = describe_meta(world.index.view, DescribeRequest((refs[0],), 6))
    assert set(meta) == set(refs[:3])


def test_a_directory_without_rows_is_described_as_far_as_it_goes() -> None:
    folder = make.directory(make.blob(b"no set")[0])
    world = World()
    world.add([make.blob(b"no set"), folder], batch=2)
    assert describe_meta(world.index.view, DescribeRequest((folder[0],))) == {
        folder[0]: {"blobRef": folder[0], "camliType": "directory", "size": len(folder[1])}
    }


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ([], 'Missing parameter "blobref"'),
        ([("blobref", "")], 'Missing parameter "blobref"'),
        ([("blobref", "zz")], 'Invalid parameter "blobref"'),
        ([("blobref", REF), ("depth", "1.5")], 'Invalid parameter "depth"'),
        ([("blobref", REF), ("depth", "9" * 30)], 'Invalid parameter "depth"'),
        ([("blobref", REF), ("maxdirchildren", "+")], 'Invalid parameter "maxdirchildren"'),
    ],
)
def test_a_wrong_parameter_is_named(query: list[tuple[str, str]], error: str) -> None:
    with pytest.raises(BadParameter) as raised:
        describe_by_query(query)
    assert raised.value.reason == error
    got = answer(World().index.view, "GET", "describe", query, b"", 0)
    assert got == (400, {"error": error, "errorType": "Bad Request"})


def test_numbers_out_of_range_become_usual_ones() -> None:
    query = [("blobref", REF), ("depth", "-1"), ("maxdirchildren", "1001")]
    assert describe_by_query(query) == DescribeRequest((REF,), 1, 50)
    assert describe_by_json({"depth": 2**62, "maxDirChildren": 0}) == DescribeRequest((), 1000, 50)


def test_nested_rules_are_laid_flat_with_parents_first() -> None:
    body = {"rules": [{"attrs": ["a"], "rules": [{"attrs": ["b"]}]}, {"ifResultRoot": True}]}
    assert describe_by_json(body).rules == (
        Rule(("a",)),
        Rule((), if_result_root=True),
        Rule(("b",), parent=0),
    )


def test_nulls_stand_for_absence() -> None:
    body = dict.fromkeys(("blobref", "blobrefs", "depth", "maxDirChildren", "at", "rules"))
    assert describe_by_json(body) == describe_by_json(None) == DescribeRequest(())


@pytest.mark.parametrize(
    "value",
    [
        *([], 1, "x", {"depth": "1"}, {"depth": True}, {"blobrefs": REF}, {"at": "x"}),
        *({"rules": {}}, {"rules": [1]}, {"rules": [{"attrs": [1]}]}, {"blobref": 5}),
        {"rules": [{"ifResultRoot": 1}]},
        {"rules": [{}] * 1001},
    ],
)
def test_a_member_of_a_wrong_type_is_refused(value: Any) -> None:
    with pytest.raises(Invalid):
        describe_by_json(value)


@pytest.mark.parametrize("body", [b"", b" ", b"nope", b"{", b"\xff", b"[" * 100_000, b'"'])
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    got = answer(World().index.view, "POST", "describe", [], body, 0)
    assert (got.status, got.body["errorType"]) == (500, "Internal Server Error")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(str(REF)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["blobref", "blobrefs", "depth", "at", "rules", "attrs", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_answered_or_refused(value: Any) -> None:
    got = answer(World().index.view, "POST", "describe", [], json.dumps(value).encode(), 0)
    assert got.status in (200, 500)


@given(st.binary(max_size=60))
def test_any_body_is_answered_or_refused(body: bytes) -> None:
    with contextlib.suppress(Invalid):
        describe_by_body(body)
