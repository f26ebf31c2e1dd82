"""Reads a blobpacked folder: standard library and plyvel only, none of our code.

It trusts nothing that it can check: names by digests, rows by the zips, zips by their manifests.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import plyvel

MANIFEST = "camlistore/camlistore-pack-manifest.json"


def digest_of(ref: str, data: bytes) -> bool:
    name, _, digits = ref.partition("-")
    return hashlib.new(name, data).hexdigest() == digits


def files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Refs and files of a loose store; folders of other stores in its root are passed over."""
    for path in folder.rglob("*.dat"):
        top = path.relative_to(folder).parts[0]
        if top not in ("packed", "cache", "partition") and "-" in path.stem:
            yield path.stem, path


def read_all(folder: Path) -> dict[str, bytes]:
    """Every blob: the loose ones, and those that the index finds in zips."""
    found = {ref: path.read_bytes() for ref, path in files(folder)}
    zips = {ref: path.read_bytes() for ref, path in files(folder / "packed")}
    for key, value in rows(folder).items():
        if key.startswith("b:"):
            size, zip_ref, offset = value.split(" ")
            found[key[2:]] = zips[zip_ref][int(offset) : int(offset) + int(size)]
    for ref, data in found.items():
        assert digest_of(ref, data), ref
    return found


def rows(folder: Path) -> dict[str, str]:
    database = plyvel.DB(str(folder / "packed" / "packindex.leveldb"))
    try:
        return {key.decode(): value.decode() for key, value in database}
    finally:
        database.close()


def rows_from_zips(folder: Path) -> dict[str, set[str]]:
    """What the rows of a store may say, by its zips alone: a blob in two zips has two choices."""
    made: dict[str, set[str]] = {}
    wholes: dict[str, list[tuple[int, str, int, int, int]]] = {}
    for ref, path in files(folder / "packed"):
        assert digest_of(ref, path.read_bytes()), ref
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            entries = archive.infolist()
            manifest = json.loads(archive.read(MANIFEST))
            content = archive.read(entries[0])
        start = data_offset(path, entries[0])
        assert entries[0].compress_type == zipfile.ZIP_STORED
        assert entries[-1].filename == MANIFEST
        assert digest_of(manifest["dataBlobsOrigin"], content)
        places = [
            (row["blobRef"], row["size"], start + row["offset"]) for row in manifest["dataBlobs"]
        ]
        for entry in entries[1:-1]:
            assert entry.compress_type == zipfile.ZIP_STORED
            name = entry.filename.removeprefix("camlistore/").removesuffix(".json")
            places.append((name, entry.file_size, data_offset(path, entry)))
        for blob, size, offset in places:
            made.setdefault(f"b:{blob}", set()).add(f"{size} {ref} {offset}")
        part = (manifest["wholePartIndex"], ref, start, len(content), manifest["wholeSize"])
        wholes.setdefault(manifest["wholeRef"], []).append(part)
    for whole, parts in wholes.items():
        end = 0
        for number, (index, ref, start, length, whole_size) in enumerate(sorted(parts)):
            assert number == index, f"a part of {whole} is missing"
            size = next((folder / "packed").rglob(f"{ref}.dat")).stat().st_size
            made[f"w:{whole}:{number}"] = {f"{ref} {start} {end} {length}"}
            made[f"z:{ref}"] = {f"{size} {whole} {whole_size} {end} {length}"}
            end += length
        assert end == whole_size
        made[f"w:{whole}"] = {f"{end} {len(parts)}"}
    return made


def data_offset(path: Path, entry: zipfile.ZipInfo) -> int:
    header = path.read_bytes()[entry.header_offset :][:30]
    return (
        entry.header_offset
        + 30
        + int.from_bytes(header[26:28], "little")
        + int.from_bytes(header[28:30], "little")
    )


def whole_files(folder: Path) -> dict[str, bytes]:
    """The content of every packed file, by unzipping."""
    parts: dict[str, list[tuple[int, bytes]]] = {}
    for _, path in files(folder / "packed"):
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read(MANIFEST))
            content = archive.read(archive.infolist()[0])
        parts.setdefault(manifest["wholeRef"], []).append((manifest["wholePartIndex"], content))
    found = {ref: b"".join(data for _, data in sorted(list_)) for ref, list_ in parts.items()}
    for ref, data in found.items():
        assert digest_of(ref, data), ref
    return found
