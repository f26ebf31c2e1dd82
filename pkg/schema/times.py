"""Instants: nanoseconds since the Unix epoch (UTC) as `int`, and their RFC 3339 text."""

import re
from datetime import date
from functools import lru_cache

from ..errors import Invalid

_EPOCH = date(1970, 1, 1).toordinal()
_SECONDS_A_DAY = 86_400
_BILLION = 1_000_000_000
_CYCLE_DAYS = 146_097  # 400 years, after which the calendar repeats

_FORM = re.compile(
    r"(\d{4}-\d\d-\d\d)T(\d\d?):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))",
    re.ASCII,
)


def format_time(time_ns: int, zone_unknown: bool = False) -> str:
    """The text of an instant: UTC, the fraction without trailing zeros.

    zone_unknown: mark it as local time of an unknown zone, by the zone `-00:01`. Years above
    9999 take the digits that they need, which no reader of RFC 3339 accepts.
    """
    seconds, fraction = divmod(time_ns, _BILLION)
    days, second = divmod(seconds - 60 if zone_unknown else seconds, _SECONDS_A_DAY)
    minute = second // 60
    text = f"{_day_text(days)}T{minute // 60:02d}:{minute % 60:02d}:{second % 60:02d}"
    if fraction:
        text += f".{fraction:09d}".rstrip("0")
    return text + ("-00:01" if zone_unknown else "Z")


@lru_cache(maxsize=1024)  # most times in hand are of few days
def _day_text(days: int) -> str:
    """The day so many after the epoch."""
    cycles, day_of_cycle = divmod(days + _EPOCH - 1, _CYCLE_DAYS)
    day = date.fromordinal(day_of_cycle + 1)
    return f"{day.year + 400 * cycles:04d}-{day.month:02d}-{day.day:02d}"


@lru_cache(maxsize=1024)
def _days(text: str) -> int:
    """Undoes `_day_text`. Raises ValueError for a day that there is not."""
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:])
    # Year 0 exists here and is a leap year, unknown to datetime: count from year 400.
    days = date(year + 400 * (year == 0), month, day).toordinal()
    return days - _EPOCH - _CYCLE_DAYS * (year == 0)


@lru_cache(maxsize=1024)  # a date is read where a blob is recognised, and where it counts
def parse_time(text: str) -> int:
    """The instant that an RFC 3339 text names, cut to nanoseconds. Raises Invalid.

    Any zone offset; `T` and `Z` in upper case only; a comma may stand for the point. As readers
    do: an hour may be one digit, an offset may be a whole day or name 60 minutes.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise Invalid("parse time", repr(text[:60]), "not RFC 3339")
    day, hours, minutes, seconds_text, fraction, sign, zone_hours, zone_minutes = match.groups()
    try:
        days = _days(day)
    except ValueError as error:
        raise Invalid("parse time", repr(text), str(error)) from None
    hour, minute, second = int(hours), int(minutes), int(seconds_text)
    if hour > 23 or minute > 59 or second > 59:
        raise Invalid("parse time", repr(text), "no such time of day")
    seconds = days * _SECONDS_A_DAY + hour * 3600 + minute * 60 + second
    if sign:
        if int(zone_hours) > 24 or int(zone_minutes) > 60:
            raise Invalid("parse time", repr(text), "no such zone")
        offset = int(zone_hours) * 3600 + int(zone_minutes) * 60
        seconds += offset if sign == "-" else -offset
    return seconds * _BILLION + (int(fraction[:9].ljust(9, "0")) if fraction else 0)
