"""ID3v2 tags of music, and how long it plays."""

import hashlib
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from ...errors import Corrupt
from .mpeg import duration_ms
from .source import Section, Source, take

MAX_TAG_SIZE: Final = 16 * 1024 * 1024
"""Bytes of a tag that is read; pictures in larger ones are not worth the memory."""

MAX_FRAMES: Final = 1000
MAX_TEXT_SIZE: Final = 16 * 1024
"""Bytes of one text; what is longer is cut."""

_TEXT_TAGS: Final = {b"TIT2": "title", b"TPE1": "artist", b"TALB": "album", b"TCON": "genre"}
_PIECE_SIZE: Final = 1024 * 1024


class _Frame(NamedTuple):
    kind: bytes
    body: bytes


def media_tags(source: Source) -> dict[str, str]:
    """What an ID3v2.3 or 2.4 tag at the start tells; empty without one.

    title artist album genre year track disc musicbrainzalbumid durationms: where told.
    mediaref: the SHA-224 ref of the sound alone, so that equal music is found under other tags.
    """
    head = source.read(0, 10)
    if len(head) < 10 or not head.startswith((b"ID3\3", b"ID3\4")):
        return {}
    tag_size = _seven_bits(head[6:10])
    try:
        tags = _text_tags(source, head, tag_size)
    except Corrupt:
        return {}
    sound = _sound(source, 10 + tag_size)
    tags["mediaref"] = _ref(sound)
    length_ms = duration_ms(sound)
    if length_ms:
        tags["durationms"] = str(length_ms)
    return {name: value for name, value in tags.items() if value}


def _seven_bits(data: bytes) -> int:
    value = 0
    for byte in data:
        value = value << 7 | byte & 0x7F
    return value


def _sound(source: Source, start: int) -> Section:
    """Between the ID3v2 tag and an ID3v1 tag."""
    end = source.size
    if end - 128 >= start and source.read(end - 128, 3) == b"TAG":
        end -= 128
    return Section(source, start, end - start)


def _ref(sound: Section) -> str:
    digest = hashlib.sha224()
    for offset in range(0, sound.size, _PIECE_SIZE):
        digest.update(sound.read(offset, _PIECE_SIZE))
    return f"sha224-{digest.hexdigest()}"


def _text_tags(source: Source, head: bytes, tag_size: int) -> dict[str, str]:
    version, flags = head[3], head[5]
    body = take(source, 10, min(tag_size, MAX_TAG_SIZE))
    if flags & 0x80 and version == 3:
        body = _synchronised(body)
    frames: dict[bytes, bytes] = {}
    tags: dict[str, str] = {}
    for frame in _frames(body, version, bool(flags & 0x40)):
        if frame.kind == b"TXXX":
            name, _, value = _text(frame.body, keep_nul=True).partition("\0")
            if name == "MusicBrainz Album Id":
                tags.setdefault("musicbrainzalbumid", value.replace("\0", " "))
        else:
            frames.setdefault(frame.kind, frame.body)
    for kind, name in _TEXT_TAGS.items():
        tags[name] = _text(frames.get(kind, b""))
    tags["year"] = _year(frames, version)
    for kind, name in ((b"TRCK", "track"), (b"TPOS", "disc")):
        tags[name] = _leading_number(_text(frames.get(kind, b"")))
    return tags


def _frames(body: bytes, version: int, extended: bool) -> Iterator[_Frame]:
    at = 0
    if extended:
        size = int.from_bytes(body[:4]) + 4 if version == 3 else _seven_bits(body[:4])
        at = max(6, size)
    for _ in range(MAX_FRAMES):
        head = body[at : at + 10]
        if len(head) < 10 or not head[0]:
            return
        size = int.from_bytes(head[4:8]) if version == 3 else _seven_bits(head[4:8])
        data = body[at + 10 : at + 10 + size]
        if len(data) < size:
            return
        plain = _plain(data, head[9], version)
        if plain is not None:
            yield _Frame(head[:4], plain)
        at += 10 + size


def _plain(data: bytes, flags: int, version: int) -> bytes | None:
    """A frame's content; None when it is compressed or encrypted."""
    if version == 3:
        return None if flags & 0xC0 else data[1 if flags & 0x20 else 0 :]
    if flags & 0x0C:
        return None
    data = data[(1 if flags & 0x40 else 0) + (4 if flags & 0x01 else 0) :]
    return _synchronised(data) if flags & 0x02 else data


def _synchronised(data: bytes) -> bytes:
    """Undo the writing of FF as FF 00 that hides sound-like bytes from players."""
    return data.replace(b"\xff\0", b"\xff")


_ENCODINGS: Final = ("latin-1", "utf-16", "utf-16-be", "utf-8")


def _text(body: bytes, keep_nul: bool = False) -> str:
    """The text of a frame; several values, which NUL separates, joined by blanks."""
    if not body or body[0] >= len(_ENCODINGS):
        return ""
    encoding, data = _ENCODINGS[body[0]], body[1 : 1 + MAX_TEXT_SIZE]
    if encoding == "utf-16" and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16-be"
    text = data.decode(encoding, "replace")
    return text if keep_nul else text.replace("\0", " ")


def _year(frames: dict[bytes, bytes], version: int) -> str:
    text = _text(frames.get(b"TYER" if version == 3 else b"TDRC", b""))
    digits = text if version == 3 else text[:4]
    return digits if re.fullmatch(r"[0-9]{4}", digits) else ""


def _leading_number(text: str) -> str:
    match = re.match(r"[0-9]{1,9}", text)
    return str(int(match[0])) if match is not None and int(match[0]) else ""
