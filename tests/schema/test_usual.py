"""What is read in one go is what the readers of any form say."""

import random
from collections.abc import Callable

import pytest

from peatkeep.blob import Ref
from peatkeep.errors import Invalid, NotFound
from peatkeep.schema.claims import (
    add_attribute,
    del_attribute,
    delete,
    planned_permanode,
    random_permanode,
    set_attribute,
)
from peatkeep.schema.parse import parse
from peatkeep.schema.signing import verify
from peatkeep.schema.times import format_time
from peatkeep.schema.usual import UsualClaim, key_id_of, read_usual
from tests.schema.keys import Blobs, signer

SIGNER = signer("A")
KEYS = Blobs(SIGNER.public_text)
PERMANODE = Ref.of(b"permanode")
TIMES_NS = [1_500_000_000 * 10**9, 1_500_000_000 * 10**9 + 120_000_000, 1, -1, -(10**18)]
CLAIMS = [
    set_attribute(PERMANODE, "title", "some words, and a blank"),
    set_attribute(PERMANODE, "title", "Größe, 日本語, \x7f"),
    set_attribute(PERMANODE, "", ""),
    add_attribute(PERMANODE, "camliPath:a/b c", PERMANODE),
    del_attribute(PERMANODE, "tag"),
    del_attribute(PERMANODE, "tag", "x"),
]
USUAL = [
    SIGNER.sign_members(members, time_ns)
    for members in (*CLAIMS, random_permanode(b"\x00" * 20), planned_permanode("key"))
    for time_ns in TIMES_NS
]


@pytest.mark.parametrize("data", USUAL)
def test_what_our_signer_writes_is_read_as_it_stands(data: bytes) -> None:
    assert _agrees(data)


@pytest.mark.parametrize(
    "data",
    [
        SIGNER.sign_members(delete(PERMANODE), 1),
        SIGNER.sign_members(set_attribute(PERMANODE, "title", "<&>"), 1),
        SIGNER.sign_members(set_attribute(PERMANODE, "title", 'a "quote"'), 1),
        SIGNER.sign_members(set_attribute(Ref("sha1-" + "0" * 40), "tag", "x"), 1),
        SIGNER.sign_members({**CLAIMS[0], "more": 1}, 1),
        SIGNER.sign_members({**CLAIMS[0], "claimType": "share"}, 1),
        USUAL[0].replace(b"2017-07-14T", b"2017-02-30T"),
        USUAL[0].replace(b"some words", b"some \xff\xfes"),
        USUAL[0].replace(b"some words", b"some \n words"),
        USUAL[0] + b" " * 1_048_576,
        b"{}",
        b"",
    ],
)
def test_everything_else_is_left_to_the_readers_of_any_form(data: bytes) -> None:
    assert read_usual(data) is None


def test_what_is_read_of_changed_blobs_is_what_any_reader_says() -> None:
    dice = random.Random(7)
    pieces = [b'"', b"\\", b",", b"\n", b"}", b"=", b"T", b"0", b"\x00", b"\xff", b'"a": 1,']
    pieces += [b"attribute", b'"camliSig":"', b'  "value": "x",\n', b"set-attribute", b".50"]
    read = 0
    for _ in range(4000):
        data = dice.choice(USUAL)
        for _ in range(dice.choice((1, 1, 2))):
            at = dice.randrange(len(data))
            data = data[:at] + dice.choice(pieces) + data[at + dice.choice((0, 0, 1, 5)) :]
        read += _agrees(data)
    assert read > 100


def test_who_signed_is_decided_as_by_verify() -> None:
    claim = read_usual(USUAL[0])
    assert claim is not None
    assert key_id_of(claim, KEYS) == SIGNER.key_id
    with pytest.raises(NotFound):
        key_id_of(claim, Blobs())
    with pytest.raises(Invalid) as refused:
        key_id_of(claim._replace(signed=claim.signed + b" "), KEYS)
    assert refused.value.operation == "verify"


def _agrees(data: bytes) -> bool:
    """Whether the blob was read in one go; it fails if the other readers say something else."""
    usual = read_usual(data)
    if usual is None:
        return False
    schema = parse(data)
    assert schema is not None
    assert schema.ref("camliSigner") == usual.signer_ref
    assert _signer(lambda: key_id_of(usual, KEYS)) == _signer(lambda: verify(data, KEYS).key_id)
    if not isinstance(usual, UsualClaim):
        assert schema.type == "permanode"
        return True
    assert schema.type == "claim"
    assert (schema.time_ns("claimDate"), schema.string("claimType")) == (usual.date_ns, usual.type)
    assert format_time(usual.date_ns) == usual.date
    assert schema.ref("permaNode") == usual.permanode
    assert schema.string("attribute") == usual.attribute
    assert schema.string("value") == usual.value
    assert schema.ref("target") is None
    return True


def _signer(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except (Invalid, NotFound) as error:
        return f"{error.operation}: {error}"
