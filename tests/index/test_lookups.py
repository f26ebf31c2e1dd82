"""Lookups in cases that the golden corpus lacks."""

import time

from peatkeep.blob import Ref
from peatkeep.index.endpoints import answer
from peatkeep.index.lookups import by_value, claims, edges_to, files, paths_to, recent
from tests.index import make
from tests.index.corpus import OWNER_KEY_ID, Blob, World, signer

FAR_NS = 2**62


def world_of(*blobs: Blob) -> World:
    world = World()
    world.add([make.key(), make.key("other"), *blobs], batch=100)
    return world


def test_recent_takes_the_newest_claim_before_the_bound() -> None:
    first, second = make.permanode("p1"), make.permanode("p2")
    world = world_of(
        first,
        second,
        make.claim(first[0], "a", "1", day=1),
        make.claim(second[0], "a", "1", day=2),
        make.claim(first[0], "a", "2", day=9),
    )
    bound_ns = make.START_NS + 2 * make.DAY_NS
    listed = recent(world.index.view, 10, bound_ns + 1)["recent"]
    assert [entry["blobref"] for entry in listed] == [second[0], first[0]]
    listed = recent(world.index.view, 10, bound_ns)["recent"]
    assert [entry["blobref"] for entry in listed] == [first[0]]
    assert listed[0]["owner"] == signer().ref


def test_recent_merges_the_keys_of_the_owner() -> None:
    first, second = make.permanode("p1"), make.permanode("p2")
    foreign = make.signed(
        {
            "camliType": "claim",
            "claimType": "set-attribute",
            "permaNode": second[0],
            "attribute": "a",
            "value": "b",
        },
        day=5,
        by="other",
    )
    world = world_of(first, second, make.claim(first[0], "a", "1"), foreign)
    both = World(world.kv, world.blobs, [OWNER_KEY_ID, signer("other").key_id])
    listed = recent(both.index.view, 10, FAR_NS)["recent"]
    assert [entry["blobref"] for entry in listed] == [second[0], first[0]]
    assert [entry["owner"] for entry in listed] == [signer("other").ref, signer().ref]


def test_an_edge_from_a_parent_that_is_not_indexed_is_passed_over() -> None:
    parent, child = make.permanode("p1"), make.permanode("p2")
    world = world_of(child, make.claim(parent[0], "camliMember", child[0]))
    assert edges_to(world.index.view, child[0])["edgesTo"] is None
    world.add([parent])
    found = edges_to(world.index.view, child[0])["edgesTo"]
    assert found == [{"from": parent[0], "fromType": "permanode"}]
    world.add([make.delete(parent[0])])
    assert edges_to(world.index.view, child[0])["edgesTo"] is None


def test_a_path_of_any_length_is_found_by_its_target() -> None:
    base, target = make.permanode("p1"), make.permanode("p2")
    suffix = "ordner/ä" * 100
    world = world_of(base, target, make.claim(base[0], f"camliPath:{suffix}", target[0]))
    (path,) = paths_to(world.index.view, OWNER_KEY_ID, target[0])["paths"]
    assert (path["baseRef"], path["suffix"]) == (base[0], suffix)


def test_a_path_in_a_deleted_base_is_none() -> None:
    base, target = make.permanode("p1"), make.permanode("p2")
    world = world_of(base, target, make.claim(base[0], "camliPath:x", target[0]))
    world.add([make.delete(base[0])])
    assert paths_to(world.index.view, OWNER_KEY_ID, target[0])["paths"] is None


def test_by_value_prefers_the_newest_and_takes_deleted_claims() -> None:
    first, second = make.permanode("p1"), make.permanode("p2")
    old, new = make.claim(first[0], "tag", "x", 1), make.claim(second[0], "tag", "x", 2)
    world = world_of(first, second, old, new, make.delete(new[0]))
    assert by_value(world.index.view, OWNER_KEY_ID, "tag", "x")["permanode"] == second[0]
    world.add([make.delete(second[0], 3)])
    assert by_value(world.index.view, OWNER_KEY_ID, "tag", "x")["permanode"] == first[0]


def test_files_are_found_by_their_content() -> None:
    chunk = make.blob(b"text")
    one, two = make.file([make.part(chunk)], "one"), make.file([make.part(chunk)], "two")
    world = world_of(chunk, one, two)
    absent = Ref.of(b"absent")
    found = files(world.index.view, [chunk[0], absent])
    assert found == {"files": {chunk[0]: sorted([one[0], two[0]]), absent: None}}


def test_claims_of_other_signers_are_not_listed() -> None:
    node = make.permanode("p")
    world = world_of(node, make.delete(node[0], by="other"))
    assert claims(world.index.view, node[0]) == {"claims": None}


def test_many_claims_of_one_permanode_are_read_in_time() -> None:
    node = make.permanode("p")
    world = world_of(node)
    ref = make.claim(node[0], "a", "b")[0]
    for number in range(3000):
        date = f"2020-01-01T00:00:{number % 60:02d}Z"
        key = f"claim|{node[0]}|{OWNER_KEY_ID}|{date}|{ref[:-4]}{number:04d}"
        world.kv.set(key.encode(), f"add-attribute|n|{number}|{signer().ref}".encode())
    query = [("blobref", str(node[0]))]
    got = answer(world.index.view, "GET", "describe", query, b"", time.time_ns())
    assert len(got.body["meta"][node[0]]["permanode"]["attr"]["n"]) == 3000
