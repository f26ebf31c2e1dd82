"""Tests of single values: texts, numbers, times, places."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from ..errors import Unsupported
from ..index.attributes import Place
from ..index.words import folded
from .constraint import (
    FloatConstraint,
    IntConstraint,
    LocationConstraint,
    StringConstraint,
    TimeConstraint,
)

_BILLION: Final = 1_000_000_000
_YEAR_1_NS: Final = -62_135_596_800 * _BILLION

MAX_REGEXP_BYTES: Final = 8 * 1024 * 1024
"""Memory that a compiled regexp may take; one that needs more is as good as an invalid one."""


# -- numbers ------------------------------------------------------------------------------------


def int_matches(test: IntConstraint, number: int) -> bool:
    if test.equals is not None:
        return number == test.equals
    return _in_range(test, number)


def float_matches(test: FloatConstraint, number: float) -> bool:
    return _in_range(test, number)


def _in_range(test: IntConstraint | FloatConstraint, number: float) -> bool:
    if (test.min != 0 or test.zero_min) and number < test.min:
        return False
    return not ((test.max != 0 or test.zero_max) and number > test.max)


# -- texts --------------------------------------------------------------------------------------


def string_matches(test: StringConstraint, text: str) -> bool:
    """text: lone surrogates stand for bytes that are not UTF-8."""
    if test.empty and text:
        return False
    if test.byte_length is not None and not int_matches(test.byte_length, _byte_length(text)):
        return False
    if test.regexp:
        search = _compiled(test.regexp)
        return search is not None and search(text.encode("utf-8", "replace").decode()) is not None
    if test.case_insensitive:
        text = folded(text)
        equals, contains = folded(test.equals), folded(test.contains)
        prefix, suffix = folded(test.has_prefix), folded(test.has_suffix)
    else:
        equals, contains = test.equals, test.contains
        prefix, suffix = test.has_prefix, test.has_suffix
    return (
        (not equals or text == equals)
        and contains in text
        and text.startswith(prefix)
        and text.endswith(suffix)
    )


def _byte_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogateescape"))


_Search = Callable[[str], object]


@lru_cache(maxsize=64)
def _compiled(pattern: str) -> _Search | None:
    """The search for an RE2 pattern, whose time is linear in the text; None for an invalid one."""
    try:
        import re2
    except ImportError:
        raise Unsupported("search", "regexp", "google-re2 is not installed") from None
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_REGEXP_BYTES
    try:
        search: _Search = re2.compile(pattern, options).search
    except re2.error:
        return None
    return search


# -- times and places ---------------------------------------------------------------------------


def time_matches(test: TimeConstraint, time_ns: int, now_ns: int) -> bool:
    """Bounds in the second 0 of 1970 are not set, as everywhere in this protocol."""
    earliest_ns, end_ns = time_bounds(test, now_ns)
    if time_ns == _YEAR_1_NS or (end_ns is not None and time_ns >= end_ns):
        return False
    return earliest_ns is None or time_ns >= earliest_ns


def time_bounds(test: TimeConstraint, now_ns: int) -> tuple[int | None, int | None]:
    """The first moment that matches and the first after those that do; None: no bound."""
    earliest_ns = _set_time(test.after_ns)
    if earliest_ns is None and test.in_last_ns > 0:
        earliest_ns = now_ns - test.in_last_ns
    return earliest_ns, _set_time(test.before_ns)


def _set_time(time_ns: int | None) -> int | None:
    return None if time_ns is None or time_ns // _BILLION == 0 else time_ns


def place_matches(test: LocationConstraint, place: Place) -> bool:
    if test.any:
        return True
    latitude, longitude = place
    if not test.south <= latitude <= test.north:
        return False
    if test.west < test.east:
        return test.west <= longitude <= test.east
    return longitude >= test.west or longitude <= test.east
