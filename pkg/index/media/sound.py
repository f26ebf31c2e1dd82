"""What music beyond MP3 tells: FLAC, Ogg, WAV, M4A, AIFF, by tinytag, within limits of our own."""

import io
from typing import Final

from .source import Source

MOST_READ_BYTES: Final = 32 * 1024 * 1024
"""Of one file. Ogg tells how long it plays on its last page, which is found by way of all."""

LONGEST_TEXT: Final = 1000
"""Characters of one tag; what is longer is cut."""

_WINDOW_BYTES: Final = 16 * 1024
_TEXTS: Final = ("title", "artist", "album", "genre", "year")
_NUMBERS: Final = ("track", "disc")


def sound_tags(source: Source) -> dict[str, str]:
    """title artist album genre year track disc durationms: where told. Empty for other content.

    Of a file that is too large to be read through, no duration.
    """
    return _tags(source, with_duration=True) or _tags(source, with_duration=False)


def _tags(source: Source, *, with_duration: bool) -> dict[str, str]:
    try:
        from tinytag import TinyTag, TinyTagException  # only where there is music
    except ImportError:  # extra `media`
        return {}
    window = io.BufferedReader(_Window(source), _WINDOW_BYTES)
    try:
        found = TinyTag.get(file_obj=window, duration=with_duration)
    except TinyTagException:  # whatever goes wrong in a parser comes as this, our limit too
        return {}
    tags = {name: _text(getattr(found, name)) for name in _TEXTS}
    tags |= {name: str(getattr(found, name) or "") for name in _NUMBERS}
    # A damaged head can claim any length, and one that is no number.
    if found.duration is not None and 0 < found.duration < 1e9:
        tags["durationms"] = str(round(found.duration * 1000))
    return {name: value for name, value in tags.items() if value}


def _text(value: str | None) -> str:
    return (value or "").replace("\0", " ").strip()[:LONGEST_TEXT]


class _Window(io.RawIOBase):
    """A source as a file that can be read so much and no more."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._offset = 0
        self._left = MOST_READ_BYTES

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._source.size}[whence]
        if start + offset < 0:
            raise OSError("before the start")
        self._offset = start + offset
        return self._offset

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        data = self._source.read(self._offset, len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise OSError(f"over {MOST_READ_BYTES} bytes are read")
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)
