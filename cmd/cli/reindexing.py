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


class Packs:
    """What the packs of a folder hold.

    whole: ref -> the rows that fit it, the last record's last. damaged: refs of records whose
    bytes do not match. is_complete: every pack could be walked to its end.
    """

    def __init__(self, session: Session, folder: Path) -> None:
        self.whole: dict[Ref, list[str]] = {}
        self.damaged: set[Ref] = set()
        self.is_complete = True
        for number, pack in enumerate(pack_files(folder)):
            try:
                self._walk(session, pack, number)
            except Corrupt as error:
                session.output.problem(error)
                self.is_complete = False

    def _walk(self, session: Session, pack: Path, number: int) -> None:
        for record in records(pack, number):
            if record.is_whole:
                self.whole.setdefault(record.ref, []).append(record.row)
                continue
            self.damaged.add(record.ref)
            reason = f"{pack}, row {record.row}: the bytes do not match"
            session.output.problem(Corrupt("read", record.ref, reason))

    def changes(self, rows: KeyValue) -> Iterator[tuple[Ref, str | None, str | None]]:
        """Yield (ref, row that is there, row that should be) for each row to be changed.

        A row without a record goes only if all packs were read: it may be in the part that was not.
        """
        missing = set(self.whole)
        for key, value in rows.find():
            ref = parse_ref(key.decode("utf-8", "replace"))
            if ref is None:
                continue
            missing.discard(ref)
            there = value.decode("utf-8", "replace")
            fitting = self.whole.get(ref)
            if fitting and there not in fitting:
                yield ref, there, fitting[-1]
            elif not fitting and (self.is_complete or ref in self.damaged):
                yield ref, there, None
        for ref in sorted(missing):
            yield ref, None, self.whole[ref][-1]


@click.command(cls=Command)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@switch("--overwrite", help="Write the rows; without it, the index is only compared.")
@json_flag
@click.pass_obj
def reindex_diskpacked(session: Session, folder: Path | None, overwrite: bool) -> None:
    """Rebuild the index of a folder of packed blobs, which no server may have open.

    Damaged and cut-off blobs get no row, so that they are taken again when they are sent again.
    """
    place = folder or configured_folder()
    packs = Packs(session, place)
    with open_kv({"type": "leveldb", "file": str(place / "index.leveldb")}) as rows:
        changes = list(packs.changes(rows))
        for ref, there, right in changes:
            text = f"{ref}: index {there or 'none'}, packs {right or 'none'}"
            session.output.result(text, blobRef=ref, index=there, packs=right)
        if overwrite:
            rows.commit(batch_of(changes))
        elif changes:
            reason = f"{len(changes)} rows differ; -overwrite mends them"
            session.output.problem(Corrupt("compare", place / "index.leveldb", reason))


def batch_of(changes: list[tuple[Ref, str | None, str | None]]) -> Batch:
    batch = Batch()
    for ref, _, right in changes:
        if right is None:
            batch.delete(ref.encode())
        else:
            batch.set(ref.encode(), right.encode())
    return batch


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
