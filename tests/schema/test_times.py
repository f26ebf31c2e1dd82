import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.errors import Invalid
from peatkeep.schema.times import format_time, parse_time

GOLDEN = json.loads((Path(__file__).parent.parent / "vectors/schema/json.json").read_text())
YEAR_0 = -62_167_219_200
YEAR_10000 = 253_402_300_800
BILLION = 1_000_000_000


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", GOLDEN["times"], ids=lambda case: case["text"])
def test_an_instant_has_the_golden_text(case: dict[str, int | str]) -> None:
    time_ns = int(case["sec"]) * BILLION + int(case["nsec"])
    assert format_time(time_ns, zone_unknown=case["zoneOffset"] == -60) == case["text"]
    assert parse_time(str(case["text"])) == time_ns


@given(time_ns=st.integers(YEAR_0 * BILLION + 60 * BILLION, YEAR_10000 * BILLION - 1))
def test_every_instant_comes_back(time_ns: int) -> None:
    assert parse_time(format_time(time_ns)) == time_ns
    assert parse_time(format_time(time_ns, zone_unknown=True)) == time_ns


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2014-05-13T18:53:20+02:00", "2014-05-13T16:53:20Z"),
        ("2014-05-13T16:23:20-00:30", "2014-05-13T16:53:20Z"),
        ("2014-01-01T00:30:00+01:00", "2013-12-31T23:30:00Z"),
        ("2014-05-13T16:53:20,25Z", "2014-05-13T16:53:20.25Z"),
        ("2014-05-13T16:53:20.1234567899Z", "2014-05-13T16:53:20.123456789Z"),
        ("2014-05-13T16:53:20.000Z", "2014-05-13T16:53:20Z"),
        ("0000-02-29T00:00:00Z", "0000-02-29T00:00:00Z"),
        ("1600-02-29T00:00:00Z", "1600-02-29T00:00:00Z"),
    ],
)
def test_other_forms_of_a_time_read_as_the_same_instant(text: str, same: str) -> None:
    assert format_time(parse_time(text)) == same


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2014-05-13",
        "2014-05-13t16:53:20Z",
        "2014-05-13T16:53:20z",
        "2014-05-13 16:53:20Z",
        "2014-05-13T16:53:20",
        "2014-05-13T16:53:20.Z",
        "2014-05-13T24:00:00Z",
        "2014-05-13T16:60:20Z",
        "2014-05-13T16:53:60Z",
        "2014-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2014-00-10T00:00:00Z",
        "0000-00-00T00:00:00Z",
        "2014-05-13T16:53:20+25:00",
        "2014-05-13T16:53:20+02:61",
        "2014-05-13T16:53:20+0200",
        "2014-05-13T16:53:20Z\n",
        "12014-05-13T16:53:20Z",
        "２０１４-05-13T16:53:20Z",
    ],
)
def test_what_is_not_rfc_3339_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2014-05-13T6:53:20Z", "2014-05-13T06:53:20Z"),
        ("2014-05-13T16:53:20+24:00", "2014-05-12T16:53:20Z"),
        ("2014-05-13T16:53:20-23:60", "2014-05-14T16:53:20Z"),
    ],
)
def test_what_all_readers_take_for_a_time_is_one(text: str, same: str) -> None:
    assert parse_time(text) == parse_time(same)


def test_a_time_beyond_year_9999_is_written_though_no_reader_takes_it() -> None:
    assert format_time(YEAR_10000 * BILLION) == "10000-01-01T00:00:00Z"
