"""Facts of films and of music, which Perkeep's rows have no place for: rows of our own."""

from typing import Final

import msgspec

from .media.film import read_film
from .media.sound import sound_tags
from .media.source import Source
from .rows import DamagedRow, Row

MEDIA: Final = b"pk|media|"


class Clip(msgspec.Struct, frozen=True, omit_defaults=True):
    """tags: as those of music, and `width`, `height`, in pixels, and `durationms` of a film.

    place: latitude and longitude in degrees. taken_ns: when it was, nanoseconds since 1970.
    """

    tags: dict[str, str] = {}
    place: tuple[float, float] | None = None
    taken_ns: int | None = None


NOTHING: Final = Clip()

_decoder: Final = msgspec.json.Decoder(Clip)


def is_clip(mime: str) -> bool:
    """Whether a file of this kind may have facts. Of Ogg the kind does not tell what is in it."""
    return mime.startswith(("audio/", "video/")) or mime == "application/ogg"


def is_looked_into(mime: str) -> bool:
    """Whether they may be rows of ours: MP3 without the tags that Perkeep reads tells nothing."""
    return is_clip(mime) and mime != "audio/mpeg"


def read_clip(source: Source) -> Clip:
    """NOTHING for content that tells nothing."""
    film = read_film(source)
    if film is None:
        return Clip(sound_tags(source))
    numbers = {"durationms": film.duration_ms, "width": film.width, "height": film.height}
    tags = {name: str(value) for name, value in numbers.items() if value}
    if not film.width:  # music in the same clothes
        tags = sound_tags(source) or tags
    return Clip(tags, film.place, film.taken_ns)


def clip_row(whole_ref: str, clip: Clip) -> Row:
    return MEDIA + whole_ref.encode(), msgspec.json.encode(clip)


def parse_clip(value: bytes) -> Clip:
    """Raises DamagedRow."""
    try:
        return _decoder.decode(value)
    except msgspec.DecodeError as error:
        raise DamagedRow("read", "media row", str(error)) from None
