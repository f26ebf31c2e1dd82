"""Bech32, the spelling of age's keys: a name, `1`, and the bytes in letters with a checksum."""

from typing import Final

_LETTERS: Final = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR: Final = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_LENGTH: Final = 6


def to_bech32(name: str, data: bytes) -> str:
    """name: in small letters, as the result is."""
    values = _regrouped(data, 8, 5)
    # 1 is what the checksum over everything comes to.
    rest = _checksum(name, [*values, *[0] * _CHECKSUM_LENGTH]) ^ 1
    shifts = range(5 * (_CHECKSUM_LENGTH - 1), -1, -5)
    values += [rest >> shift & 31 for shift in shifts]
    return f"{name}1{''.join(_LETTERS[value] for value in values)}"


def from_bech32(name: str, text: str) -> bytes | None:
    """The bytes of a text that has this name, all in small letters or all in capitals; None
    where it is broken."""
    small = text.lower()
    letters = small.removeprefix(f"{name}1")
    if text not in (small, text.upper()) or not text.isascii() or letters == small:
        return None
    if not set(letters) <= set(_LETTERS):
        return None
    values = [_LETTERS.index(letter) for letter in letters]
    if len(values) < _CHECKSUM_LENGTH or _checksum(name, values) != 1:
        return None
    del values[-_CHECKSUM_LENGTH:]
    whole_count = len(values) * 5 // 8
    data = bytes(_regrouped(values, 5, 8)[:whole_count])
    # What is left over must be zeros, and less than one letter.
    return data if _regrouped(data, 8, 5) == values else None


def _checksum(name: str, values: list[int]) -> int:
    found = 1
    spread = [*(ord(sign) >> 5 for sign in name), 0, *(ord(sign) & 31 for sign in name)]
    for value in spread + values:
        top, found = found >> 25, (found & 0x1FFFFFF) << 5 ^ value
        for bit, factor in enumerate(_GENERATOR):
            if top >> bit & 1:
                found ^= factor
    return found


def _regrouped(values: bytes | list[int], size: int, wanted: int) -> list[int]:
    """Numbers of `size` bits as numbers of `wanted` bits; zeros are added at the end."""
    bits = "".join(f"{value:0{size}b}" for value in values)
    groups = (bits[at : at + wanted] for at in range(0, len(bits), wanted))
    return [int(group.ljust(wanted, "0"), 2) for group in groups]
