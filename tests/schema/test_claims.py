from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.blob import Ref
from peatkeep.errors import Invalid, NotFound
from peatkeep.schema import claims as make
from peatkeep.schema.claims import (
    Claim,
    attributes,
    deleted_refs,
    in_order,
    modified_ns,
    read_claim,
    search_attributes,
    state,
)
from peatkeep.schema.parse import parse
from peatkeep.schema.signing import verify
from peatkeep.schema.text import encode
from peatkeep.schema.times import parse_time
from tests.schema.keys import VECTORS, Blobs, signer, vectors

CLAIMS = vectors("claims.json")
A, B = signer("A"), signer("B")
P = Ref.of(b"a permanode")


class Scenario:
    """A scenario of claims.json, its blobs verified and read as an index does."""

    def __init__(self, case: dict[str, Any]) -> None:
        keys = CLAIMS["publicKeys"].values()
        blobs = Blobs(*[(VECTORS / key["file"]).read_bytes() for key in keys])
        self.owner = case["owner"]
        self.labels = {Ref(blob["ref"]): blob["label"] for blob in case["blobs"]}
        self.claims = []
        permanodes = set()
        for blob in case["blobs"]:
            data = blob["text"].encode()
            ref = blobs.add(data)
            assert ref == blob["ref"]
            schema = parse(data)
            if schema is None or schema.type not in ("claim", "permanode"):
                continue
            try:
                signed = verify(data, blobs)
            except (Invalid, NotFound):
                continue
            claim = read_claim(ref, schema, signed)
            if claim is not None:
                self.claims.append(claim)
            elif schema.type == "permanode":
                permanodes.add(ref)
        deletable = permanodes | {claim.ref for claim in self.claims}
        self.deleted = deleted_refs(self.claims, deletable.__contains__)

    def about(self, permanode: str) -> list[Claim]:
        return [claim for claim in self.claims if claim.permanode == permanode]


def recorded(case: dict[str, Any]) -> dict[str, Any]:
    """What the format says: where a running server differs, its answer after a restart."""
    return {**case, **case.get("afterRestart", {})}


@pytest.mark.vectors("schema")
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case["name"]) for case in CLAIMS["scenarios"]]
)
def test_a_recorded_scenario_comes_out_as_recorded(case: dict[str, Any]) -> None:
    scenario = Scenario(case)
    for expect in recorded(case)["expect"]:
        at_ns = parse_time(expect["at"]) if expect["at"] else None
        about = scenario.about(expect["permanode"])
        if expect["describe"] is not None:  # null where the target is no permanode
            found = state(about, at_ns, {scenario.owner}, scenario.deleted)
            assert found.attributes == expect["describe"]
            modified = parse_time(expect["modTime"]) if "modTime" in expect else None
            assert found.modified_ns == modified
        for key_id, values in expect["search"].items():
            key_ids = None if key_id == "any" else {key_id}
            assert search_attributes(about, at_ns, key_ids) == values
    deleted = {scenario.labels[ref] for ref in scenario.deleted}
    assert deleted == set(recorded(case)["deleted"])


NOT_BUILT = {"any-json-layout", "signer-by-sha1-ref", "server-sign-handler"}


def rebuilt(members: dict[str, Any]) -> dict[str, object]:
    """The same members, by the builder for them."""
    if members["camliType"] == "permanode":
        return make.planned_permanode(members["key"])
    kind, target = members["claimType"], members.get("target")
    if kind == "delete":
        return make.delete(Ref(members["target"]))
    if kind == "share":
        expires = members.get("expires")
        expires_ns = parse_time(expires) if expires else None
        if target is None:
            return make.share_search(
                members["search"], transitive=members["transitive"], expires_ns=expires_ns
            )
        return make.share(Ref(target), transitive=members["transitive"], expires_ns=expires_ns)
    builder = {
        "set-attribute": make.set_attribute,
        "add-attribute": make.add_attribute,
        "del-attribute": make.del_attribute,
    }[kind]
    return builder(Ref(members["permaNode"]), members["attribute"], members.get("value", ""))


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case["name"])
        for case in vectors("signing.json")["sign"]
        if case["deterministic"] and case["name"] not in NOT_BUILT
    ],
)
def test_the_builders_make_the_recorded_blobs(case: dict[str, Any]) -> None:
    unsigned = parse(case["unsigned"].encode())
    assert unsigned is not None
    date_ns = unsigned.time_ns("claimDate")
    assert date_ns is not None
    members = rebuilt(dict(unsigned.members))
    assert signer(case["key"]).sign_members(members, date_ns) == case["signed"].encode()


def claim(name: str, kind: str, date_ns: int = 10, key_id: str = A.key_id, **fields: Any) -> Claim:
    about = {} if kind == "delete" else {"permanode": P, "attribute": "tag"}
    return Claim(Ref.of(name.encode()), A.ref, key_id, date_ns, kind, **(about | fields))


def test_two_random_permanodes_differ_and_hold_twenty_bytes() -> None:
    one, two = make.random_permanode(), make.random_permanode()
    assert one != two
    assert len(str(one["random"])) == 28
    assert make.random_permanode(b"\0" * 20)["random"] == "A" * 27 + "="


def test_a_keep_names_what_it_keeps() -> None:
    assert make.keep(P) == {"camliType": "keep", "target": P}


@pytest.mark.parametrize(
    "members",
    [
        {"camliType": "permanode", "claimDate": "2020-01-01T00:00:00Z", "claimType": "delete"},
        {"camliType": "claim", "claimDate": "2020-01-01T00:00:00Z"},
        {"camliType": "claim", "claimDate": "2020-01-01T00:00:00Z", "claimType": ""},
        {"camliType": "claim", "claimType": "delete"},
        {"camliType": "claim", "claimType": "delete", "claimDate": "1970-01-01T00:00:00.9Z"},
        {"camliType": "claim", "claimType": "delete", "claimDate": "0000-00-00T00:00:00Z"},
        {"camliType": "claim", "claimType": "delete", "claimDate": "0001-01-01T00:00:00Z"},
    ],
)
def test_a_blob_that_counts_as_no_claim_is_none(members: dict[str, object]) -> None:
    data = A.sign(encode({**members, "camliSigner": A.ref, "target": P}), 0)
    schema = parse(data)
    assert schema is not None
    assert read_claim(Ref.of(data), schema, verify(data, Blobs(A.public_text))) is None


def test_a_claim_of_the_last_second_before_1970_counts() -> None:
    data = A.sign_members(make.delete(P), -1)
    schema = parse(data)
    assert schema is not None
    read = read_claim(Ref.of(data), schema, verify(data, Blobs(A.public_text)))
    assert read == Claim(Ref.of(data), A.ref, A.key_id, -1, "delete", target=P)


def test_claims_of_one_date_count_in_the_order_of_their_refs() -> None:
    claims = [claim(name, "set-attribute", value=name) for name in "abcdefgh"]
    last = max(claims, key=lambda claim: claim.ref)
    assert in_order(claims)[-1] == last
    for order in (claims, claims[::-1]):
        assert attributes(order) == {"tag": [last.value]}


def test_many_values_of_an_attribute_are_no_trouble() -> None:
    claims = [claim(str(n), "add-attribute", n, value=str(n)) for n in range(20_000)]
    assert len(attributes(claims)["tag"]) == 20_000


def test_a_value_deleted_and_added_again_stands_last() -> None:
    claims = [
        claim("1", "add-attribute", 1, value="x"),
        claim("2", "add-attribute", 2, value="y"),
        claim("3", "del-attribute", 3, value="x"),
        claim("4", "add-attribute", 4, value="x"),
    ]
    assert attributes(claims) == search_attributes(claims) == {"tag": ["y", "x"]}


def test_search_ignores_deleted_claims_when_it_is_told_which() -> None:
    claims = [claim("1", "set-attribute", 1, value="x"), claim("2", "set-attribute", 2, value="y")]
    deleted = {claims[1].ref}
    assert search_attributes(claims) == {"tag": ["y"]}
    assert search_attributes(claims, deleted=deleted) == {"tag": ["x"]}


def test_what_changed_last_counts_deletes_that_are_in_force() -> None:
    set_one = claim("1", "set-attribute", 1, value="x")
    delete = claim("2", "delete", 5, target=P)
    undelete = claim("3", "delete", 9, target=delete.ref)
    assert modified_ns(P, []) is None
    for claims, wanted in ([set_one], 1), ([set_one, delete], 5), ([set_one, delete, undelete], 1):
        assert modified_ns(P, claims, deleted_refs(claims)) == wanted


# -- deleting -----------------------------------------------------------------------------------


def test_deletes_in_a_circle_delete_nothing_and_end() -> None:
    one, two = Ref.of(b"1"), Ref.of(b"2")
    circle = [claim("1", "delete", target=two), claim("2", "delete", target=one)]
    itself = [claim("3", "delete", target=Ref.of(b"3"))]
    assert deleted_refs(circle) == deleted_refs(itself) == frozenset()
    assert deleted_refs([*circle, claim("4", "delete", target=one)]) == {one}


def test_a_long_chain_of_deletes_is_followed_to_its_end() -> None:
    refs = [Ref.of(str(n).encode()) for n in range(5001)]
    chain = [claim(str(n + 1), "delete", target=refs[n]) for n in range(5000)]
    assert deleted_refs(chain) == {ref for n, ref in enumerate(refs) if n % 2 == 1}


def test_the_deletes_of_others_count_unless_signers_are_given() -> None:
    by_other = claim("1", "delete", target=P, key_id=B.key_id)
    assert deleted_refs([by_other]) == {P}
    assert deleted_refs([by_other], key_ids={A.key_id}) == frozenset()


def test_only_what_can_be_deleted_is_deleted() -> None:
    assert deleted_refs([claim("1", "delete", target=P)], lambda ref: ref != P) == frozenset()


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=25), st.randoms())
def test_deletes_agree_with_the_definition_in_any_order(
    edges: list[tuple[int, int]], random: Any
) -> None:
    # A claim deletes one target of a lower number: no circles, so the definition is recursive.
    target_of = {max(edge): min(edge) for edge in edges if edge[0] != edge[1]}

    def is_deleted(number: int) -> bool:
        return any(not is_deleted(by) for by, target in target_of.items() if target == number)

    claims = [
        claim(str(by), "delete", target=Ref.of(str(target).encode()))
        for by, target in target_of.items()
    ]
    wanted = {Ref.of(str(number).encode()) for number in range(13) if is_deleted(number)}
    random.shuffle(claims)
    assert deleted_refs(claims + claims[:2]) == wanted
