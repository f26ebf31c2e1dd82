"""Our age files beside pyrage, which knows nothing of our code."""

import os
import random

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.blobserver.encrypt.age import CHUNK, Identity, sealed_size
from peatkeep.blobserver.encrypt.bech32 import from_bech32, to_bech32
from peatkeep.errors import Corrupt, Invalid
from tests.blobserver.encrypt.age_files import (
    VERSION,
    age_file,
    for_key,
    public_of,
    stanza,
)
from tests.blobserver.encrypt.stores import PUBLIC, TEST_ONLY_IDENTITY, TEST_ONLY_OTHER_IDENTITY

OURS, THEIRS = Identity(TEST_ONLY_IDENTITY), pyrage.x25519.Identity.from_str(TEST_ONLY_IDENTITY)
OTHER = pyrage.x25519.Identity.from_str(TEST_ONLY_OTHER_IDENTITY)
OTHER_PUBLIC = from_bech32("age", str(OTHER.to_public())) or b""
MINE, FOREIGN = for_key(PUBLIC), for_key(OTHER_PUBLIC)
SIZES = [0, 1, 16, 65_520, *(n * CHUNK + d for n in (1, 2, 3) for d in (-1, 0, 1)), 1_000_003]


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


# -- both ways ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_pyrage_opens_what_we_seal(size: int) -> None:
    sealed = OURS.recipient.seal(content(size))
    assert len(sealed) == sealed_size(size)
    assert pyrage.decrypt(sealed, [THEIRS]) == content(size)
    assert OURS.open(sealed) == content(size)


@pytest.mark.parametrize("size", SIZES)
def test_we_open_what_pyrage_seals(size: int) -> None:
    sealed = pyrage.encrypt(content(size), [THEIRS.to_public()])
    assert OURS.open(sealed) == content(size)


@given(data=st.binary(max_size=300), prefix=st.binary(max_size=3))
def test_any_bytes_go_there_and_back_behind_any_others(data: bytes, prefix: bytes) -> None:
    sealed = OURS.recipient.seal(data, prefix)
    assert sealed.startswith(prefix)
    assert OURS.open(sealed, len(prefix)) == data
    assert pyrage.decrypt(sealed[len(prefix) :], [THEIRS]) == data


def test_the_same_bytes_are_sealed_with_a_new_key_each_time() -> None:
    files = [OURS.recipient.seal(b"the same") for _ in range(50)]
    assert len({public_of(file) for file in files}) == len(files)
    assert len({file[-24:] for file in files}) == len(files)


@pytest.mark.parametrize("place", [0, 1, 2, 20])
def test_a_file_for_several_keys_is_opened_with_ours(place: int) -> None:
    keys = [pyrage.x25519.Identity.generate().to_public() for _ in range(20)]
    keys.insert(place, THEIRS.to_public())
    assert OURS.open(pyrage.encrypt(b"for many", keys)) == b"for many"


@pytest.mark.parametrize(
    "stanzas",
    [
        [MINE],
        [FOREIGN, MINE],
        [stanza(b"x-grease"), MINE],
        [MINE, stanza(b"a!b-grease !~ # 5", os.urandom(100))],
        [stanza(b"lines-of-64-letters", bytes(48)), stanza(b"and-more", bytes(96)), MINE],
        [stanza(b"x25519 in small letters", bytes(32)), MINE],
    ],
)
def test_stanzas_for_others_are_passed_over(stanzas: list[bytes]) -> None:
    file = age_file(stanzas, [b"content"])
    assert pyrage.decrypt(file, [THEIRS]) == b"content"
    assert OURS.open(file) == b"content"


# -- refused --------------------------------------------------------------------------------------


def refused(file: bytes) -> None:
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(file, [THEIRS])
    with pytest.raises(Corrupt):
        OURS.open(file)


def test_a_file_for_another_key_is_refused() -> None:
    with pytest.raises(Corrupt, match="another key"):
        OURS.open(pyrage.encrypt(b"secret", [OTHER.to_public()]))


@pytest.mark.parametrize("size", [0, 5])
def test_every_flipped_bit_is_refused(size: int) -> None:
    sealed = OURS.recipient.seal(content(size))
    for place in range(len(sealed)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[place] ^= 1 << bit
            with pytest.raises(Corrupt):
                OURS.open(bytes(flipped))


def test_every_cut_is_refused() -> None:
    sealed = OURS.recipient.seal(b"content")
    for end in range(len(sealed)):
        refused(sealed[:end])


@pytest.mark.parametrize("size", [0, 5, CHUNK, 2 * CHUNK])
def test_more_bytes_at_the_end_are_refused(size: int) -> None:
    sealed = OURS.recipient.seal(content(size))
    for more in (b"\0", bytes(16), bytes(CHUNK + 16), sealed):
        refused(sealed + more)


def test_chunks_that_are_missing_or_change_places_are_refused() -> None:
    sealed, step = OURS.recipient.seal(content(3 * CHUNK)), CHUNK + 16
    first, second, third = (sealed[184 + step * at :][:step] for at in range(3))
    for chunks in (
        [first],
        [first, second],
        [second, third],
        [first, third],
        [second, first, third],
        [first, second, third, third],
    ):
        refused(sealed[:184] + b"".join(chunks))


@pytest.mark.parametrize(
    "chunks", [[bytes(CHUNK), b""], [b"short", b"rest"], [bytes(CHUNK + 1)]], ids=len
)
def test_content_that_is_cut_otherwise_is_refused(chunks: list[bytes]) -> None:
    refused(age_file([MINE], chunks))


SHARE = MINE.split(b" ")[2].split(b"\n")[0]


@pytest.mark.parametrize(
    "stanzas",
    [
        [],
        [FOREIGN],
        [stanza(b"scrypt " + b"A" * 22 + b" 10", bytes(32)), MINE],
        [stanza(b"X25519", bytes(32)), MINE],
        [stanza(b"X25519 " + SHARE, bytes(31)), MINE],
        [stanza(b"X25519 " + SHARE[:-1], bytes(32)), MINE],
        [stanza(b"X25519 " + SHARE + b" more", bytes(32)), MINE],
        [stanza(b"X25519 " + b"A" * 43, bytes(32)), MINE],
        [MINE.replace(SHARE, SHARE + b"=")],
        [MINE.replace(b"-> ", b"->  ")],
        [MINE.replace(b"\n", b"\r\n")],
        [MINE + b"\n"],
        [b"-> other\nAB\n", MINE],
        [b"-> other\n" + b"A" * 65 + b"\n", MINE],
        [b"-> \xc3\xa9\n\n", MINE],
    ],
)
def test_a_broken_header_is_refused_though_its_mac_is_right(stanzas: list[bytes]) -> None:
    refused(age_file(stanzas, [b"content"]))


def test_a_stanza_without_its_last_line_is_refused() -> None:
    # pyrage lets it pass; the format does not.
    with pytest.raises(Corrupt):
        OURS.open(age_file([b"-> other\n" + b"A" * 64 + b"\n", MINE], [b"content"]))


def test_a_file_of_another_version_is_refused() -> None:
    refused(age_file([MINE], [b"content"], VERSION.replace(b"v1", b"v2")))


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 400))
def test_other_bytes_in_any_place_are_never_taken_for_content(
    junk: bytes, begin: int, end: int
) -> None:
    sealed = OURS.recipient.seal(b"some content")
    changed = sealed[:begin] + junk + sealed[end:]
    if changed != sealed:
        with pytest.raises(Corrupt):
            OURS.open(changed)


# -- keys -----------------------------------------------------------------------------------------


def test_keys_are_spelt_as_others_spell_them() -> None:
    for _ in range(50):
        key = pyrage.x25519.Identity.generate()
        assert Identity(str(key)).recipient.text == str(key.to_public())
        assert Identity(str(key).lower()).recipient.text == str(key.to_public())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        TEST_ONLY_IDENTITY[:-1],
        TEST_ONLY_IDENTITY + "Q",
        TEST_ONLY_IDENTITY.replace("1F", "1Q"),
        TEST_ONLY_IDENTITY.replace("KEY", "key"),
        TEST_ONLY_IDENTITY.replace("K", "\N{KELVIN SIGN}"),
        TEST_ONLY_IDENTITY.replace("2", "B"),
        f" {TEST_ONLY_IDENTITY}",
        OURS.recipient.text,
        to_bech32("age-secret-key-", bytes(31)).upper(),
        to_bech32("age-secret-key-", bytes(33)).upper(),
        to_bech32("another-secret-key-", bytes(32)).upper(),
    ],
)
def test_what_is_no_identity_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(pyrage.IdentityError):
        pyrage.x25519.Identity.from_str(text)
    with pytest.raises(Invalid) as refusal:
        Identity(text)
    assert not text[20:] or text[20:] not in str(refusal.value)


@given(st.binary(max_size=60))
def test_bytes_in_bech32_come_back_and_a_wrong_letter_is_noticed(data: bytes) -> None:
    text = to_bech32("some-name", data)
    assert from_bech32("some-name", text) == from_bech32("some-name", text.upper()) == data
    wrong = "q" if text[-3] != "q" else "p"
    assert from_bech32("some-name", text[:-3] + wrong + text[-2:]) is None
