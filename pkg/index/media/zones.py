"""Time zones of places, and instants of local times."""

import threading
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_SECOND_NS = 1_000_000_000
_FINDER_LOCK = threading.Lock()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant_ns(local: datetime, zone: tzinfo) -> int:
    """The instant at which clocks of this zone show `local`, in nanoseconds since 1970 UTC.

    local: the shown time, tagged as UTC. Where clocks show a time twice or never, it is read
    with the offset that holds when UTC clocks show it, unless another one holds at the result.
    """
    seconds = (local - _EPOCH) // timedelta(seconds=1)
    first = _offset_s(seconds, zone)
    return (seconds - _offset_s(seconds - first, zone)) * _SECOND_NS


def _offset_s(instant_s: int, zone: tzinfo) -> int:
    try:
        offset = (_EPOCH + timedelta(seconds=instant_s)).astimezone(zone).utcoffset()
    except OverflowError:  # the first and the last day that Python can name
        return 0
    return 0 if offset is None else offset // timedelta(seconds=1)


def zone_at(latitude: float, longitude: float) -> tzinfo | None:
    """The time zone of a place on land; None at sea, or without the `media` extra."""
    finder = _finder()
    if finder is None:
        return None
    with _FINDER_LOCK:  # a finder moves file positions: one thread at a time
        name: str | None = finder.timezone_at_land(lat=latitude, lng=longitude)
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        return None


@lru_cache(maxsize=1)
def _finder() -> Any:
    # Loading takes a second and 40 MB of maps: not before the first picture with coordinates.
    try:
        from timezonefinder import TimezoneFinder
    except ImportError:
        return None
    return TimezoneFinder()
