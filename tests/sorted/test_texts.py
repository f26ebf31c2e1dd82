"""Bounds of bytes as bounds of text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.sorted.texts import text_from, text_or_none

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)
EDGES = st.text("\x01a\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff", max_size=3)
BYTES = st.binary(max_size=6) | st.lists(
    st.sampled_from([0, 1, 0x7F, 0x80, 0xBF, 0xC2, 0xDF, 0xE0, 0xED, 0xA0, 0xEF, 0xF4, 0x8F, 0xFF]),
    max_size=6,
).map(bytes)


@given(bound=BYTES, texts=st.lists(TEXT | EDGES))
def test_a_range_of_texts_holds_what_the_range_of_bytes_holds(
    bound: bytes, texts: list[str]
) -> None:
    first = text_from(bound)
    for text in texts:
        is_above = first is not None and text.encode() >= first.encode()
        assert is_above == (text.encode() >= bound)


@given(bound=BYTES)
def test_the_bound_is_a_text_that_is_not_below(bound: bytes) -> None:
    first = text_from(bound)
    if first is None:
        assert bound >= b"\xf4\x8f\xbf\xbf"
    else:
        assert first.encode() >= bound
        assert "\0" not in first


@pytest.mark.parametrize(
    ("bound", "expected"),
    [
        (b"", ""),
        (b"abc", "abc"),
        (b"a\0b", "a\1"),
        (b"\xff", None),
        (b"a\xff", "b"),
        (b"a\x80", "a\x80"),
        (b"\xc3", "\xc0"),
        (b"\xed\xa0\x80", "\ue000"),
        (b"\xed\x9f\xbf\xff", "\ue000"),
        (b"\xf4\x8f\xbf\xbf\xff", None),
    ],
)
def test_known_bounds(bound: bytes, expected: str | None) -> None:
    assert text_from(bound) == expected


@pytest.mark.parametrize("data", [b"\xff", b"a\0", b"\xed\xa0\x80", b"\xc3"])
def test_what_no_row_can_have_is_no_text(data: bytes) -> None:
    assert text_or_none(data) is None
    assert text_or_none(b"a") == "a"
