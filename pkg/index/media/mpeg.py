"""How long MPEG audio plays, told from its first frame."""

from typing import Final

from .source import Source

_BIT_RATES: Final = {  # kbit/s by (MPEG-1?, layer), for the index 1 to 14
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES: Final = (44_100, 48_000, 32_000)
_RATE_DIVISORS: Final = {3: 1, 2: 2, 0: 4}  # by version bits: MPEG 1, 2, 2.5
_SAMPLES: Final = {(True, 1): 384, (True, 2): 1152, (True, 3): 1152} | {
    (False, 1): 384,
    (False, 2): 1152,
    (False, 3): 576,
}
_SEARCH_SIZE: Final = 64 * 1024
"""Bytes in which the first frame is looked for."""


def duration_ms(sound: Source) -> int | None:
    """Milliseconds, by whole-number arithmetic; None when no frame begins the sound.

    From the frame count of a Xing or Info header, else from the bit rate of the first frame.
    """
    data = sound.read(0, _SEARCH_SIZE)
    at = _first_frame(data)
    if at is None:
        return None
    header = int.from_bytes(data[at : at + 4])
    version, layer = header >> 19 & 3, 4 - (header >> 17 & 3)
    is_mpeg_1 = version == 3
    rate = _SAMPLE_RATES[header >> 10 & 3] // _RATE_DIVISORS[version]
    mono = header >> 6 & 3 == 3
    frames = _frame_count(data, at + 4 + _side_size(is_mpeg_1, mono))
    if frames:
        return _SAMPLES[is_mpeg_1, layer] * frames * 1000 // rate
    bit_rate = _BIT_RATES[is_mpeg_1, layer][(header >> 12 & 15) - 1]
    return sound.size // bit_rate * 8


def _side_size(is_mpeg_1: bool, mono: bool) -> int:
    """Bytes of side information, behind which Xing and Info stand."""
    if is_mpeg_1:
        return 17 if mono else 32
    return 9 if mono else 17


def _first_frame(data: bytes) -> int | None:
    at = data.find(b"\xff")
    while 0 <= at <= len(data) - 4:
        if _is_header(int.from_bytes(data[at : at + 4])):
            return at
        at = data.find(b"\xff", at + 1)
    return None


def _is_header(header: int) -> bool:
    return (
        header >> 21 == 0x7FF
        and header >> 19 & 3 != 1
        and header >> 17 & 3 != 0
        and header >> 12 & 15 not in (0, 15)
        and header >> 10 & 3 != 3
    )


def _frame_count(data: bytes, at: int) -> int | None:
    if data[at : at + 4] not in (b"Xing", b"Info") or not data[at + 7 : at + 8]:
        return None
    if not data[at + 7] & 1:
        return None
    return int.from_bytes(data[at + 8 : at + 12])
