"""Kinds of data by content and by extension."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.index.mime import sniff
from tests.index.corpus import vectors


def cases(name: str) -> list[Any]:
    return [pytest.param(*case, id=case[0][:60] or "none") for case in vectors("mime")[name]]


@pytest.mark.vectors("search")
@pytest.mark.parametrize(("head", "mime"), cases("sniff"))
def test_content_is_told_by_its_first_bytes(head: str, mime: str) -> None:
    assert sniff(bytes.fromhex(head)) == mime


@pytest.mark.vectors("search")
@pytest.mark.parametrize(("extension", "mime"), cases("extension"))
def test_an_extension_decides_what_content_does_not(extension: str, mime: str) -> None:
    assert sniff(b"", f"name{extension}".encode()) == mime
    assert sniff(b"plain text", f"name{extension}".encode()) == mime


@pytest.mark.vectors("search")
@pytest.mark.parametrize(
    ("offset", "prefix", "mime"),
    [pytest.param(*row, id=f"{row[0]}-{row[1]}") for row in vectors("mime")["magic"]],
)
def test_each_row_of_the_table_counts_unless_one_before_it_does(
    offset: int, prefix: str, mime: str
) -> None:
    head = b"\x01" * offset + bytes.fromhex(prefix) + b"\x01"
    earlier = []
    for row_offset, row_prefix, row_mime in vectors("mime")["magic"]:
        start = bytes.fromhex(row_prefix)
        if head.startswith(start, row_offset) and len(head) > row_offset + len(start):
            earlier.append(row_mime)
    assert sniff(head) == earlier[0]
    assert mime in earlier


def test_content_beats_the_extension() -> None:
    assert sniff(b"%PDF-1.7\n", b"letter.txt") == "application/pdf"


def test_markup_needs_a_blank_or_a_bracket_behind_its_name() -> None:
    assert sniff(b"\n <HTML>x") == "text/html"
    assert sniff(b"<htmlx>") == ""
    assert sniff(b"<a") == ""


def test_an_mp4_brand_counts_anywhere_but_as_a_version() -> None:
    assert sniff(b"\0\0\0\x14ftypabcdmp42mp41zzz") == "video/mp4"
    assert sniff(b"\0\0\0\x10ftypabcdmp42zzzz") == ""


def test_a_byte_order_mark_is_one_only_before_two_bytes() -> None:
    assert sniff(b"\xfe\xff\0") == ""
    assert sniff(b"\xfe\xff\0a") == "text/plain; charset=utf-16be"


def test_embedded_fonts_are_told_by_two_letters_whatever_stands_before_them() -> None:
    font = "application/vnd.ms-fontobject"
    assert sniff(bytes(range(1, 35)) + b"LP") == font
    assert sniff(b"wOFF" + bytes(30) + b"LP") == font
    assert sniff(b"%!PS-Adobe-3.0".ljust(34) + b"LP") == "application/postscript"
    assert sniff(b"\0\0\0\x28ftypmp42".ljust(34) + b"LP    ") == "video/mp4"


@given(st.binary(max_size=600), st.binary(max_size=40))
def test_any_bytes_have_a_kind(head: bytes, name: bytes) -> None:
    assert isinstance(sniff(head, name), str)
