"""Words of values, by which searches find a piece of a text (README.md, "Rows for searches").

A word is a run of letters, digits and `_`, its case folded. Whatever a value contains, each word
of that lies in a word of the value: so rows from the ends of words to words, and from words to
permanodes, find pieces without a scan.
"""

import re
from functools import lru_cache
from typing import Final

from ..blob.ref import HEX_DIGITS, parse_ref

PIECE: Final = 16
"""Characters of the longest piece that is looked for; one that begins so is told by its text."""

SHORTEST: Final = 3
"""Characters of the shortest; shorter ones are in almost everything."""

MOST_WORDS: Final = 200
"""Words of one value; one with more is a candidate always."""

_WORD = re.compile(r"\w+")
_NUMERIC = re.compile(r"[0-9tz.:+-]*")
_HEX = re.compile(r"[0-9a-f]*")

NUMBER_BEGINNINGS: Final = tuple("0123456789.-+:TZtz")
REF_BEGINNINGS: Final = tuple(f"{name}-" for name in sorted(HEX_DIGITS))
"""How values without words begin."""


def folded(text: str) -> str:
    """Equal for texts that differ in case only, by Unicode's simple folding (one to one)."""
    return text.lower() if text.isascii() else "".join(map(_folded_char, text))


@lru_cache(maxsize=4096)
def _folded_char(char: str) -> str:
    for fold in (char.casefold(), char.lower()):
        if len(fold) == 1:
            return fold
    return char


def words_of(value: str) -> list[str] | None:
    """The words of a value that have rows, each once; None: too many.

    Refs, numbers and dates have none: they are most values of a library, and few look for
    pieces of them. A long word is cut into overlapping ones, so that every piece is in one.
    """
    text = folded(value)
    if _NUMERIC.fullmatch(text) or ("-" in value and is_ref(value)):
        return []
    found: dict[str, None] = {}
    for word in _WORD.findall(text):
        if SHORTEST <= len(word) <= 2 * PIECE:
            found[word] = None
        elif len(word) >= SHORTEST:
            found.update(dict.fromkeys(_windows(word)))
        if len(found) > MOST_WORDS:
            return None
    return list(found)


def _windows(word: str) -> list[str]:
    return [word[start : start + 2 * PIECE] for start in range(0, len(word) - PIECE, PIECE)]


def ends_of(word: str) -> list[str]:
    """What is found of a word: each end of it, cut to the longest piece."""
    return [word[at : at + PIECE] for at in range(len(word) - SHORTEST + 1)]


def piece_of(needle: str) -> str:
    """What to look for of a text that values contain; "" if only a scan finds it."""
    longest = max(_WORD.findall(folded(needle)), key=len, default="")
    return longest[:PIECE] if len(longest) >= SHORTEST else ""


def is_ref(value: str) -> bool:
    """Whether the value is a ref of a known hash."""
    ref = parse_ref(value)
    return ref is not None and ref.is_supported


def may_be_in_number(needle: str) -> bool:
    """Whether a value without words that is no ref may contain the text."""
    return _NUMERIC.fullmatch(folded(needle)) is not None


def may_be_in_ref(needle: str) -> bool:
    """Whether a ref of a known hash may contain the text, in some case."""
    head, dash, digits = folded(needle).rpartition("-")
    if dash and not any(known.endswith(head + dash) for known in REF_BEGINNINGS):
        return False
    return _HEX.fullmatch(digits) is not None or any(digits in known for known in REF_BEGINNINGS)


def may_begin_ref(beginning: str) -> bool:
    """Whether a ref of a known hash may begin so."""
    return any(
        known.startswith(beginning) or beginning.startswith(known) for known in REF_BEGINNINGS
    )
