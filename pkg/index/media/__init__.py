"""Facts in media files: sizes, dates, places, tags. Small bounded parsers that trust nothing.

Every public function takes a `Source` and answers None (or nothing) for data that it can't read:
a broken picture is stored like any other, it only has no facts.
"""

from datetime import tzinfo

from .exif import read_exif, taken_ns
from .source import BytesSource, Source
from .zones import zone_at


def exif_time_ns(content: bytes | Source, zone: tzinfo) -> int | None:
    """When the picture with this content was taken, nanoseconds since 1970 UTC; None if untold.

    zone: of a picture that does not tell its place.
    """
    exif = read_exif(BytesSource(content) if isinstance(content, bytes) else content)
    return None if exif is None else taken_ns(exif, zone, zone_at)
