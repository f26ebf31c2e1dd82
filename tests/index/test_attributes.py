"""Attributes, deletions and places; claims.json of the schema vectors through the rows."""

import json
from typing import Any

import pytest

from peatkeep.blob import Ref
from peatkeep.index.attributes import attributes_of, evaluate, place_of
from peatkeep.schema.claims import Claim
from peatkeep.schema.times import parse_time
from peatkeep.sorted.kv import Batch
from tests.index import make
from tests.index.corpus import VECTORS, World, signer

NODE = Ref.of(b"node")


def claim(kind: str, attribute: str, value: str = "", day: int = 1) -> Claim:
    ref = Ref.of(f"{kind}{attribute}{value}{day}".encode())
    date_ns = parse_time(f"2020-01-{day:02d}T00:00:00Z")
    return Claim(ref, NODE, "K", date_ns, kind, NODE, attribute, value)


def set_(attribute: str, value: str, day: int = 1) -> Claim:
    return claim("set-attribute", attribute, value, day)


def test_the_modification_time_of_what_no_claim_modified_is_that_of_perkeep() -> None:
    assert evaluate([]).modified == "0001-01-01T00:00:00Z"
    assert evaluate([set_("a", "1", 3)]).modified == "2020-01-03T00:00:00Z"


def test_a_moment_counts_itself() -> None:
    claims = [set_("a", "1", 1), set_("a", "2", 2)]
    second = parse_time("2020-01-02T00:00:00Z")
    assert evaluate(claims, second).values == {"a": ["2"]}
    assert evaluate(claims, second - 1).values == {"a": ["1"]}


def test_claims_are_in_the_order_of_time_also_within_a_second() -> None:
    world = World()
    node = make.permanode("p")
    members = {
        "camliType": "claim",
        "claimType": "set-attribute",
        "permaNode": node[0],
        "attribute": "a",
    }
    offsets_ns = (500_000_000, 0, 450_000_000, 1_000_000_000, 999_999_999)
    blobs = [
        make.blob(signer().sign_members({**members, "value": str(offset)}, make.START_NS + offset))
        for offset in offsets_ns
    ]
    world.add([make.key(), node, *blobs], batch=9)
    got = [int(row.value) for row in world.index.view.claims(node[0])]
    assert got == sorted(offsets_ns)


def test_deleting_and_undeleting_alternate() -> None:
    world = World()
    node = make.permanode("p")
    world.add([make.key(), node], batch=2)
    target = node[0]
    for number in range(5):
        deletion = make.delete(target, number)
        world.add([deletion])
        assert world.index.view.is_deleted(node[0]) == (number % 2 == 0)
        target = deletion[0]


@pytest.mark.parametrize("length", [3000, 3001])
def test_a_long_chain_of_deletions_has_an_end(length: int) -> None:
    world = World()
    batch = Batch()
    for number in range(length):
        batch.set(f"deleted|sha1-{number:040x}|rt1|sha1-{number + 1:040x}".encode(), b"")
    world.kv.commit(batch)
    assert world.index.view.is_deleted(f"sha1-{0:040x}") == (length % 2 == 1)


def test_each_of_several_delete_claims_must_be_deleted() -> None:
    world = World()
    node = make.permanode("p")
    first, second = make.delete(node[0], 1), make.delete(node[0], 2, "other")
    world.add([make.key(), make.key("other"), node, first, second, make.delete(first[0], 3)], 9)
    assert world.index.view.is_deleted(node[0])
    world.add([make.delete(second[0], 4)])
    assert not world.index.view.is_deleted(node[0])


def test_damaged_rows_that_delete_in_a_circle_end() -> None:
    world = World()
    world.kv.set(b"deleted|sha1-a|rt1|sha1-b", b"")
    world.kv.set(b"deleted|sha1-b|rt1|sha1-a", b"")
    assert world.index.view.is_deleted("sha1-a") == world.index.view.is_deleted("sha1-b")


@pytest.mark.parametrize(
    ("latitude", "longitude", "place"),
    [
        ("1.5", "-2", (1.5, -2.0)),
        ("95", "200", (95.0, 200.0)),
        ("x", "1", None),
        ("nan", "1", None),
        ("1", "inf", None),
        ("1", "", None),
    ],
)
def test_a_place_in_attributes(
    latitude: str, longitude: str, place: tuple[float, float] | None
) -> None:
    claims = [set_("latitude", latitude), set_("longitude", longitude)]
    assert place_of(World().index.view, evaluate(claims)) == place


# -- the scenarios of the schema vectors --------------------------------------------------------

CLAIMS = json.loads((VECTORS.parent / "schema" / "claims.json").read_bytes())


def scenario_world(case: dict[str, Any]) -> World:
    world = World(owner_key_ids=[case["owner"]])
    folder = VECTORS.parent / "schema"
    keys = [(folder / key["file"]).read_bytes() for key in CLAIMS["publicKeys"].values()]
    blobs = [blob["text"].encode() for blob in case["blobs"]]
    world.add([make.blob(data) for data in [*keys, *blobs]])
    return world


@pytest.mark.vectors("schema")
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["name"]) for case in CLAIMS["scenarios"]]
)
def test_a_scenario_of_claims_comes_out_as_recorded(case: dict[str, Any]) -> None:
    world = scenario_world(case)
    view = world.index.view
    labels = {blob["label"]: blob["ref"] for blob in case["blobs"]}
    # Where a running server differs: its answer after a restart.
    expected = {**case, **case.get("afterRestart", {})}
    for expect in expected["expect"]:
        at_ns = parse_time(expect["at"]) if expect["at"] else None
        if expect["describe"] is not None:
            found = attributes_of(view, expect["permanode"], at_ns)
            assert found.values == expect["describe"]
            if "modTime" in expect:
                assert found.modified == expect["modTime"]
    deleted = {label for label, ref in labels.items() if view.is_deleted(ref)}
    assert deleted == set(expected.get("deleted") or ())
    claim_rows = [row for row in world.rows() if row[0].startswith((b"claim|", b"deleted|"))]
    assert [b" -> ".join(row).decode() for row in claim_rows] == expected["claimRows"]
