"""Bytes as bounds of text: for engines whose keys are text and are compared as such."""

_HIGHEST = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)
"""No characters: UTF-8 has no bytes for them."""


def text_or_none(data: bytes) -> str | None:
    """The bytes as text; None if they are no UTF-8 or contain NUL, so that no row can have them."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def text_from(bound: bytes) -> str | None:
    """The smallest text without NUL whose UTF-8 bytes are not below `bound`; None if none is.

    So a range of texts from it holds exactly the texts that a range of bytes from `bound` holds.
    """
    head, tail = _split(bound)
    if not tail:
        return head
    if tail[0] == 0:
        return head + "\1"
    # Characters stand in the order of their bytes: search the first one above the tail.
    low, high = 1, _HIGHEST + 1
    while low < high:
        middle = (low + high) // 2
        if _above_surrogates(middle).encode() > tail:
            high = middle
        else:
            low = middle + 1
    return head + _above_surrogates(low) if low <= _HIGHEST else _after(head)


def _split(data: bytes) -> tuple[str, bytes]:
    """The longest head that is text without NUL, and what follows."""
    head, nul, _ = data.partition(b"\0")
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        return data[: error.start].decode(), data[error.start :]
    return text, data[len(head) :] if nul else b""


def _after(prefix: str) -> str | None:
    """The smallest text above all that begin with the prefix."""
    head = prefix.rstrip(chr(_HIGHEST))
    return head[:-1] + _above_surrogates(ord(head[-1]) + 1) if head else None


def _above_surrogates(code: int) -> str:
    first, last = _SURROGATES
    return chr(last + 1 if first <= code <= last else code)
