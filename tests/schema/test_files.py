"""Files: tree, writer and reader, against golden data and against each other."""

import hashlib
import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peatkeep.blob import Ref
from peatkeep.errors import Corrupt, Invalid, NotFound, StoreError, TooLarge
from peatkeep.schema import filereader, filetree
from peatkeep.schema.filereader import FileReader, Leaf
from peatkeep.schema.filetree import FileTree, part_members
from peatkeep.schema.filewriter import write_file
from peatkeep.schema.parse import Part, parse
from peatkeep.schema.text import encode

if TYPE_CHECKING:
    from .conftest import Blobs

CASES = json.loads((Path(__file__).parent.parent / "vectors/schema/files.json").read_text())[
    "cases"
]
CASES_BY_CONTENT = [case for case in CASES if not case.get("eofWithData")]

Make = Callable[[dict[str, object]], bytes]


# -- writing ------------------------------------------------------------------------------------


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_golden_chunks_give_the_golden_tree(case: dict[str, Any]) -> None:
    texts: dict[Ref, str] = {}

    def sink(ref: Ref, data: bytes) -> None:
        texts[ref] = data.decode()

    tree = FileTree(sink)
    for _, size, bits, ref in case["chunks"]:
        tree.add(size, Ref(ref), bits)
    root = tree.file_blob({})
    texts[Ref.of(root)] = root.decode()
    assert texts == {blob["ref"]: blob["text"] for blob in case["schemaBlobs"]}
    assert Ref.of(root) == case["root"]
    assert tree.size == case["size"]
    schema = parse(root)
    assert schema is not None
    assert part_members(schema.parts) == tree.parts()


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", CASES_BY_CONTENT, ids=lambda case: case["name"])
def test_a_file_is_written_as_the_golden_one_and_reads_back(
    case: dict[str, Any], make: Make, blobs: "Blobs"
) -> None:
    data = make(case["gen"])
    written = write_file(blobs.sink, [data], {})
    assert written == (case["root"], case["size"], case["wholeRef"])
    reader = FileReader(blobs, written.ref)
    assert reader.size == len(data)
    whole = hashlib.sha224()
    for piece in reader.stream():
        whole.update(piece)
    assert "sha224-" + whole.hexdigest() == case["wholeRef"]


def test_what_a_blob_refers_to_is_sent_before_it() -> None:
    sent: set[Ref] = set()

    def sink(ref: Ref, data: bytes) -> None:
        schema = parse(data)
        if schema is not None:
            for part in schema.parts:
                assert {part.blob_ref, part.bytes_ref} - {None} <= sent
        sent.add(ref)

    written = write_file(sink, [random.Random(1).randbytes(5_000_000)], {"fileName": "x"})
    assert written.ref in sent


def test_members_of_the_caller_stand_in_the_file_blob(blobs: "Blobs") -> None:
    ref = write_file(blobs.sink, [b"x"], {"camliType": "bytes", "fileName": "n"}).ref
    assert blobs[ref].startswith(b'{"camliVersion": 1,\n  "camliType": "bytes",\n  "fileName": "n"')


def test_memory_is_constant_while_a_file_is_written_and_read() -> None:
    dice = random.Random(2)
    piece = dice.randbytes(1 << 20)
    kept: dict[Ref, bytes] = {}

    def sink(ref: Ref, data: bytes) -> None:
        if len(data) < 20_000:
            kept[ref] = data

    tracemalloc.start()
    try:
        write_file(sink, (piece[at:] + piece[:at] for at in range(60)), {})
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()


def test_a_list_of_parts_too_long_for_a_blob_is_divided(
    blobs: "Blobs", monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of 8 GB of zeros, of which each chunk stands in the uppermost list."""
    monkeypatch.setattr(filetree, "MAX_SCHEMA_SIZE", 2000)
    monkeypatch.setattr(filetree, "PARTS_OF_GROUP", 10)
    tree = FileTree(blobs.sink)
    pieces = [bytes([number % 7]) * 3 for number in range(300)]
    for piece in pieces:
        tree.add(3, blobs.put_bytes(piece), 20)
    text = tree.file_blob({})
    assert len(text) <= 2000
    assert all(len(data) <= 2000 for data in blobs.values())
    reader = FileReader(blobs, blobs.put_bytes(text))
    assert reader.read(0, 1000) == b"".join(pieces)
    assert reader.read(500, 4) == b"".join(pieces)[500:504]
    with pytest.raises(TooLarge):
        tree.file_blob({"value": "x" * 2000})


def test_a_bytes_blob_is_sent_as_soon_as_its_last_chunk_has_come() -> None:
    """So nothing is left to be made at the end of a large file but its last blobs."""
    sent: list[Ref] = []
    tree = FileTree(lambda ref, data: sent.append(ref))
    for number, bits in enumerate([13, 13, 14, 13, 15]):
        tree.add(1, Ref.of(b"%d" % number), bits)
        assert len(sent) == {2: 1, 3: 1, 4: 2}.get(number, 0)
    tree.file_blob({})
    assert len(sent) == 2


# -- reading ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def content() -> bytes:
    dice = random.Random(3)
    return dice.randbytes(3_000_000) + bytes(2_500_000) + dice.randbytes(1_000_000)


@pytest.mark.parametrize("in_batches", [False, True])
def test_any_range_reads_as_it_was_written(
    content: bytes, blobs: "Blobs", in_batches: bool
) -> None:
    reader = FileReader(blobs, write_file(blobs.sink, [content], {}).ref)
    fetch_many = blobs.fetch_many if in_batches else None
    dice = random.Random(4)
    ranges = [(0, len(content)), (len(content) - 1, 9), (len(content), 5), (10**12, 1), (7, 0)]
    ranges += [(dice.randrange(len(content)), dice.randrange(300_000)) for _ in range(100)]
    for offset, length in ranges:
        expected = content[offset : offset + length]
        assert reader.read(offset, length) == expected
        assert b"".join(reader.stream(offset, length, fetch_many)) == expected
        leaves = list(reader.chunks(offset, length, fetch_many))
        assert sum(leaf.length for leaf in leaves) == len(expected)
    assert b"".join(reader.stream(5, fetch_many=fetch_many)) == content[5:]


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, -1)])
def test_a_negative_range_is_refused(blobs: "Blobs", offset: int, length: int) -> None:
    reader = FileReader(blobs, write_file(blobs.sink, [b"abc"], {}).ref)
    with pytest.raises(Invalid):
        reader.read(offset, length)


def test_chunks_tell_where_bytes_lie_without_fetching_them(content: bytes, blobs: "Blobs") -> None:
    reader = FileReader(blobs, write_file(blobs.sink, [content], {}).ref)
    leaves = list(reader.chunks())
    fetched = set(blobs.fetched)
    assert b"".join(blobs[leaf.ref] for leaf in leaves if leaf.ref) == content
    assert not fetched & {leaf.ref for leaf in leaves}
    position = 0
    for leaf in leaves:
        assert leaf.file_offset == position
        position += leaf.length


def test_batches_need_few_rounds(content: bytes, blobs: "Blobs") -> None:
    reader = FileReader(blobs, write_file(blobs.sink, [content[:3_000_000]], {}).ref)
    blobs.rounds, blobs.fetched = 0, []
    leaves = list(reader.chunks(fetch_many=blobs.fetch_many))
    assert len(leaves) > 30
    assert blobs.rounds <= 6
    assert len(blobs.fetched) == len(set(blobs.fetched))


def test_reading_on_fetches_no_blob_twice(content: bytes, blobs: "Blobs") -> None:
    reader = FileReader(blobs, write_file(blobs.sink, [content], {}).ref)
    blobs.fetched = []
    for offset in range(0, 2_000_000, 4096):
        assert reader.read(offset, 4096) == content[offset : offset + 4096]
    assert len(blobs.fetched) == len(set(blobs.fetched))


def test_a_chunk_many_times_in_a_row_is_fetched_once(blobs: "Blobs") -> None:
    ref = write_file(blobs.sink, [bytes(120_000_000)], {}).ref
    reader = FileReader(blobs, ref)
    for fetch_many in (None, blobs.fetch_many):
        blobs.fetched = []
        assert sum(map(len, reader.stream(fetch_many=fetch_many))) == 120_000_000
        assert len(blobs.fetched) < 20


def test_an_early_chunk_is_served_before_later_ones_are_fetched(
    content: bytes, blobs: "Blobs"
) -> None:
    reader = FileReader(blobs, write_file(blobs.sink, [content], {}).ref)
    blobs.fetched = []
    next(reader.stream())
    assert len(blobs.fetched) < 10


def test_holes_offsets_and_nested_files_are_read(blobs: "Blobs") -> None:
    raw = blobs.put_bytes(b"0123456789")
    inner = blobs.put(camliType="file", parts=[{"blobRef": raw, "offset": 2, "size": 5}])
    middle = blobs.put(
        camliType="bytes",
        parts=[{"size": 3}, {"bytesRef": inner, "offset": 1, "size": 3}, {"size": 0}],
    )
    outer = blobs.put(
        camliType="file",
        parts=[
            {"bytesRef": middle, "offset": 2, "size": 3},
            {"blobRef": raw, "size": 0},
            {"blobRef": raw, "size": 2},
            {"size": 2},
            {"bytesRef": middle, "size": 6},
        ],
    )
    expected = b"\x0034" + b"01" + b"\0\0" + b"\0\0\x00345"
    reader = FileReader(blobs, outer)
    assert reader.size == len(expected)
    for start in range(len(expected) + 1):
        for stop in range(start, len(expected) + 1):
            assert reader.read(start, stop - start) == expected[start:stop]
    assert b"".join(reader.stream(fetch_many=blobs.fetch_many)) == expected
    assert next(reader.chunks(3)) == Leaf(raw, 0, 2, 3)


def test_a_huge_hole_is_served_piece_by_piece(blobs: "Blobs") -> None:
    reader = FileReader(blobs, blobs.put(camliType="file", parts=[{"size": 2**64 - 1}] * 3))
    assert reader.size == 3 * (2**64 - 1)
    assert len(next(reader.stream())) == 1 << 20
    assert reader.read(2**64 - 3, 5) == bytes(5)


def test_parts_without_bytes_are_not_looked_at(blobs: "Blobs") -> None:
    part = {"bytesRef": Ref.of(b"absent"), "size": 0}
    assert FileReader(blobs, blobs.put(camliType="file", parts=[part] * 3)).read(0, 9) == b""


def test_a_schema_that_was_read_before_is_not_fetched_again(blobs: "Blobs") -> None:
    ref = write_file(blobs.sink, [b"abc"], {}).ref
    schema = parse(blobs[ref])
    assert schema is not None
    assert FileReader(blobs, schema).read(1, 5) == b"bc"
    assert ref not in blobs.fetched


RAW, ABSENT = Ref.of(b"0123456789"), Ref.of(b"absent")
SUBTREES = {
    name: encode({"camliType": kind, "parts": [{"blobRef": RAW, "size": size}]})
    for name, kind, size in [("good", "bytes", 5), ("lying", "bytes", 11), ("other", "claim", 5)]
}
GOOD, LYING, OTHER = map(Ref.of, SUBTREES.values())
BROKEN_PARTS: dict[str, tuple[type[StoreError], dict[str, object] | None]] = {
    "chunk too short": (Corrupt, {"blobRef": RAW, "size": 11}),
    "chunk too short behind its offset": (Corrupt, {"blobRef": RAW, "offset": 6, "size": 5}),
    "offset past the end": (Corrupt, {"blobRef": RAW, "offset": 2**64 - 1, "size": 1}),
    "tree too short": (Corrupt, {"bytesRef": GOOD, "size": 6}),
    "tree too short behind its offset": (Corrupt, {"bytesRef": GOOD, "offset": 1, "size": 5}),
    "tree that lies": (Corrupt, {"bytesRef": LYING, "size": 11}),
    "both refs": (Corrupt, {"blobRef": RAW, "bytesRef": GOOD, "size": 5}),
    "null part": (Corrupt, None),
    "raw bytes as a tree": (Corrupt, {"bytesRef": RAW, "size": 5}),
    "another schema as a tree": (Corrupt, {"bytesRef": OTHER, "size": 5}),
    "absent chunk": (NotFound, {"blobRef": ABSENT, "size": 5}),
    "absent tree": (NotFound, {"bytesRef": ABSENT, "size": 5}),
}


@pytest.mark.parametrize("in_batches", [False, True])
@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("name", BROKEN_PARTS)
def test_a_broken_file_never_gives_wrong_bytes(
    blobs: "Blobs", name: str, is_nested: bool, in_batches: bool
) -> None:
    error, part = BROKEN_PARTS[name]
    for data in (b"0123456789", *SUBTREES.values()):
        blobs.put_bytes(data)
    ref = blobs.put(camliType="file", parts=[{"blobRef": RAW, "size": 10}, part])
    if is_nested:
        size = 10 + (int(str(part["size"])) if part else 1)
        ref = blobs.put(camliType="file", parts=[{"bytesRef": ref, "size": size}])
    with pytest.raises(error):
        b"".join(FileReader(blobs, ref).stream(fetch_many=blobs.fetch_many if in_batches else None))


@pytest.mark.parametrize("in_batches", [False, True])
@pytest.mark.parametrize(
    "name", [name for name in BROKEN_PARTS if name not in ("null part", "both refs")]
)
def test_the_bytes_before_the_damage_are_served(
    blobs: "Blobs", name: str, in_batches: bool
) -> None:
    for data in (b"0123456789", *SUBTREES.values()):
        blobs.put_bytes(data)
    error, part = BROKEN_PARTS[name]
    parts = [{"bytesRef": GOOD, "size": 5}, {"blobRef": RAW, "size": 10}, part]
    reader = FileReader(blobs, blobs.put(camliType="file", parts=parts))
    stream = reader.stream(fetch_many=blobs.fetch_many if in_batches else None)
    assert [next(stream), next(stream)] == [b"01234", b"0123456789"]
    with pytest.raises(error):
        next(stream)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"[]", b'{"camliVersion":1}', b'{"camliVersion":1,"camliType":"directory"}']
)
def test_what_is_no_file_is_refused(blobs: "Blobs", data: bytes) -> None:
    with pytest.raises(Invalid):
        FileReader(blobs, blobs.put_bytes(data))


def test_a_circle_ends_in_an_error(blobs: "Blobs") -> None:
    a, b = Ref.of(b"a"), Ref.of(b"b")
    for here, there in ((a, b), (b, a)):
        part = f'{{"bytesRef":"{there}","size":5}}'
        blobs[here] = f'{{"camliVersion":1,"camliType":"bytes","parts":[{part},{part}]}}'.encode()
    for fetch_many in (None, blobs.fetch_many):
        with pytest.raises(Corrupt):
            next(FileReader(blobs, a).stream(0, 5, fetch_many))


def test_many_paths_to_one_blob_take_no_memory(blobs: "Blobs") -> None:
    """A file of 2^64 bytes in 64 small blobs, of which only what is read is followed."""
    raw = blobs.put_bytes(b"x")
    ref, size = blobs.put(camliType="bytes", parts=[{"blobRef": raw, "size": 1}]), 1
    for _ in range(63):
        ref = blobs.put(camliType="bytes", parts=[{"bytesRef": ref, "size": size}] * 2)
        size *= 2
    reader = FileReader(blobs, ref)
    assert reader.read(size - 3, 100) == b"xxx"
    leaves = reader.chunks(fetch_many=blobs.fetch_many)
    assert sum(next(leaves).length for _ in range(20_000)) == 20_000


def test_lookahead_and_caches_too_small_for_anything_change_only_the_speed(
    blobs: "Blobs", monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    for name in ("_LOOKAHEAD", "_LOOKAHEAD_GROWTH", "_CACHED_PARTS", "_CACHED_CHUNK_BYTES"):
        monkeypatch.setattr(filereader, name, 1)
    monkeypatch.setattr(filereader, "_WINDOW_CHUNKS", 2)
    reader = FileReader(blobs, write_file(blobs.sink, [content], {}).ref)
    assert b"".join(reader.stream(fetch_many=blobs.fetch_many)) == content
    assert b"".join(reader.stream()) == content


PARTS = st.lists(
    st.builds(
        Part,
        size=st.integers(0, 12) | st.just(2**64 - 1),
        blob_ref=st.none() | st.sampled_from([Ref.of(b"ab"), Ref.of(b"0123456789")]),
        bytes_ref=st.none() | st.sampled_from([Ref.of(b"one"), Ref.of(b"two")]),
        offset=st.integers(0, 3) | st.just(2**64 - 1),
    ),
    max_size=4,
)


@given(trees=st.lists(PARTS, min_size=3, max_size=3), offset=st.integers(0, 40))
@settings(deadline=None)
def test_any_parts_are_read_or_refused_with_an_error_of_ours(
    trees: list[list[Part]], offset: int
) -> None:
    store: dict[Ref, bytes] = {Ref.of(data): data for data in (b"ab", b"0123456789")}
    names = [Ref.of(b"root"), Ref.of(b"one"), Ref.of(b"two")]
    for name, parts in zip(names, trees, strict=True):
        members = {"camliVersion": 1, "camliType": "bytes", "parts": part_members(parts)}
        store[name] = json.dumps(members).encode()

    class Stored:
        def fetch(self, ref: Ref) -> bytes:
            return store[ref]

    try:
        reader = FileReader(Stored(), names[0])
        pieces = reader.stream(offset, 100)
        assert len(b"".join(pieces)) == min(max(reader.size - offset, 0), 100)
    except Corrupt:
        pass
