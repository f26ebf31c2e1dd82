"""Dates in names of files and folders: `2024-05-03-Trip`, `2024-05 Rome`, `IMG_20240503.jpg`."""

import re
from datetime import datetime, timedelta, tzinfo
from typing import Final, NamedTuple

_AT_START = re.compile(r"(\d{4})([-_.])(\d{2})(?:\2(\d{2}))?(?![0-9A-Za-z])", re.ASCII)
_EIGHT_DIGITS = re.compile(r"(?<![0-9A-Za-z])(\d{4})(\d{2})(\d{2})(?![0-9A-Za-z])", re.ASCII)
_FIRST_YEAR: Final = 1800
_LAST_YEAR: Final = 2199
_ZONES_S: Final = 14 * 3600
"""What is the day somewhere begins so long before, and ends so long behind, that of here."""


class Days(NamedTuple):
    """first_ns, end_ns: from the first instant of a day or a month to that of the next."""

    first_ns: int
    end_ns: int

    def may_hold(self, time_ns: int) -> bool:
        """Whether it is then, in whatever zone it was named."""
        slack_ns = _ZONES_S * 1_000_000_000
        return self.first_ns - slack_ns <= time_ns < self.end_ns + slack_ns


def days_named(name: bytes, zone: tzinfo) -> Days | None:
    """What a name begins with, year-month-day or year-month; else a day in 8 digits in it.

    Separated by `-`, `_` or `.`, both times the same; no letter or digit stands next to it. None:
    it names no date, or one that no calendar has, or a year outside 1800 to 2199.
    """
    text = name.decode("utf-8", "replace")
    match = _AT_START.match(text)
    if match is not None:
        year, month, day = match[1], match[3], match[4]
    else:
        match = _EIGHT_DIGITS.search(text)
        if match is None:
            return None
        year, month, day = match.groups()
    if not _FIRST_YEAR <= int(year) <= _LAST_YEAR:
        return None
    try:
        first = datetime(int(year), int(month), int(day or 1), tzinfo=zone)
    except ValueError:
        return None
    # Wall-clock time: the day on which clocks change has other than 24 hours.
    end = first + timedelta(days=1) if day else _next_month(first)
    return Days(_nanoseconds(first), _nanoseconds(end))


def _next_month(first: datetime) -> datetime:
    later = first + timedelta(days=31)
    return later.replace(day=1)


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000
