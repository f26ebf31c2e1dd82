"""Boundaries: against golden data, and against the definition written out byte by byte."""

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peatkeep.blob import Ref
from peatkeep.schema import chunker
from peatkeep.schema.chunker import (
    FIRST_CHUNK_SIZE,
    MAX_CHUNK_SIZE,
    SMALL_CHUNK_SIZE,
    WINDOW_SIZE,
    SplitSearch,
    checksum,
    cuts,
    split_bits,
)

VECTORS = Path(__file__).parent.parent / "vectors/schema"
CHECKSUMS = json.loads((VECTORS / "rollsum.json").read_text())["cases"]
FILES = json.loads((VECTORS / "files.json").read_text())["cases"]
# The other cases come from a reader that reports the end of the file together with the last
# bytes; test_files.py takes their chunks as given.
FILES_BY_CONTENT = [case for case in FILES if not case.get("eofWithData")]

Make = Callable[[dict[str, object]], bytes]


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", CHECKSUMS, ids=lambda case: case["name"])
def test_the_checksum_splits_where_the_golden_one_does(case: dict[str, Any], make: Make) -> None:
    data = bytes(WINDOW_SIZE) + make(case["gen"])  # the checksum starts on a window of zeros
    for after, digest in case["digests"]:
        plain, weighted = checksum(data[after : after + WINDOW_SIZE])
        assert f"{plain << 16 | weighted & 0xFFFF:08x}" == digest
    search, splits = SplitSearch(), []
    size = WINDOW_SIZE
    while size := search.first_split(memoryview(data), size + 1, len(data)):
        splits.append([size - WINDOW_SIZE, split_bits(data[size - WINDOW_SIZE : size])])
    assert splits == case["splits"]


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", FILES_BY_CONTENT, ids=lambda case: case["name"])
def test_a_file_is_cut_where_the_golden_one_is(case: dict[str, Any], make: Make) -> None:
    data = make(case["gen"])
    chunks, offset = [], 0
    for chunk in cuts([data]):
        chunks.append([offset, len(chunk.data), chunk.bits, Ref.of(chunk.data)])
        offset += len(chunk.data)
    assert chunks == case["chunks"]


def cuts_by_definition(data: bytes) -> Iterator[tuple[int, int]]:
    """The size and bits of each chunk, by the format's definition, one byte at a time."""
    window = bytearray(64)
    plain, weighted = 64 * 31, 64 * 63 * 31
    last = 0
    for number, byte in enumerate(data, start=1):
        dropped = window[number % 64]
        window[number % 64] = byte
        plain = (plain + byte - dropped) % 2**32
        weighted = (weighted + plain - 64 * (dropped + 31)) % 2**32
        size = number - last
        is_split = weighted & 0x1FFF == 0x1FFF
        if size == chunker.MAX_CHUNK_SIZE:
            bits = 20
        elif is_split and number > chunker.FIRST_CHUNK_SIZE and size > chunker.SMALL_CHUNK_SIZE:
            rest = ((plain << 16) | (weighted & 0xFFFF)) % 2**32 >> 14
            bits = 13
            while rest & 1:
                bits, rest = bits + 1, rest >> 1
        elif number == chunker.FIRST_CHUNK_SIZE:
            bits = 18
        else:
            continue
        yield size, bits
        last = number
    if last != len(data):
        yield len(data) - last, 0


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Files that have many boundaries, few, or none, up to 100 KiB."""
    out = b""
    for _ in range(draw(st.integers(0, 5))):
        size = draw(st.integers(0, 20_000))
        kind = draw(st.sampled_from(["random", "repeat", "fill", "few"]))
        dice = random.Random(draw(st.integers()))
        if kind == "random":
            out += dice.randbytes(size)
        elif kind == "repeat":
            unit = dice.randbytes(dice.randint(1, 300))
            out += (unit * (size // len(unit) + 1))[:size]
        elif kind == "fill":
            out += bytes([dice.randrange(256)]) * size
        else:
            out += bytes(dice.choices(b"\x00\x01\xff", k=size))
    return out


@pytest.mark.parametrize("with_numpy", [False, True])
@given(data=contents(), piece_size=st.sampled_from([1000, 7777, 100_000]))
@settings(max_examples=60, deadline=None)
def test_cuts_are_those_of_the_definition(data: bytes, piece_size: int, with_numpy: bool) -> None:
    # Smaller limits bring many cuts of every kind into little data.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunker, "MAX_CHUNK_SIZE", 9000)
        patch.setattr(chunker, "FIRST_CHUNK_SIZE", 2500)
        patch.setattr(chunker, "SMALL_CHUNK_SIZE", 700)
        patch.setattr(chunker, "_BLOCK_SIZE", 3000)
        patch.setattr(chunker, "_LONGEST_BLOCK", 30_000)
        patch.setattr(chunker, "_STRIDE", 512)
        patch.setattr(SplitSearch, "_is_numpy_worth_it", lambda _: with_numpy)
        pieces = [data[at : at + piece_size] for at in range(0, len(data), piece_size)]
        chunks = list(cuts(pieces))
        assert b"".join(chunk.data for chunk in chunks) == data
        found = [(len(chunk.data), chunk.bits) for chunk in chunks]
        assert found == list(cuts_by_definition(data))


def test_cuts_of_the_real_sizes_are_those_of_the_definition() -> None:
    data = random.Random(1).randbytes(700_000) + bytes(MAX_CHUNK_SIZE + 300_000)
    found = [(len(chunk.data), chunk.bits) for chunk in cuts([data])]
    assert found == list(cuts_by_definition(data))


@pytest.mark.parametrize("piece_size", [10_000, 100_000, 262_144, 3_000_000, 20_000_000])
def test_the_length_of_the_pieces_does_not_matter(piece_size: int) -> None:
    data = random.Random(2).randbytes(9_000_000) + bytes(3_000_000)
    pieces = (data[at : at + piece_size] for at in range(0, len(data), piece_size))
    assert list(cuts(pieces)) == list(cuts([data]))


def test_empty_pieces_and_single_bytes_are_pieces() -> None:
    assert list(cuts([])) == list(cuts([b"", b""])) == []
    assert [tuple(chunk) for chunk in cuts([b"a", b"", b"b"])] == [(b"ab", 0)]


def test_sizes_keep_their_limits() -> None:
    data = random.Random(3).randbytes(8_000_000)
    sizes = [len(chunk.data) for chunk in cuts([data])]
    assert sizes[0] == FIRST_CHUNK_SIZE
    assert all(SMALL_CHUNK_SIZE < size <= MAX_CHUNK_SIZE for size in sizes[1:-1])


def test_cuts_come_as_soon_as_they_are_known() -> None:
    """The stream is not read to its end first: memory stays constant."""
    dice = random.Random(4)
    pieces_read = 0

    def endless() -> Iterator[bytes]:
        nonlocal pieces_read
        while True:
            pieces_read += 1
            yield dice.randbytes(100_000)

    stream = cuts(endless())
    chunks = [next(stream) for _ in range(20)]
    assert pieces_read * 100_000 < sum(len(chunk.data) for chunk in chunks) + 5_000_000


@pytest.mark.parametrize(("size_bytes", "is_imported"), [(1_000_000, 0), (9_000_000, 1)])
def test_only_what_takes_longer_than_to_import_numpy_imports_it(
    size_bytes: int, is_imported: int
) -> None:
    program = (
        "import random, sys; from peatkeep.schema.filewriter import write_file;"
        f"write_file(lambda ref, data: None, [random.Random(5).randbytes({size_bytes})], {{}});"
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == is_imported
