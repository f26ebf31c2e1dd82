import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.blob import Ref
from peatkeep.errors import Invalid, NotFound, TooLarge, Unsupported
from peatkeep.schema import armor
from peatkeep.schema.algorithms import DsaMaterial
from peatkeep.schema.keyring import create_key, find_key, normal_identity, read_ring
from peatkeep.schema.openpgp import (
    SECRET_KEY,
    USER_ID,
    Cursor,
    packets,
    parse_signature,
    signed_digest,
    write_number,
    write_packet,
)
from peatkeep.schema.publickey import key_frame, read_public_key
from peatkeep.schema.signing import Signer, verify
from tests.schema.keys import VECTORS, Blobs, ring, vectors

KEYS = vectors("signing.json")["keys"]
WITH_SECRET = sorted(name for name in KEYS if "secretFile" in KEYS[name])
ED25519 = write_packet(
    SECRET_KEY,
    bytes.fromhex("046b0150c6 16 09 2b06010401da470f01 0107 40")
    + b"x" * 33
    + b"\0\0\x08\x01\0\x01",
)


def secret_file(name: str) -> bytes:
    return (VECTORS / KEYS[name]["secretFile"]).read_bytes()


def locked(binary: bytes) -> bytes:
    """The first key of a ring as if a passphrase protected it."""
    first = next(packets(binary))
    cursor = Cursor(first.body, "test")
    public = read_public_key(cursor).body
    return write_packet(SECRET_KEY, public + b"\xfe\x09\x03\x08" + b"s" * 50)


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("name", WITH_SECRET)
def test_a_recorded_ring_holds_the_recorded_key(name: str) -> None:
    (key,) = ring(name)
    assert key.key_id == KEYS[name]["keyID"]
    assert key.fingerprint == KEYS[name]["fingerprint"]
    assert key.public_text == KEYS[name]["publicText"].encode()
    assert key.public_ref == KEYS[name]["ref"] == Ref.of(key.public_text)
    assert not key.is_locked
    assert len(key.user_ids) == 1


def test_a_ring_may_be_armored_or_binary_and_hold_many_keys() -> None:
    names = ["gpg-rsa3072", "gpg-nistp256", "gpg-dsa2048"]
    binary = b"".join(secret_file(name) for name in names)
    armored = armor.encode(armor.PRIVATE_KEY, binary).encode()
    joined = b"\n".join([armored, secret_file("A"), secret_file("B")])
    wanted = [KEYS[name]["keyID"] for name in names]
    assert [key.key_id for key in read_ring(binary)] == wanted
    assert [key.key_id for key in read_ring(armored)] == wanted
    assert [key.key_id for key in read_ring(joined)] == [
        *wanted,
        KEYS["A"]["keyID"],
        KEYS["B"]["keyID"],
    ]


def test_an_ed25519_key_in_a_ring_is_passed_over() -> None:
    mixed = ED25519 + write_packet(USER_ID, b"ed") + secret_file("gpg-rsa3072") + ED25519
    (key,) = read_ring(mixed)
    assert key.key_id == KEYS["gpg-rsa3072"]["keyID"]
    assert key.user_ids == ring("gpg-rsa3072")[0].user_ids


def test_a_ring_of_ed25519_keys_alone_says_what_is_wrong() -> None:
    with pytest.raises(Unsupported, match="EdDSA"):
        read_ring(ED25519)


def test_a_locked_key_is_listed_but_does_not_sign() -> None:
    (key,) = read_ring(locked(secret_file("gpg-rsa3072")))
    assert key.is_locked
    assert key.public_ref == KEYS["gpg-rsa3072"]["ref"]
    with pytest.raises(Unsupported, match="passphrase"):
        Signer(key).sign_members({"camliType": "permanode"}, 0)


def test_a_ring_with_a_changed_secret_half_does_not_sign() -> None:
    (key,) = read_ring(secret_file("gpg-nistp256"))
    body = next(packets(secret_file("gpg-nistp256"))).body
    secret = body[len(key.public.body) + 1 :]
    other = bytes([*secret[:10], secret[10] ^ 1, *secret[11:]])
    summed = other[:-2] + (sum(other[:-2]) % 65536).to_bytes(2, "big")
    for changed in (other, summed):
        forged = write_packet(SECRET_KEY, key.public.body + b"\0" + changed)
        with pytest.raises(Invalid):
            read_ring(forged)[0].sign(b"\0" * 32)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        KEYS["A"]["publicText"].encode(),
        base64.b64decode("xlIEawFQxRMIKoZIzj0DAQcCAwQ="),
        armor.encode(armor.PRIVATE_KEY, b"").encode(),
        write_packet(USER_ID, b"nobody"),
        write_packet(SECRET_KEY, b""),
        write_packet(SECRET_KEY, ring("gpg-nistp256")[0].public.body),
        secret_file("gpg-rsa3072")[:500],
        secret_file("gpg-rsa3072") + b"rubbish",
        secret_file("A").replace(b"\n=vJYC", b"\n=AAAA"),
    ],
)
def test_what_is_no_ring_is_refused(data: bytes) -> None:
    with pytest.raises(Invalid):
        read_ring(data)


def test_a_huge_ring_is_refused() -> None:
    with pytest.raises(TooLarge):
        read_ring(secret_file("gpg-rsa3072") * 1000)


@given(st.binary(max_size=200), st.integers(0, 2000), st.integers(0, 2000))
def test_any_bytes_as_ring_end_in_keys_or_a_clear_error(noise: bytes, start: int, end: int) -> None:
    binary = secret_file("gpg-dsa2048")
    for data in (noise, binary[:start] + noise + binary[end:]):
        try:
            for key in read_ring(data):
                key.sign(b"\0" * 32)
        except (Invalid, Unsupported):
            pass


def test_the_text_of_a_key_tells_nothing_secret() -> None:
    assert repr(ring("A")[0]) == "<SecretKey 26C5E56C4BEB7CCD>"


# -- identities ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 16, 40])
@pytest.mark.parametrize("change", [str.upper, str.lower])
def test_a_key_is_found_by_fingerprint_and_key_ids_in_any_case(size: int, change: object) -> None:
    keys = ring("A") + ring("B")
    identity = KEYS["B"]["fingerprint"][-size:]
    assert callable(change)
    assert find_key(keys, change(identity)) is keys[1]


@pytest.mark.parametrize(
    "identity", ["", "zz", "0x18A24F4", "156EC3F0D18A24F", "0x156EC3F0D18A24F4"]
)
def test_a_text_that_is_no_identity_is_refused(identity: str) -> None:
    with pytest.raises(Invalid):
        find_key(ring("B"), identity)


def test_an_unknown_identity_is_not_found() -> None:
    with pytest.raises(NotFound, match=KEYS["A"]["keyID"]):
        find_key(ring("A"), KEYS["B"]["keyID"])


def test_a_key_that_stands_twice_in_a_ring_is_one_key() -> None:
    assert find_key(ring("A") * 2, KEYS["A"]["keyID"]).key_id == KEYS["A"]["keyID"]


def test_an_identity_as_users_type_it_is_brought_to_its_form() -> None:
    typed = " 0xB827 B2C2 1F0C E8C1 A9CB  A17A 156E C3F0 D18A 24F4\n"
    assert normal_identity(typed) == KEYS["B"]["fingerprint"]


# -- new keys -----------------------------------------------------------------------------------


def shape(ring_text: bytes) -> list[tuple[int, bytes]]:
    """The tags and what has to be alike in the packets of a ring, in order."""
    (block,) = armor.blocks(ring_text)
    assert block.is_intact
    out = []
    for tag, body in packets(block.data):
        alike = body
        if tag in (5, 7):  # version, algorithm, size
            alike = body[:1] + body[5:8]
        elif tag == 2:  # all but time, key id, and what follows from them
            alike = body[:8] + body[12:14] + body[22:-260] + body[-258:-256]
        out.append((tag, alike))
    return out


def test_a_new_ring_has_the_form_of_those_of_perkeep() -> None:
    text = create_key(1_795_247_535)
    assert shape(text) == shape(secret_file("A"))
    lines = text.split(b"\n")
    assert lines[:2] == [b"-----BEGIN PGP PRIVATE KEY BLOCK-----", b""]
    assert {len(line) for line in lines[2:-3]} == {64}
    assert lines[-1] == b"-----END PGP PRIVATE KEY BLOCK-----"


def test_the_signatures_in_a_new_ring_are_good() -> None:
    (block,) = armor.blocks(create_key(0))
    primary, user_id, own, sub, binding = (body for _, body in packets(block.data))
    key, subkey = (read_public_key(Cursor(body, "test")) for body in (primary, sub))
    user_frame = b"\xb4" + len(user_id).to_bytes(4, "big") + user_id
    for body, covered in (
        (own, key_frame(key.body) + user_frame),
        (binding, key_frame(key.body) + key_frame(subkey.body)),
    ):
        signature = parse_signature(body)
        digest = signed_digest(covered, signature.head)
        assert signature.digest_start == digest[:2]
        assert key.accepts(signature.numbers, digest, 8)
    assert user_id == b"(camlistore)"


def test_a_new_key_signs() -> None:
    (key,) = read_ring(create_key())
    signer = Signer(key)
    data = signer.sign_members({"camliType": "permanode", "key": "k"}, 10**18)
    assert verify(data, Blobs(key.public_text)).key_id == key.key_id
    assert len(key.public_text) == 449


def test_a_secret_half_with_which_no_signature_can_be_made_is_refused() -> None:
    (key,) = read_ring(secret_file("gpg-dsa2048"))
    material = key.public.material
    assert isinstance(material, DsaMaterial)
    public = key.public.body[:6] + b"".join(
        write_number(n) for n in (material.p, material.q - 1, material.g, material.y)
    )
    secret = write_number(2)
    body = public + b"\0" + secret + (sum(secret) % 65536).to_bytes(2, "big")
    with pytest.raises(Invalid):
        read_ring(write_packet(SECRET_KEY, body))[0].sign(b"\0" * 32)
