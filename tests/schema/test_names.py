import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.blob import Ref
from peatkeep.schema.names import (
    is_safe_name,
    join_pieces,
    last_component,
    name_members,
    split_text,
)
from peatkeep.schema.parse import parse
from peatkeep.schema.text import encode

GOLDEN = json.loads((Path(__file__).parent.parent / "vectors/schema/json.json").read_text())


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", GOLDEN["fileNames"], ids=lambda case: case["path_b64"])
def test_a_path_has_the_golden_name(case: dict[str, str]) -> None:
    text = encode({"camliType": "file", **name_members(base64.b64decode(case["path_b64"]))})
    assert text.decode() == case["text"]
    assert Ref.of(text) == case["ref"]
    schema = parse(text)
    assert schema is not None
    assert schema.file_name == base64.b64decode(case["readBack_b64"])


@given(raw=st.binary())
def test_every_sequence_of_bytes_comes_back(raw: bytes) -> None:
    pieces = split_text(raw)
    assert (pieces.encode() if isinstance(pieces, str) else join_pieces(pieces)) == raw


@given(name=st.binary(min_size=1).filter(lambda name: not set(name) & set(b"/\\")))
def test_every_name_comes_back_through_a_blob(name: bytes) -> None:
    schema = parse(encode({"camliType": "file", **name_members(name)}))
    assert schema is not None
    assert schema.file_name == name


@pytest.mark.parametrize(
    ("raw", "pieces"),
    [
        (b"Am\xe9lie", ["Am", 0xE9, "lie"]),
        (b"\xff\xfe", [0xFF, 0xFE]),
        (b"a\xe2\x82", ["a", 0xE2, 0x82]),
        (b"\xe2\x82a", [0xE2, 0x82, "a"]),
        (b"\xed\xa0\x80", [0xED, 0xA0, 0x80]),
        (b"\xc0\xafx", [0xC0, 0xAF, "x"]),
        (b"\xf4\x90\x80\x80", [0xF4, 0x90, 0x80, 0x80]),
        ("\ufffd".encode() + b"\xff", ["\ufffd", 0xFF]),
    ],
)
def test_bytes_that_are_not_utf_8_stand_as_numbers(raw: bytes, pieces: list[str | int]) -> None:
    assert split_text(raw) == pieces


def test_foreign_pieces_are_read_as_bytes_as_far_as_they_go() -> None:
    pieces = ["a", 256, 98.9, -1, True, None, ["x"], 2**53 + 1, 1e300, 10**300, "\ud800"]
    assert join_pieces(pieces) == b"a\x00b\xff\x00\x00\x00?"


@pytest.mark.parametrize(
    ("path", "name"),
    [(b"", b""), (b"//", b"/"), (b"a/b//", b"b"), (b"a/..", b".."), (b"./a", b"a")],
)
def test_the_last_component_is_what_stands_before_trailing_slashes(
    path: bytes, name: bytes
) -> None:
    assert last_component(path) == name


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"a\0b"])
def test_a_name_that_would_lead_elsewhere_is_not_safe(name: bytes) -> None:
    assert not is_safe_name(name)


@pytest.mark.parametrize("name", [b"a", b"...", b".a", b"a\\b", b"\xff", b"a\nb"])
def test_an_odd_name_is_safe(name: bytes) -> None:
    assert is_safe_name(name)
