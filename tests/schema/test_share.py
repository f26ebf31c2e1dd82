import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peatkeep.blob import Ref
from peatkeep.errors import Corrupt, NotFound, Unavailable
from peatkeep.schema import claims as make
from peatkeep.schema.claims import deleted_refs, read_claim
from peatkeep.schema.parse import parse
from peatkeep.schema.share import MAX_CHAIN, Decision, Refusal, authorise, links
from peatkeep.schema.signing import SEPARATOR, verify
from peatkeep.schema.text import encode
from peatkeep.schema.times import parse_time
from tests.schema.keys import Blobs, signer, vectors

SHARE = vectors("share.json")
NOW_NS = parse_time("2026-11-21T12:00:00Z")
A, B = signer("A"), signer("B")
OWNER, EITHER = {A.key_id}, {A.key_id, B.key_id}
BY_LABEL = {blob["label"]: Ref(blob["ref"]) for blob in SHARE["blobs"]}


def nothing_deleted(ref: Ref) -> bool:
    return False


def recorded_blobs() -> Blobs:
    return Blobs(A.public_text, B.public_text, *[b["text"].encode() for b in SHARE["blobs"]])


def recorded_deletes() -> frozenset[Ref]:
    blobs, claims = recorded_blobs(), []
    for ref, data in blobs.data.items():
        schema = parse(data)
        if schema is not None and schema.string("claimType") == "delete":
            claim = read_claim(ref, schema, verify(data, blobs))
            assert claim is not None
            claims.append(claim)
    return deleted_refs(claims)


def decide(case: dict[str, Any], owners: set[str]) -> Decision:
    chain = [BY_LABEL[label] for label in case["chain"]]
    return authorise(
        chain,
        recorded_blobs(),
        recorded_deletes().__contains__,
        owners.__contains__,
        NOW_NS,
        assemble=case.get("assemble", False),
    )


def stricter_or_wider(case: dict[str, Any]) -> bool | None:
    """What we answer where the golden data says that a careful server answers otherwise."""
    if "broken signature" in case["chain"][0]:
        return False
    if case["chain"][0] == "share directory with mergeSets, transitive":
        return True
    return None


@pytest.mark.vectors("schema")
@pytest.mark.parametrize(
    "case", [pytest.param(c, id=f"{n:02} {c['chain'][-1]}") for n, c in enumerate(SHARE["tests"])]
)
def test_a_recorded_request_is_answered_as_recorded(case: dict[str, Any]) -> None:
    ours = stricter_or_wider(case)
    # The recorded server asks for no owner: here both signers are.
    decision = decide(case, EITHER)
    assert decision.allowed == (case["status"] == 200 if ours is None else ours)
    assert (decision.code == "") == decision.allowed


def test_a_share_with_a_broken_signature_opens_nothing() -> None:
    for chain in (["share with a broken signature"], ["share with a broken signature", "file"]):
        decision = decide({"chain": chain}, EITHER)
        assert decision.code == Refusal.SHARE_SIGNATURE_INVALID


def test_a_share_that_expired_at_the_epoch_opens_nothing() -> None:
    for chain in (["share with expires at the epoch"], ["share with expires at the epoch", "file"]):
        assert decide({"chain": chain}, EITHER).code == Refusal.SHARE_EXPIRED


def test_a_large_directory_can_be_shared() -> None:
    chain = ["share directory with mergeSets, transitive", "directory with mergeSets"]
    for label in ("mergeSets set", "subset", "file", "bytes", "chunk 2"):
        chain.append(label)
        assert decide({"chain": chain}, OWNER).allowed
    assert decide({"chain": [*chain[:3], "file"]}, OWNER).code == Refusal.LINK_INVALID


def test_a_share_signed_by_another_than_the_owner_opens_nothing() -> None:
    chain = ["share signed by another key", "file"]
    assert decide({"chain": chain}, OWNER).code == Refusal.SHARE_OF_ANOTHER
    assert decide({"chain": chain}, EITHER).allowed


# -- shares made here ---------------------------------------------------------------------------

TARGET = Ref.of(b"target")


def ask(share: bytes, *chain: Ref, now_ns: int = NOW_NS, **blobs: bytes) -> Decision:
    store = Blobs(A.public_text, share, *blobs.values())
    return authorise([Ref.of(share), *chain], store, nothing_deleted, OWNER.__contains__, now_ns)


def test_a_share_ends_at_the_instant_it_says() -> None:
    share = A.sign_members(make.share(TARGET, expires_ns=NOW_NS), 10**18)
    assert ask(share, TARGET, now_ns=NOW_NS - 1).allowed
    assert ask(share, TARGET, now_ns=NOW_NS).code == Refusal.SHARE_EXPIRED


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"authType": "password"}, Refusal.SHARE_BLOB_INVALID),
        ({"authType": ""}, Refusal.SHARE_BLOB_INVALID),
        ({"camliType": "share"}, Refusal.SHARE_BLOB_INVALID),
        ({"claimType": "set-attribute"}, Refusal.SHARE_BLOB_INVALID),
        ({"claimType": "delete"}, Refusal.SHARE_BLOB_INVALID),
        ({"target": None}, Refusal.SHARE_BLOB_INVALID),
        ({"target": None, "search": None}, Refusal.SHARE_BLOB_INVALID),
        ({"target": None, "search": {}}, Refusal.SHARE_TARGET_INVALID),
        ({"target": "zzz"}, Refusal.SHARE_BLOB_INVALID),
        ({"expires": "yesterday"}, Refusal.SHARE_BLOB_INVALID),
        ({"transitive": "yes"}, Refusal.SHARE_BLOB_INVALID),
    ],
)
def test_a_claim_that_is_no_share_opens_nothing(change: dict[str, Any], code: Refusal) -> None:
    share = A.sign_members({**make.share(TARGET), **change}, 10**18)
    assert ask(share, TARGET).code == code


def test_the_case_of_member_names_opens_no_second_door() -> None:
    text = encode({**make.share(TARGET), "camliSigner": A.ref, "claimDate": "2020-01-01T00:00:00Z"})
    doubled = text[:-2] + b',\n  "TARGET": "%s"\n}' % Ref.of(b"other").encode()
    assert ask(A.sign(doubled, 0), TARGET).code == Refusal.SHARE_BLOB_INVALID
    assert ask(A.sign(doubled, 0), Ref.of(b"other")).code == Refusal.SHARE_BLOB_INVALID


def test_an_unsigned_share_opens_nothing() -> None:
    members = {**make.share(TARGET), "camliSigner": A.ref, "claimDate": "2020-01-01T00:00:00Z"}
    for signature in ({}, {"camliSig": ""}, {"camliSig": "x"}):
        assert ask(encode(members | signature), TARGET).code == Refusal.SHARE_SIGNATURE_INVALID


def test_a_share_with_a_huge_text_opens_nothing() -> None:
    share = A.sign_members(make.share(TARGET), 10**18) + b" " * 1_048_576
    assert ask(share, TARGET).code == Refusal.SHARE_BLOB_TOO_LARGE


@pytest.mark.parametrize("length", [0, MAX_CHAIN + 1])
def test_an_empty_or_endless_chain_opens_nothing(length: int) -> None:
    decision = authorise([TARGET] * length, Blobs(), nothing_deleted, OWNER.__contains__, NOW_NS)
    assert decision.code == Refusal.CHAIN_TOO_LONG


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"camliType": "file", "parts": [null]}',
        b'{"camliType": "file", "parts": 5}',
        b'{"camliType": "bytes", "parts": [{"size": 1}]}',
        b'{"camliType": "directory"}',
        b'{"camliType": "static-set", "members": [null]}',
        b'{"camliType": "file", "parts": [{"blobRef": "%s"}]}' % TARGET.encode() + b" " * 1_048_576,
        b'{"camliType": "permanode", "members": ["%s"]}' % TARGET.encode(),
        b'{"camliType": "inode", "entries": "%s"}' % TARGET.encode(),
    ],
)
def test_an_odd_blob_in_the_chain_links_to_nothing(data: bytes) -> None:
    share = A.sign_members(make.share(Ref.of(data), transitive=True), 10**18)
    assert ask(share, Ref.of(data), TARGET, odd=data).code == Refusal.LINK_INVALID
    assert ask(share, Ref.of(data), odd=data).allowed
    assert ask(data, TARGET).code in (Refusal.SHARE_BLOB_INVALID, Refusal.SHARE_BLOB_TOO_LARGE)


def test_missing_and_damaged_blobs_are_a_refusal_and_a_sick_store_an_error() -> None:
    share = A.sign_members(make.share(TARGET, transitive=True), 10**18)

    class Sick(Blobs):
        def __init__(self, error: Exception, ref: Ref) -> None:
            super().__init__(A.public_text, share, b"target")
            self.error, self.ref = error, ref

        def fetch(self, ref: Ref) -> bytes:
            if ref == self.ref:
                raise self.error
            return super().fetch(ref)

    chain = [Ref.of(share), TARGET, Ref.of(b"more")]
    wanted = {
        chain[0]: Refusal.SHARE_FETCH_FAILED,
        A.ref: Refusal.SHARE_SIGNATURE_INVALID,
        TARGET: Refusal.LINK_FETCH_FAILED,
    }
    for ref, code in wanted.items():
        for error in (NotFound("fetch", ref), Corrupt("fetch", ref)):
            blobs = Sick(error, ref)
            decision = authorise(chain, blobs, nothing_deleted, OWNER.__contains__, NOW_NS)
            assert decision.code == code
        blobs = Sick(Unavailable("fetch", ref), ref)
        with pytest.raises(Unavailable):
            authorise(chain, blobs, nothing_deleted, OWNER.__contains__, NOW_NS)


def test_a_static_set_links_to_merged_sets_only_without_members_of_its_own() -> None:
    one, two = Ref.of(b"1"), Ref.of(b"2")
    both = encode({"camliType": "static-set", "members": [one], "mergeSets": [two]})
    assert links(parse(both)) == {one}
    assert links(None) == frozenset()


# -- nothing outside ----------------------------------------------------------------------------


def build(shapes: list[tuple[str, list[int]]]) -> tuple[list[bytes], dict[Ref, set[Ref]]]:
    """A store of blobs, each of a kind and linking to earlier ones, and the links between them.

    The links are worked out here, from what is put in, not by the code under test.
    """
    blobs, edges = [b"chunk"], {Ref.of(b"chunk"): set[Ref]()}
    for number, (kind, picks) in enumerate(shapes):
        refs = [Ref.of(blobs[pick % len(blobs)]) for pick in picks]
        members: dict[str, Any] = {"camliType": kind.split()[0], "n": number}
        linked = set(refs)
        if kind in ("file", "bytes"):
            kinds = ["blobRef", "bytesRef"]
            members["parts"] = [{kinds[n % 2]: ref, "size": 1} for n, ref in enumerate(refs)]
        elif kind == "directory":
            members["entries"], linked = refs[0], {refs[0]}
        elif kind == "static-set":
            members["members"] = refs
        elif kind == "static-set merged":
            members["mergeSets"] = refs
        elif kind == "chunk":
            linked = set()
        else:  # mentions that are no links
            members |= {"target": refs[0], "inodeRef": refs[-1], "value": refs[0]}
            linked = set()
        data = json.dumps(members).encode() if kind == "chunk" else encode(members)
        blobs.append(data)
        edges.setdefault(Ref.of(data), linked)
    return blobs, edges


def closure(start: Ref, edges: dict[Ref, set[Ref]]) -> set[Ref]:
    found, queue = {start}, [start]
    while queue:
        new = edges.get(queue.pop(), set()) - found
        found |= new
        queue += new
    return found


KINDS = ["file", "bytes", "directory", "static-set", "static-set merged", "permanode", "chunk"]
SHAPES = st.lists(
    st.tuples(st.sampled_from(KINDS), st.lists(st.integers(0, 99), min_size=1, max_size=3)),
    min_size=1,
    max_size=10,
)


@settings(max_examples=150, deadline=None)
@given(SHAPES, st.integers(0, 99), st.booleans(), st.lists(st.integers(0, 99), max_size=5))
def test_nothing_outside_what_a_share_reaches_is_given_out(
    shapes: list[tuple[str, list[int]]], pick: int, transitive: bool, steps: list[int]
) -> None:
    blobs, edges = build(shapes)
    refs = [Ref.of(blob) for blob in blobs]
    target = refs[pick % len(refs)]
    share = A.sign_members(make.share(target, transitive=transitive), 10**18)
    reached = closure(target, edges) if transitive else {target}
    store = Blobs(A.public_text, share, *blobs)

    def decision(*chain: Ref, assemble: bool = False) -> Decision:
        return authorise(
            [Ref.of(share), *chain], store, nothing_deleted, OWNER.__contains__, NOW_NS, assemble
        )

    assert decision().allowed
    # A walk along the links reaches all that it should ...
    walk = [target]
    for step in steps:
        onward = sorted(edges[walk[-1]])
        if onward:
            walk.append(onward[step % len(onward)])
    assert decision(*walk).allowed == (transitive or len(walk) == 1)
    assert decision(*walk, assemble=True).allowed == transitive
    # ... and no other chain reaches anything.
    jumps = [refs[step % len(refs)] for step in steps]
    ends = [[*start, ref] for start in ([], walk) for ref in refs]
    for chain in (jumps, [target, *jumps], *ends):
        if chain and decision(*chain).allowed:
            assert chain[-1] in reached
    for ref in refs:  # without a share in front
        plain = authorise([ref, target], store, nothing_deleted, OWNER.__contains__, NOW_NS)
        assert not plain.allowed


def unsigned(share: bytes) -> bytes:
    return share[: share.rindex(SEPARATOR)]


FOREIGN = B.sign_members(make.share(TARGET), 10**18)
SPOILERS: dict[str, Callable[[bytes], bytes]] = {
    "payload changed": lambda share: share.replace(b'"transitive": false', b'"transitive": true'),
    "signature of another": lambda share: unsigned(share) + FOREIGN[FOREIGN.rindex(SEPARATOR) :],
    "signer renamed": lambda share: share.replace(A.ref.encode(), B.ref.encode()),
    "signature cut": lambda share: share[:-40] + b'=AAAA"}\n',
    "unsigned": lambda share: unsigned(share) + b"}",
}


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(0, 99), st.sampled_from([*SPOILERS, "foreign", "expired", "deleted"]))
def test_a_forged_foreign_expired_or_deleted_share_opens_nothing_at_all(
    shapes: list[tuple[str, list[int]]], pick: int, fault: str
) -> None:
    blobs, _ = build(shapes)
    refs = [Ref.of(blob) for blob in blobs]
    target = refs[pick % len(refs)]
    maker = B if fault == "foreign" else A
    expires_ns = NOW_NS - 1 if fault == "expired" else None
    share = maker.sign_members(make.share(target, expires_ns=expires_ns), 10**18)
    if fault in SPOILERS:
        share = SPOILERS[fault](share)
    store = Blobs(A.public_text, B.public_text, share, *blobs)
    deleted = {Ref.of(share)} if fault == "deleted" else set[Ref]()
    for chain in ([], [target], *[[target, ref] for ref in refs]):
        decision = authorise(
            [Ref.of(share), *chain], store, deleted.__contains__, OWNER.__contains__, NOW_NS
        )
        assert not decision.allowed
