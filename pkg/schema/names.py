"""File names and link targets, which are bytes, as members of a schema blob, which is text."""

import math
from collections.abc import Sequence

TextOrBytes = str | list[str | int]


def split_text(raw: bytes) -> TextOrBytes:
    """Bytes as JSON can hold them: a text if they are UTF-8, otherwise runs and byte values.

    The list has each longest valid UTF-8 run as a text, each other byte as an integer.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        pass
    pieces: list[str | int] = []
    while raw:
        try:
            pieces.append(raw.decode())
            break
        except UnicodeDecodeError as error:
            if error.start:
                pieces.append(raw[: error.start].decode())
            pieces.extend(raw[error.start : error.end])
            raw = raw[error.end :]
    return pieces


def join_pieces(pieces: Sequence[object]) -> bytes:
    """The bytes that a list in the form of `split_text` stands for.

    As every reader does: numbers lose their fraction and count modulo 256, other kinds of
    elements are skipped.
    """
    out = bytearray()
    for piece in pieces:
        if isinstance(piece, str):
            out += piece.encode("utf-8", "replace")
        elif isinstance(piece, (int, float)) and not isinstance(piece, bool):
            number = float(piece)  # the precision that the format gives a number here
            if math.isfinite(number):
                out.append(int(number) % 256)
    return bytes(out)


def last_component(path: bytes) -> bytes:
    """The part of a path that is stored: `dir/` gives `dir`, `/` gives `/`."""
    trimmed = path.rstrip(b"/")
    if path and not trimmed:
        return b"/"
    return trimmed.rpartition(b"/")[2]


def name_members(path: bytes) -> dict[str, object]:
    """`fileName` or `fileNameBytes` of the last component of a path; nothing for b""."""
    name = split_text(last_component(path))
    if not name:
        return {}
    return {"fileName" if isinstance(name, str) else "fileNameBytes": name}


def target_members(target: bytes) -> dict[str, object]:
    """`symlinkTarget` or `symlinkTargetBytes` of a link's whole target."""
    text = split_text(target)
    return {"symlinkTarget" if isinstance(text, str) else "symlinkTargetBytes": text}


def is_safe_name(name: bytes) -> bool:
    """Whether a name that was read may become an entry of a directory on disk."""
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name
