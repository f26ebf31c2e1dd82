import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.server.ranges import (
    BadRange,
    Span,
    byte_ranges,
    precondition,
    range_counts,
    spans,
)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, []),
        ("", []),
        ("bytes=0-1", [Span(0, 2)]),
        ("bytes=1-", [Span(1, 9)]),
        ("bytes=-3", [Span(7, 3)]),
        ("bytes=-30", [Span(0, 10)]),
        ("bytes=8-100", [Span(8, 2)]),
        ("bytes=0-0,2-2", [Span(0, 1), Span(2, 1)]),
        ("bytes= 0-0 , 50-60", [Span(0, 1)]),
        ("bytes=,0-0", [Span(0, 1)]),
        ("bytes=1 - 2", [Span(1, 2)]),
        ("bytes=30-20,0-0", [Span(0, 1)]),
    ],
)
def test_a_range_names_its_bytes(header: str | None, found: list[Span]) -> None:
    assert spans(header, 10) == found


@pytest.mark.parametrize(
    "header",
    ["bytes=zz", "lines=0-1", "bytes", "bytes=2-1", "bytes=-", "bytes=1-2-3", "bytes=+1-2"],
)
def test_a_malformed_range_is_refused_without_a_size(header: str) -> None:
    with pytest.raises(BadRange) as caught:
        spans(header, 10)
    assert caught.value.size is None


@pytest.mark.parametrize("header", ["bytes=10-20", "bytes=-0"])
def test_a_range_past_the_end_is_refused_with_the_size(header: str) -> None:
    with pytest.raises(BadRange) as caught:
        spans(header, 10)
    assert caught.value.size == 10


def test_an_empty_body_has_no_ranges() -> None:
    assert spans("bytes=0-1", 0) == []


def test_ranges_that_ask_for_more_than_there_is_get_the_whole() -> None:
    assert spans("bytes=0-8,0-8", 10) == []


def test_too_many_ranges_are_refused() -> None:
    with pytest.raises(BadRange):
        spans("bytes=" + ",".join(["0-0"] * 101), 1000)


@given(st.text(max_size=60), st.integers(0, 50))
def test_any_header_gives_spans_inside_the_body_or_a_refusal(text: str, size: int) -> None:
    for header in (text, "bytes=" + text):
        try:
            found = spans(header, size)
        except BadRange:
            continue
        assert all(0 <= span.start < span.start + span.length <= size for span in found)


def test_the_length_of_a_multipart_answer_is_that_of_its_bytes() -> None:
    parts = [Span(0, 3), Span(5, 2)]
    frame = byte_ranges(parts, 10, "text/plain")
    body = frame.heads[0] + b"abc" + frame.heads[1] + b"fg" + frame.tail
    assert len(body) == frame.length(parts)
    assert b"Content-Range: bytes 5-6/10\r\nContent-Type: text/plain\r\n\r\nfg\r\n--" in body


BLOB_DATE = "Thu, 10 Jun 2010 23:42:15 GMT"
BEFORE, AFTER = "Thu, 10 Jun 2010 23:42:14 GMT", "Fri, 11 Jun 2010 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, None),
        ({"if-modified-since": BLOB_DATE}, 304),
        ({"if-modified-since": AFTER}, 304),
        ({"if-modified-since": BEFORE}, None),
        ({"if-modified-since": "yesterday"}, None),
        ({"if-modified-since": ""}, None),
        ({"if-modified-since": f"Mon, 01 Jan {10**20} 00:00:00 GMT"}, None),
        ({"if-modified-since": f"Mon, 01 Jan 2020 00:00:00 +{10**20}"}, None),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x"'}, None),
        ({"if-none-match": '"x"', "if-modified-since": BLOB_DATE}, None),
        ({"if-unmodified-since": BEFORE}, 412),
        ({"if-unmodified-since": BLOB_DATE}, None),
        ({"if-match": '"x"'}, 412),
        ({"if-match": "*"}, None),
        ({"if-match": "*", "if-unmodified-since": BEFORE}, None),
    ],
)
def test_a_conditional_request_is_judged_by_the_date(
    headers: dict[str, str], status: int | None
) -> None:
    assert precondition(headers, BLOB_DATE) == status


@pytest.mark.parametrize(
    ("headers", "counts"),
    [
        ({}, True),
        ({"if-range": BLOB_DATE}, True),
        ({"if-range": AFTER}, False),
        ({"if-range": '"x"'}, False),
        ({"if-range": ""}, False),
    ],
)
def test_a_range_counts_only_for_what_it_was_asked_of(
    headers: dict[str, str], counts: bool
) -> None:
    assert range_counts(headers, BLOB_DATE) == counts


@given(st.text(max_size=40))
def test_no_date_text_is_an_error(text: str) -> None:
    names = ("if-modified-since", "if-unmodified-since", "if-range")
    for name in names:
        precondition({name: text}, BLOB_DATE)
        range_counts({name: text}, BLOB_DATE)
