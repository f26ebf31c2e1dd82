"""Refs: what is one, and what matches."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.blob import Ref, parse_ref
from peatkeep.errors import Invalid

EMPTY = "sha224-d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha224",
        "sha224-",
        EMPTY[:-1],
        EMPTY + "0",
        EMPTY.upper(),
        EMPTY + "\n",
        "sha1-" + "0" * 39,
        "sha256-" + "0" * 56,
        "Foo-00",
        "foo-" + "0" * 257,
        "foo-0g",
        "-00",
        "foo-٠٠",
    ],
)
def test_other_texts_are_no_refs(text: str) -> None:
    with pytest.raises(Invalid):
        Ref(text)
    assert parse_ref(text) is None


@pytest.mark.parametrize("text", [EMPTY, "sha1-" + "0" * 40, "foo9-0", "foo-" + "a" * 256])
def test_refs_of_known_and_unknown_hashes_parse(text: str) -> None:
    assert Ref(text) == text
    assert parse_ref(text) == text


def test_the_empty_blob_has_the_known_name() -> None:
    assert Ref.of(b"") == EMPTY


@given(st.binary())
def test_bytes_match_their_own_ref_and_no_other(data: bytes) -> None:
    ref = Ref.of(data)
    assert ref.matches(data)
    assert not ref.matches(data + b"x")


def test_nothing_matches_an_unknown_hash() -> None:
    assert not Ref("foo-00").is_supported
    assert not Ref("foo-00").matches(b"")


def test_legacy_hashes_are_verified() -> None:
    assert Ref("sha1-da39a3ee5e6b4b0d3255bfef95601890afd80709").matches(b"")
    assert not Ref("sha1-da39a3ee5e6b4b0d3255bfef95601890afd80709").matches(b"x")
