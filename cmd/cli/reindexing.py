"""`pk reindex-diskpacked`: the index of a folder of packed blobs, made anew from the packs.

A pack holds records without anything between: `[<ref> <size>]` and as many bytes. A removed blob
has `x` for every letter of its hash's name and `0` for every digit. A row of the index is
ref -> `<pack> <offset of the first byte> <size>`.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import click

from ..blob import MAX_BLOB_SIZE, Ref, parse_ref
from ..errors import ConfigError, Corrupt
from ..sorted.kv import Batch, KeyValue
from ..sorted.registry import open_kv
from .common import Command, Session, json_flag, switch

MAX_HEADER_BYTES = 512
HEADER = re.compile(rb"\[([a-z0-9]+-[0-9a-f]+) ([0-9]{1,9})\]")
REMOVED = re.compile(rb"x+-0+")


class Record(NamedTuple):
    """Where a blob lies. `is_whole`: all its bytes are there and match the ref."""

    ref: Ref
    row: str
    is_whole: bool


def pack_files(folder: Path) -> list[Path]:
    """The packs in order. Raises ConfigError where there are none, or one is missing between."""
    numbers = sorted(int(path.stem[5:]) for path in folder.glob("pack-[0-9]*.blobs"))
    if not numbers:
        raise ConfigError("reindex", folder, "it holds no pack-00000.blobs")
    if numbers != list(range(len(numbers))):
        missing = min(set(range(numbers[-1])) - set(numbers))
        raise ConfigError("reindex", folder, f"pack-{missing:05}.blobs is missing")
    return [folder / f"pack-{number:05}.blobs" for number in numbers]


def records(pack: Path, number: int) -> Iterator[Record]:
    """Every record of a pack that was not removed. Raises Corrupt where one can't be read."""
    with pack.open("rb") as file:
        offset = 0
        while head := file.read(MAX_HEADER_BYTES):
            match = HEADER.match(head)
            if match is None or int(match[2]) > MAX_BLOB_SIZE:
                raise Corrupt("read", pack, f"no record begins at offset {offset}")
            begin, size = offset + match.end(), int(match[2])
            offset = begin + size
            if not REMOVED.fullmatch(match[1]):
                yield _record(file, number, match[1].decode(), begin, size)
            file.seek(offset)


def _record(file: BinaryIO, number: int, name: str, begin: int, size: int) -> Record:
    ref = parse_ref(name)
    if ref is None:
        raise Corrupt("read", file.name, f"{name} is no ref")
    file.seek(begin)
    return Record(ref, f"{number} {begin} {size}", ref.matches(file.read(size)))


@click.command(cls=Command)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@switch("--overwrite", help="Write the rows; without it, the index is only compared.")
@json_flag
@click.pass_obj
def reindex_diskpacked(session: Session, folder: Path | None, overwrite: bool) -> None:
    """Rebuild the index of a folder of packed blobs, which no server may have open.

    Damaged and cut-off blobs get no row: their good copies, if any, count.
    """
    place = folder or configured_folder()
    packs = pack_files(place)
    with open_kv({"type": "leveldb", "file": str(place / "index.leveldb")}) as rows:
        found: dict[Ref, str] = {}
        for number, pack in enumerate(packs):
            for record in records(pack, number):
                if record.is_whole:
                    found[record.ref] = record.row
                else:
                    reason = f"{pack}, row {record.row}: bytes do not match"
                    session.output.problem(Corrupt("read", record.ref, reason))
        different = list(differing(rows, found))
        for ref in different:
            there = rows.get(ref.encode()) or b""
            text = f"{ref}: index {there.decode() or 'none'}, packs {found.get(ref, 'none')}"
            session.output.result(text, blobRef=ref, packs=found.get(ref))
        if overwrite:
            write(rows, found, different)
        elif different:
            reason = f"{len(different)} rows differ; -overwrite mends them"
            session.output.problem(Corrupt("compare", place / "index.leveldb", reason))


def configured_folder() -> Path:
    """The folder of packed blobs in the server's configuration, where there is just one."""
    from ..server.config import load
    from .configuration import chosen_file

    location = chosen_file(None, os.environ)
    prefixes = load.load(location, os.environ).prefixes.values()
    found = [str(one.args["path"]) for one in prefixes if one.handler == "storage-diskpacked"]
    if len(found) != 1:
        reason = f"it names {len(found)} folders of packed blobs: say which one"
        raise ConfigError("choose folder", location, reason)
    return Path(found[0])


def differing(rows: KeyValue, found: dict[Ref, str]) -> Iterator[Ref]:
    """Refs whose row is missing, wrong or without a record, in ref order."""
    stale = []
    for key, value in rows.find(b"", b""):
        ref = parse_ref(key.decode("utf-8", "replace"))
        if ref is not None and found.get(ref) != value.decode("utf-8", "replace"):
            stale.append(ref)
    missing = [ref for ref in found if rows.get(ref.encode()) is None]
    return iter(sorted({*stale, *missing}))


def write(rows: KeyValue, found: dict[Ref, str], different: list[Ref]) -> None:
    batch = Batch()
    for ref in different:
        row = found.get(ref)
        if row is None:
            batch.delete(ref.encode())
        else:
            batch.set(ref.encode(), row.encode())
    rows.commit(batch)
