"""What becomes of files that arrive."""

import json
import os
import random
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from peatkeep.blob import MAX_BLOB_SIZE, Ref
from peatkeep.blobserver.blobpacked import BlobPacked
from peatkeep.blobserver.memory import Memory
from peatkeep.errors import Corrupt, NotFound
from peatkeep.schema.filereader import FileReader
from peatkeep.schema.filewriter import WrittenFile, write_file
from peatkeep.schema.parse import parse_object
from peatkeep.schema.text import encode
from peatkeep.sorted.memory import MemoryKeyValue
from tests.blobserver.blobpacked.opening import open_store
from tests.blobserver.unpack import manifest, unpack
from tests.independent import blobpacked as independent


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def put(store: BlobPacked, data: bytes, **members: object) -> WrittenFile:
    """Store a file in batches, its blob last, and wait until it is packed."""
    blobs: list[tuple[Ref, bytes]] = []
    written = write_file(lambda ref, chunk: blobs.append((ref, chunk)), [data], members)
    store.receive_many(blobs[:-1])
    store.receive_many(blobs[-1:])
    assert store.settle(60)
    return written


class Parts:
    """A store over three memories that can be looked into."""

    def __init__(self) -> None:
        self.small, self.large, self.rows = Memory(), Memory(), MemoryKeyValue()
        self.store = BlobPacked(self.small, self.large, self.rows, now_s=lambda: 1_700_000_000)

    def keys(self, prefix: str) -> list[str]:
        return [key.decode() for key, _ in self.rows.prefixed(prefix.encode())]

    def zips(self) -> list[Ref]:
        return [ref for ref, _ in self.large.enumerate()]

    def loose(self) -> set[Ref]:
        return {ref for ref, _ in self.small.enumerate()}


# -- the format ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (524_288, "exact.bin"),
        (1_500_000, "Ünï cöde ✓.txt"),
        (18_000_000, "large.bin"),
        (700_000, ""),
    ],
)
def test_another_reader_reads_what_was_packed(tmp_path: Path, size: int, name: str) -> None:
    data = content(size)
    times = {"unixMtime": "2023-11-14T22:13:20.5Z"}
    members: dict[str, object] = {**times, "fileName": name} if name else dict(times)
    with open_store(tmp_path) as store:
        store.receive(Ref.of(b"loose"), b"loose")
        written = put(store, data, **members)
        served = {ref: store.fetch(ref) for ref, _ in store.enumerate()}
        assert b"".join(store.open_whole(written.whole_ref)) == data
        assert list(store.check()) == []
    assert independent.read_all(tmp_path) == served
    assert independent.whole_files(tmp_path) == {written.whole_ref: data}
    rows, possible = independent.rows(tmp_path), independent.rows_from_zips(tmp_path)
    assert rows.keys() == possible.keys()
    assert all(rows[key] in possible[key] for key in rows)
    assert [ref for ref, _ in independent.files(tmp_path)] == [Ref.of(b"loose")]


def test_unzip_takes_a_zip_and_gives_the_file(tmp_path: Path) -> None:
    data = content(900_000)
    with open_store(tmp_path) as store:
        put(store, data, fileName="holiday.jpg", unixMtime="2023-11-14T22:13:20Z")
    (zip_path,) = [path for _, path in independent.files(tmp_path / "packed")]
    tested = subprocess.run(["unzip", "-t", zip_path], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "No errors detected" in tested.stdout
    subprocess.run(["unzip", "-q", zip_path, "holiday.jpg", "-d", tmp_path / "out"], check=True)
    assert (tmp_path / "out" / "holiday.jpg").read_bytes() == data
    assert int(os.stat(tmp_path / "out" / "holiday.jpg").st_mtime) == 1_700_000_000


SOUND = manifest("blobpacked")
SAME_IN_ZIPS = (
    *("name", "header_offset", "data_offset", "flags", "version_made", "version_needed", "method"),
    *("extra_local", "extra_central", "external_attr", "date_time"),
)


def entries_of(data_path: Path) -> list[dict[str, Any]]:
    raw = data_path.read_bytes()
    found = []
    with zipfile.ZipFile(data_path) as archive:
        for info in archive.infolist():
            offset = independent.data_offset(data_path, info)
            name_size = int.from_bytes(raw[info.header_offset + 26 :][:2], "little")
            found.append(
                {
                    "name": info.filename,
                    "header_offset": info.header_offset,
                    "data_offset": offset,
                    "flags": f"0x{info.flag_bits:04x}",
                    "version_made": info.create_system << 8 | info.create_version,
                    "version_needed": info.extract_version,
                    "extra_local": raw[info.header_offset + 30 + name_size : offset].hex(),
                    "extra_central": info.extra.hex(),
                    "external_attr": f"0x{info.external_attr:08x}",
                    "date_time": list(info.date_time),
                    "method": "store" if info.compress_type == 0 else "deflate",
                    "size": info.file_size,
                    "crc32": f"{info.CRC:08x}",
                    "text": archive.read(info) if info.filename.endswith("manifest.json") else b"",
                }
            )
    return found


@pytest.mark.vectors("storage")
def test_the_same_files_give_the_zips_that_perkeep_made(tmp_path: Path) -> None:
    theirs = unpack("blobpacked", tmp_path) / "blobs"
    with open_store(theirs) as store:
        blobs = {ref: store.fetch(ref) for ref, _ in store.enumerate()}
    ours = tmp_path / "ours"
    files = [Ref(file["file_schema_ref"]) for file in SOUND["files_written"]]
    with open_store(ours) as store:
        store.receive_many((ref, data) for ref, data in blobs.items() if ref not in files)
        for ref in files:
            store.receive(ref, blobs[ref])
            assert store.settle(60)
        assert list(store.check()) == []
    made, zips = independent.rows(ours), {}
    for key, value in SOUND["other_rows"].items():
        if key.startswith("w:") and key.count(":") == 2:
            zips[value.split(" ")[0]] = made[key].split(" ")[0]
            assert made[key].split(" ")[1:] == value.split(" ")[1:]
        elif key.startswith("w:"):
            assert made[key] == value
    assert len(zips) == len(SOUND["zips"])
    paths = dict(independent.files(ours / "packed"))
    for facts in SOUND["zips"]:
        entries = entries_of(paths[zips[facts["ref"]]])
        for entry, expected in zip(entries, facts["entries"], strict=True):
            wanted = {name: expected[name] for name in (*SAME_IN_ZIPS, "size", "crc32")}
            assert {name: entry[name] for name in wanted} == wanted
    places = {row["ref"]: row.get("zip") for row in SOUND["blobs"]}
    for ref, zip_ref in places.items():
        row = made.get(f"b:{ref}")
        assert (row and row.split(" ")[1]) == (zip_ref and zips[zip_ref])


def test_a_repeated_chunk_is_stored_as_often_as_it_comes() -> None:
    parts = Parts()
    chunk = content(200_000)
    ref = Ref.of(chunk)
    text = encode({"camliType": "file", "parts": [{"blobRef": ref, "size": len(chunk)}] * 4})
    parts.store.receive_many([(ref, chunk), (Ref.of(text), text)])
    assert parts.store.settle(30)
    assert not parts.loose()
    assert b"".join(parts.store.open_whole(Ref.of(chunk * 4))) == chunk * 4
    streamed = [blob.ref for blob in parts.store.stream()]
    assert sorted(streamed) == sorted([ref, Ref.of(text)])
    (zip_ref,) = parts.zips()
    assert len(parts.large.fetch(zip_ref)) > 4 * len(chunk)


# -- what stays loose ---------------------------------------------------------------------------

CHUNK = content(600_000)
CHUNK_PART = {"blobRef": Ref.of(CHUNK), "size": len(CHUNK)}


def file_blob(**members: object) -> bytes:
    return encode({"camliType": "file", "parts": [CHUNK_PART], **members})


@pytest.mark.parametrize(
    "text",
    [
        file_blob(fileName="a/b"),
        file_blob(fileName="a\\b"),
        file_blob(fileName="a\0b"),
        file_blob(parts=[CHUNK_PART, {"size": 5}]),
        file_blob(parts=[CHUNK_PART, {"size": 0}]),
        file_blob(parts=[{**CHUNK_PART, "size": 599_999}]),
        file_blob(parts=[{**CHUNK_PART, "size": 599_999, "offset": 1}]),
        file_blob(parts=[CHUNK_PART, None]),
        file_blob(parts=[{**CHUNK_PART, "bytesRef": Ref.of(CHUNK)}]),
        file_blob(parts=[{"bytesRef": Ref.of(CHUNK), "size": len(CHUNK)}]),
        file_blob(parts=[CHUNK_PART, {"blobRef": Ref.of(b"nowhere"), "size": 7}]),
        encode({"camliType": "bytes", "parts": [CHUNK_PART]}),
        encode({"camliType": "file", "fileName": "empty"}),
        encode({"camliType": "file", "parts": [{"size": 2**63}, {"size": 2**63}]}),
        b'{"camliType": "file"',
    ],
)
def test_files_without_a_form_in_zips_stay_loose(text: bytes) -> None:
    parts = Parts()
    parts.store.receive_many([(Ref.of(CHUNK), CHUNK), (Ref.of(text), text)])
    assert parts.store.settle(30)
    assert parts.loose() == {Ref.of(CHUNK), Ref.of(text)}
    assert parts.zips() == []
    assert parts.keys("") == []


@pytest.mark.parametrize("missing", [0, 1])
def test_a_chunk_that_fits_no_zip_leaves_its_file_loose(missing: int) -> None:
    """Perkeep writes zips without data here, until the disk is full."""
    parts = Parts()
    text = b""
    fitting = MAX_BLOB_SIZE - 712 - 2 * 166
    for _ in range(3):  # the text's length depends on the digits of the size
        chunk = bytes(fitting - len(text) + missing)
        text = encode(
            {"camliType": "file", "parts": [{"blobRef": Ref.of(chunk), "size": len(chunk)}]}
        )
    parts.store.receive_many([(Ref.of(chunk), chunk), (Ref.of(text), text)])
    assert parts.store.settle(60)
    if missing:
        assert parts.zips() == []
        assert parts.loose() == {Ref.of(chunk), Ref.of(text)}
    else:
        assert len(parts.zips()) == 1
        assert not parts.loose()
    assert parts.store.fetch(Ref.of(chunk)) == chunk


def test_a_file_with_one_chunk_too_large_stays_loose_whole() -> None:
    parts = Parts()
    sizes = [1_000_000, MAX_BLOB_SIZE, 1_000_000]
    chunks = [content(size, seed) for seed, size in enumerate(sizes)]
    text = encode(
        {
            "camliType": "file",
            "parts": [{"blobRef": Ref.of(chunk), "size": len(chunk)} for chunk in chunks],
        }
    )
    parts.store.receive_many([(Ref.of(data), data) for data in [*chunks, text]])
    assert parts.store.settle(60)
    assert parts.zips() == []
    assert len(parts.loose()) == 4


def test_a_zip_that_comes_out_too_large_is_made_smaller() -> None:
    """Many schema blobs: their entries take more than the estimate of 166 bytes."""
    parts = Parts()
    blobs: dict[Ref, bytes] = {}
    members = []
    for number in range(900):
        chunk = number.to_bytes(4, "big") + bytes(17_900)
        text = encode(
            {"camliType": "bytes", "parts": [{"blobRef": Ref.of(chunk), "size": len(chunk)}]}
        )
        blobs[Ref.of(chunk)], blobs[Ref.of(text)] = chunk, text
        text = encode(
            {"camliType": "bytes", "parts": [{"bytesRef": Ref.of(text), "size": len(chunk)}]}
        )
        blobs[Ref.of(text)] = text
        members.append({"bytesRef": Ref.of(text), "size": len(chunk)})
    text = encode({"camliType": "file", "parts": members})
    parts.store.receive_many([*blobs.items(), (Ref.of(text), text)])
    assert parts.store.settle(60)
    sizes = [size for _, size in parts.large.enumerate()]
    assert len(sizes) == 2
    assert all(size <= MAX_BLOB_SIZE for size in sizes)
    assert not parts.loose()
    whole = b"".join(data for data in blobs.values() if parse_object(data) is None)
    assert b"".join(parts.store.open_whole(Ref.of(whole))) == whole


# -- arrival ------------------------------------------------------------------------------------


def test_a_small_file_stays_loose() -> None:
    parts = Parts()
    put(parts.store, content(524_287), fileName="small")
    assert parts.zips() == []


def test_the_same_content_is_packed_once() -> None:
    parts = Parts()
    first = put(parts.store, content(800_000), fileName="one")
    zips = parts.zips()
    second = put(parts.store, content(800_000), fileName="two")
    assert first.whole_ref == second.whole_ref
    assert parts.zips() == zips
    assert parts.loose() == {second.ref}


def test_chunks_that_come_late_are_packed_on_demand() -> None:
    parts = Parts()
    blobs: list[tuple[Ref, bytes]] = []
    write_file(lambda ref, data: blobs.append((ref, data)), [content(900_000)], {})
    parts.store.receive_many(blobs[-1:])
    assert parts.store.settle(30)
    assert [found.subject for found in parts.store.check()] == [blobs[-1][0]]
    parts.store.receive_many(blobs[:-1])
    assert parts.store.settle(30)
    assert parts.zips() == []
    assert parts.store.pack_loose() == 1
    assert not parts.loose()
    assert list(parts.store.check()) == []
    assert parts.store.pack_loose() == 0


def test_storing_packed_blobs_again_writes_nothing() -> None:
    parts = Parts()
    blobs: list[tuple[Ref, bytes]] = []
    write_file(lambda ref, data: blobs.append((ref, data)), [content(900_000)], {})
    for _ in range(2):
        parts.store.receive_many(blobs)
        assert parts.store.settle(30)
        assert not parts.loose()
    assert len(parts.zips()) == 1


def test_an_edited_copy_shares_its_chunks_and_is_a_zip_of_its_own() -> None:
    parts = Parts()
    data = content(1_200_000)
    put(parts.store, data, fileName="first")
    put(parts.store, data + content(100_000, 2), fileName="edited")
    assert len(parts.zips()) == 2
    listed = [ref for ref, _ in parts.store.enumerate()]
    assert len(listed) == len(set(listed))
    streamed = [blob.ref for blob in parts.store.stream()]
    assert sorted(streamed) == listed


# -- removing -----------------------------------------------------------------------------------


def test_a_removed_blob_is_gone_from_the_zips_too() -> None:
    parts = Parts()
    written = put(parts.store, content(900_000), fileName="photo")
    before = [ref for ref, _ in parts.store.enumerate()]
    victim = next(ref for ref in before if ref != written.ref)
    parts.store.remove([victim])
    with pytest.raises(NotFound):
        parts.store.fetch(victim)
    with pytest.raises(NotFound):
        parts.store.open_whole(written.whole_ref)
    assert parts.store.settle(30)
    assert parts.zips() == []
    assert parts.keys("") == []
    assert [ref for ref, _ in parts.store.enumerate()] == [r for r in before if r != victim]
    again = BlobPacked(parts.small, parts.large, MemoryKeyValue())
    assert victim not in {ref for ref, _ in again.enumerate()}


def test_a_copy_in_another_zip_goes_as_well() -> None:
    parts = Parts()
    data = content(1_200_000)
    put(parts.store, data, fileName="first")
    shared = {ref for ref, _ in parts.store.enumerate()}
    put(parts.store, data + content(100_000, 2), fileName="edited")
    victim = next(
        ref
        for ref in sorted(shared)
        if len(parts.store.fetch(ref)) > 10_000 and ref in packed_twice(parts)
    )
    parts.store.remove([victim])
    assert parts.store.settle(30)
    for store in (parts.store, BlobPacked(parts.small, parts.large, MemoryKeyValue())):
        assert victim not in {ref for ref, _ in store.enumerate()}
        with pytest.raises(NotFound):
            store.fetch(victim)


def packed_twice(parts: Parts) -> set[str]:
    seen: list[str] = []
    for zip_ref in parts.zips():
        data = parts.large.fetch(zip_ref)
        path = Path(os.environ["HOME"]) / "one.zip"
        path.write_bytes(data)
        with zipfile.ZipFile(path) as archive:
            rows = json.loads(archive.read(independent.MANIFEST))["dataBlobs"]
        seen += {row["blobRef"] for row in rows}
    return {ref for ref in seen if seen.count(ref) > 1}


def test_a_removed_blob_may_come_back_and_be_packed_again() -> None:
    parts = Parts()
    blobs: list[tuple[Ref, bytes]] = []
    write_file(lambda ref, data: blobs.append((ref, data)), [content(900_000)], {})
    for _ in range(3):
        parts.store.receive_many(blobs)
        assert parts.store.settle(30)
        assert {ref for ref, _ in parts.store.enumerate()} == {ref for ref, _ in blobs}
        assert not parts.loose()
        parts.store.remove([blobs[0][0]])
        assert parts.store.settle(30)
    parts.store.remove([ref for ref, _ in blobs])
    assert parts.store.settle(30)
    assert list(parts.store.enumerate()) == []
    assert parts.zips() == []


def test_removing_does_not_wait_for_streams_nor_disturb_them() -> None:
    parts = Parts()
    put(parts.store, content(900_000), fileName="photo")
    before = [ref for ref, _ in parts.store.enumerate()]
    stream = parts.store.stream()
    first = next(stream)
    parts.store.remove([first.ref])
    assert parts.store.settle(30)
    assert [blob.ref for blob in stream]
    assert len(parts.zips()) == 1
    stream.close()  # type: ignore[attr-defined]
    assert parts.store.settle(30)
    assert parts.zips() == []
    assert {ref for ref, _ in parts.store.enumerate()} == set(before) - {first.ref}


def test_the_chunks_of_a_file_come_by_few_reads_of_its_zip() -> None:
    class Counting(Memory):
        reads = 0

        def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
            self.reads += 1
            return super().read_range(ref, offset, length)

    large = Counting()
    store = BlobPacked(Memory(), large, MemoryKeyValue())
    data = content(3_000_000)
    written = put(store, data)
    reader = FileReader(store, written.ref)
    chunks_count = sum(1 for _ in reader.chunks())
    large.reads = 0
    assert b"".join(reader.stream(fetch_many=store.fetch_many)) == data
    assert 0 < large.reads < chunks_count / 2


def test_a_batch_takes_other_copies_of_what_is_damaged_in_a_zip() -> None:
    parts = Parts()
    data = content(900_000)
    written = put(parts.store, data)
    (zip_ref,) = parts.zips()
    refs = [leaf.ref for leaf in FileReader(parts.store, written.ref).chunks() if leaf.ref]
    blobs = {ref: parts.store.fetch(ref) for ref in refs}
    spoilt = bytearray(parts.large.fetch(zip_ref))
    for ref in refs[1:3]:
        spoilt[bytes(spoilt).index(blobs[ref])] ^= 1
    parts.large._blobs[zip_ref] = bytes(spoilt)
    parts.small.receive(refs[1], blobs[refs[1]])
    absent = Ref.of(b"absent")
    found = dict(parts.store.fetch_many([absent, *refs]))
    assert isinstance(found.pop(absent), NotFound)
    assert isinstance(found.pop(refs[2]), Corrupt)
    del blobs[refs[2]]
    assert found == blobs
