import json
import subprocess
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.blob import Ref
from peatkeep.errors import Invalid, NotFound, TooLarge, Unsupported
from peatkeep.schema.keyring import read_ring
from peatkeep.schema.openpgp import write_number, write_packet
from peatkeep.schema.signing import SEPARATOR, ZERO_TIME_S, Signer, public_key, verify
from tests.schema.keys import VECTORS, Blobs, key_blobs, signer, vectors

SIGNING = vectors("signing.json")
A, B = signer("A"), signer("B")
TEXT = b'{"camliVersion": 1,\n  "camliSigner": "%s",\n  "value": "x"\n}' % A.ref.encode()
SIGNED = A.sign(TEXT, 1_400_000_000)
KEYS = Blobs(A.public_text, B.public_text)


def cases(name: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in SIGNING[name]]


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", cases("sign"))
def test_signing_gives_the_recorded_blob(case: dict[str, Any]) -> None:
    signed = signer(case["key"]).sign(case["unsigned"].encode(), case["signatureTime"])
    recorded = case["signed"].encode()
    if case["deterministic"]:
        assert signed == recorded
        assert Ref.of(signed) == case["ref"]
    assert len(signed) == pytest.approx(len(recorded), abs=8)
    for text in (signed, recorded):
        found = verify(text, key_blobs(case["key"]))
        assert found.key_id == SIGNING["keys"][case["key"]]["keyID"]


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", cases("valid"))
def test_a_recorded_signature_verifies(case: dict[str, Any]) -> None:
    found = verify(case["signed"].encode(), key_blobs(*case["keys"]))
    assert found.key_id == case["keyID"]
    assert found.signer_ref == found.payload["camliSigner"]


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", cases("invalid"))
def test_a_recorded_forgery_does_not_verify(case: dict[str, Any]) -> None:
    with pytest.raises((Invalid, NotFound)) as caught:
        verify(case["signed"].encode(), key_blobs(*case["keys"]))
    assert isinstance(caught.value, NotFound) == (case["name"] == "key-blob-missing")
    if isinstance(caught.value, Invalid):
        assert caught.value.reason


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("name", sorted(SIGNING["keys"]))
def test_the_recorded_key_blobs_have_the_recorded_key_ids(name: str) -> None:
    key = SIGNING["keys"][name]
    text = (VECTORS / key["publicFile"]).read_bytes()
    assert Ref.of(text) == key["ref"]
    if key["accepted"]:
        assert public_key(text).key_id == key["keyID"]
        assert public_key(text).fingerprint == key["fingerprint"]
    else:
        signed = TEXT.replace(A.ref.encode(), key["ref"].encode())[:-1] + SIGNED[len(TEXT) - 1 :]
        with pytest.raises(Invalid, match="EdDSA"):
            verify(signed, key_blobs(name))


def test_members_are_signed_with_signer_and_date_filled_in() -> None:
    data = A.sign_members({"camliType": "permanode", "key": "k"}, 1_400_000_000_250_000_000)
    payload = verify(data, KEYS).payload
    assert payload["claimDate"] == "2014-05-13T16:53:20.25Z"
    assert payload["camliSigner"] == A.ref
    assert data == A.sign(data[: data.rindex(SEPARATOR)] + b"}", 1_400_000_000)


def test_the_time_of_a_signature_keeps_its_low_32_bits() -> None:
    year_1 = -62_135_596_800
    assert A.sign(TEXT, year_1) == A.sign(TEXT, ZERO_TIME_S)


def test_white_space_after_the_text_does_not_change_what_is_signed() -> None:
    assert A.sign(TEXT + b" \r\n\t\n", 1_400_000_000) == SIGNED


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"hello", "json parse error"),
        (b"[1]", "json parse error"),
        (b"", "json parse error"),
        (b"{} {}", "json parse error"),
        (b"{}", 'json lacks "camliSigner" key with public key blobref'),
        (b"null", 'json lacks "camliSigner" key with public key blobref'),
        (b'{"camliSigner": "zzz"}', 'json "camliSigner" key is malformed or unsupported'),
        (b'{"camliSigner": 5}', 'json "camliSigner" key is malformed or unsupported'),
        (
            b'{"camliSigner": "%s"}' % B.ref.encode(),
            f"failed to find public key {B.ref}: file does not exist",
        ),
    ],
)
def test_text_that_does_not_name_the_key_is_not_signed(text: bytes, reason: str) -> None:
    with pytest.raises(Invalid) as caught:
        A.sign(text, 0)
    assert caught.value.reason == reason


def test_text_over_the_size_of_a_schema_blob_is_neither_signed_nor_verified() -> None:
    with pytest.raises(TooLarge):
        A.sign(TEXT + b" " * 1_048_576, 0)
    with pytest.raises(TooLarge):
        verify(SIGNED + b" " * 1_048_576, KEYS)


@pytest.mark.parametrize(
    ("data", "operation"),
    [
        (TEXT, "split"),
        (SIGNED.replace(b'"camliVersion": 1', b'"camliVersiom": 1'), "parse payload"),
        (SIGNED.replace(b'"camliSigner"', b'"camliSignex"'), "parse payload"),
        (SIGNED + b"x", "parse signature"),
        (SIGNED.replace(b'","camliSig', b'"\n,"camliSig')[:-2] + b',"x":1}', "parse signature"),
        (SIGNED.replace(b'"x"', b'"y"'), "verify"),
    ],
)
def test_an_error_says_how_far_the_check_came(data: bytes, operation: str) -> None:
    with pytest.raises(Invalid) as caught:
        verify(data, KEYS)
    assert caught.value.operation == operation


def test_a_signature_is_not_looked_at_before_its_key_is_there() -> None:
    with pytest.raises(NotFound):
        verify(SIGNED.replace(b'"camliSig":"', b'"camliSig":"!'), Blobs())


def test_a_blob_signed_for_a_key_of_another_name_waits_for_a_blob_of_that_name() -> None:
    sha1_ref = SIGNING["keys"]["A"]["refSha1"]
    signed = A.sign(TEXT.replace(A.ref.encode(), sha1_ref.encode()), 0)
    with pytest.raises(NotFound):
        verify(signed, KEYS)
    assert verify(signed, key_blobs("A")).key_id == A.key_id


def curve_ring(curve: ec.EllipticCurve, object_id: str) -> bytes:
    """A ring with a new key on this curve."""
    key = ec.generate_private_key(curve)
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    oid = bytes.fromhex(object_id)
    public = b"\x04\0\0\0\0\x13" + bytes([len(oid)]) + oid
    public += write_number(int.from_bytes(point, "big"))
    secret = write_number(key.private_numbers().private_value)
    return write_packet(5, public + b"\0" + secret + (sum(secret) % 65536).to_bytes(2, "big"))


@pytest.mark.parametrize(
    ("curve", "object_id"),
    [
        (ec.SECP256R1(), "2a8648ce3d030107"),
        (ec.SECP384R1(), "2b81040022"),
        (ec.SECP521R1(), "2b81040023"),
    ],
)
def test_a_key_on_each_nist_curve_signs_and_verifies(
    curve: ec.EllipticCurve, object_id: str
) -> None:
    (key,) = read_ring(curve_ring(curve, object_id))
    data = Signer(key).sign_members({"camliType": "permanode"}, 10**18)
    assert verify(data, Blobs(key.public_text)).key_id == key.key_id
    with pytest.raises(Invalid):
        verify(data.replace(b"permanode", b"permanodE"), Blobs(key.public_text))


def test_a_key_on_another_curve_does_not_sign() -> None:
    with pytest.raises(Unsupported, match="not a NIST P curve"):
        read_ring(curve_ring(ec.SECP256K1(), "2b8104000a"))


def test_a_signature_by_an_elliptic_curve_key_is_repeatable() -> None:
    curve = signer("gpg-nistp256")
    text = b'{"camliVersion": 1, "camliSigner": "%s"}' % curve.ref.encode()
    assert curve.sign(text, 7) == curve.sign(text, 7)
    assert verify(curve.sign(text, 7), Blobs(curve.public_text)).key_id == curve.key_id


@given(st.integers(0, len(SIGNED) - 4), st.integers(1, 255))
def test_no_changed_byte_passes_unless_it_leaves_the_payload_alone(place: int, flip: int) -> None:
    changed = bytearray(SIGNED)
    changed[place] ^= flip
    try:
        found = verify(bytes(changed), KEYS)
    except (Invalid, NotFound):
        return
    # Only the checksum, the unprotected packet header or unhashed parts may differ.
    assert found.payload == json.loads(TEXT)
    assert bytes(changed[: len(TEXT) - 1]) == TEXT[:-1]


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_around_a_separator_are_refused_without_another_error(
    before: bytes, after: bytes
) -> None:
    for data in (before, before + SEPARATOR + after, TEXT[:-1] + SEPARATOR + after):
        with pytest.raises((Invalid, NotFound)):
            verify(data, KEYS)


@given(st.binary(max_size=400))
def test_any_bytes_as_key_blob_are_refused_without_another_error(noise: bytes) -> None:
    armored = A.public_text[:100] + noise + A.public_text[100:]
    for text in (noise, armored):
        blobs = Blobs()
        blobs.data[A.ref] = text
        try:
            verify(SIGNED, blobs)
        except Invalid:
            continue
        assert noise.strip() == b""


def test_reading_the_module_does_not_load_the_crypto_library() -> None:
    program = (
        "import sys, peatkeep.schema.signing, peatkeep.schema.share;"
        " sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
