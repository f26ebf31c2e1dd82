"""Reads folders of packs as Perkeep does, without any of our code."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import plyvel

HEADER = re.compile(rb"\[([a-z0-9]+)-([0-9a-f]+) ([0-9]+)\]")
REMOVED = re.compile(rb"x+-0+")


def pack_files(folder: Path) -> list[Path]:
    """The packs 0, 1, 2... up to the first that is missing, which is where Perkeep stops too."""
    found: list[Path] = []
    while (path := folder / f"pack-{len(found):05}.blobs").exists():
        found.append(path)
    return found


def walk_as_perkeep(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield (row, ref, data) of every record that was not removed, in pack order.

    Walks from header to header. Raises ValueError where something else lies.
    """
    for number, path in enumerate(pack_files(folder)):
        with path.open("rb") as file:
            offset = 0
            while head := file.read(512):
                match = HEADER.match(head)
                if match is None:
                    raise ValueError(f"{path}: no header at {offset}")
                name, size = match[1] + b"-" + match[2], int(match[3])
                begin = offset + match.end()
                file.seek(begin)
                data = file.read(size)
                if len(data) < size:
                    raise ValueError(f"{path}: the record at {offset} is cut off")
                if not REMOVED.fullmatch(name):
                    yield f"{number} {begin} {size}", name.decode(), data
                offset = begin + size
                file.seek(offset)


def read_by_index(folder: Path, index: Path | None = None) -> dict[str, bytes]:
    """What the rows of the LevelDB index lead to; every digest is checked."""
    blobs: dict[str, bytes] = {}
    files: dict[int, BinaryIO] = {}
    opened = ExitStack()
    database = plyvel.DB(str(index or folder / "index.leveldb"), create_if_missing=False)
    try:
        for key, value in database:
            pack, offset, size = (int(part) for part in value.split(b" "))
            if value != b"%d %d %d" % (pack, offset, size):
                raise ValueError(f"row {value!r} is not as Perkeep writes it")
            if pack not in files:
                files[pack] = opened.enter_context((folder / f"pack-{pack:05}.blobs").open("rb"))
            files[pack].seek(offset)
            data = files[pack].read(size)
            name, _, digest = key.decode().partition("-")
            if hashlib.new(name, data).hexdigest() != digest:
                raise ValueError(f"{key.decode()} has another digest")
            blobs[key.decode()] = data
    finally:
        opened.close()
        database.close()
    return blobs
