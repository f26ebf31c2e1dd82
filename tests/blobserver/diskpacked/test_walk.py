"""Records, and walking packs that are damaged anywhere."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peatkeep.blob import MAX_BLOB_SIZE, Ref
from peatkeep.blobserver.diskpacked.files import PackFileSystem
from peatkeep.blobserver.diskpacked.records import (
    Place,
    filler,
    fillers,
    header,
    is_removed,
    pack_name,
    pack_number,
    removed_header,
)
from peatkeep.blobserver.diskpacked.walk import Kind, PackReader, Stretch, Walker

FORM = re.compile(rb"\[(x+-0+) ([0-9]+)\]")


class Text(PackFileSystem):
    """One file, in memory."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def read_at(self, descriptor: int, size: int, offset: int) -> bytes:
        return self.data[offset : offset + size]


def walk(data: bytes, begin: int = 0, verifies: bool = True) -> list[Stretch]:
    return list(Walker(PackReader(Text(data), 0, "pack", len(data)), verifies).walk(begin))


def record(data: bytes) -> bytes:
    return header(Ref.of(data), len(data)) + data


def removed(data: bytes) -> bytes:
    return removed_header(Ref.of(data), len(data)) + bytes(len(data))


# -- records ------------------------------------------------------------------------------------


def test_a_filler_has_exactly_the_length_asked_for() -> None:
    for length in (*range(7, 12_000), 1 << 20, MAX_BLOB_SIZE):
        head = filler(length)
        match = FORM.fullmatch(head)
        assert match is not None
        assert len(head) + int(match[2]) == length
        assert len(head) < 20


def test_the_filler_of_770_bytes_is_perkeeps_example() -> None:
    assert filler(770) == b"[x-0 761]"


@pytest.mark.parametrize(
    "length", [7, MAX_BLOB_SIZE, MAX_BLOB_SIZE + 1, MAX_BLOB_SIZE + 6, 3 * MAX_BLOB_SIZE + 5]
)
def test_long_gaps_are_filled_by_several_records(length: int) -> None:
    position = 100
    for offset, head in fillers(100, 100 + length):
        match = FORM.fullmatch(head)
        assert match is not None
        assert offset == position
        assert int(match[2]) <= MAX_BLOB_SIZE
        position += len(head) + int(match[2])
    assert position == 100 + length


def test_a_removed_header_is_as_long_as_the_one_before() -> None:
    for text in ("sha1-" + "a" * 40, "sha224-" + "b" * 56, "sha256-" + "c" * 64, "odd9-abc"):
        head = removed_header(Ref(text), 12)
        assert len(head) == len(header(text, 12))
        assert is_removed(head[1 : head.index(b" ")])
    assert not is_removed(b"x-01")
    assert not is_removed(b"xa-00")
    assert not is_removed(b"-0")


@pytest.mark.parametrize(
    "value", [b"", b"1 2", b"1  2", b"1 2 3 4", b"a 2 3", b"-1 2 3", b"1 2 +3"]
)
def test_a_row_that_breaks_the_form_names_no_place(value: bytes) -> None:
    assert Place.from_row(value) is None


def test_a_place_is_written_as_perkeep_writes_it() -> None:
    assert Place(0, 67, 5).row() == b"0 67 5"
    assert Place.from_row(b"3 417 516") == Place(3, 417, 516)


@pytest.mark.parametrize(
    "name", ["pack-0.blobs", "pack-000000.blobs", "pack-00001.blobs.lock", "pack-00001", "x"]
)
def test_other_files_are_no_packs(name: str) -> None:
    assert pack_number(name) is None


def test_pack_names_have_five_digits_or_more() -> None:
    assert pack_name(7) == "pack-00007.blobs"
    assert [pack_number(pack_name(n)) for n in (0, 99_999, 100_000)] == [0, 99_999, 100_000]


# -- walking ------------------------------------------------------------------------------------


def test_records_follow_each_other_to_the_end() -> None:
    pieces = [record(b"one"), removed(b"two"), record(b""), record(b"four")]
    found = walk(b"".join(pieces))
    assert [stretch.kind for stretch in found] == [Kind.LIVE, Kind.REMOVED, Kind.LIVE, Kind.LIVE]
    assert [stretch.data for stretch in found] == [b"one", None, b"", b"four"]
    assert [stretch.end - stretch.begin for stretch in found] == [len(p) for p in pieces]
    assert walk(b"") == []


def test_without_verifying_no_data_is_taken() -> None:
    found = walk(record(b"one") + record(b"two"), verifies=False)
    assert [(stretch.kind, stretch.data) for stretch in found] == [(Kind.LIVE, None)] * 2


@pytest.mark.parametrize("cut", [1, 30, 66, 67, 68, 100])
def test_what_the_end_cuts_off_is_torn(cut: int) -> None:
    data = bytes(range(200))
    whole = record(b"before")
    found = walk(whole + record(data)[:cut])
    assert [stretch.kind for stretch in found] == [Kind.LIVE, Kind.TORN]
    assert (found[1].begin, found[1].end) == (len(whole), len(whole) + cut)
    assert found[1].ref == (Ref.of(data) if cut > 68 else None)


def test_a_record_behind_a_torn_one_is_found() -> None:
    torn = record(bytes(500))[:200]
    found = walk(torn + record(b"after"))
    assert [stretch.kind for stretch in found] == [Kind.GAP, Kind.LIVE]
    assert found[0].ref == Ref.of(bytes(500))


def test_damaged_records_in_a_row_are_told_apart() -> None:
    data = record(b"first") + record(b"second") + record(b"third") + record(b"fourth")
    for text in (b"first", b"second", b"third"):
        place = data.rindex(text)
        data = data[:place] + b"X" + data[place + 1 :]
    found = walk(data)
    assert [stretch.kind for stretch in found] == [Kind.DAMAGED] * 3 + [Kind.LIVE]
    assert [stretch.ref for stretch in found] == [
        Ref.of(text) for text in (b"first", b"second", b"third", b"fourth")
    ]


def test_a_flipped_digit_of_a_digest_is_seen_as_such() -> None:
    data = bytearray(record(b"data") + record(b"next"))
    data[20] = ord("0") if data[20] != ord("0") else ord("1")
    damaged, after = walk(bytes(data))
    assert damaged.kind is Kind.DAMAGED
    assert damaged.is_misnamed
    assert damaged.actual == Ref.of(b"data")
    assert after.kind is Kind.LIVE
    flipped = record(b"data").replace(b"]data", b"]dbta")
    assert not walk(flipped + record(b"next"))[0].is_misnamed


def test_content_that_looks_like_a_record_is_content() -> None:
    inner = record(b"inner")
    assert [stretch.data for stretch in walk(record(inner) + record(b"x"))] == [inner, b"x"]


def test_a_blob_full_of_headers_does_not_make_the_search_endless() -> None:
    trap = header(Ref.of(b"trap"), 1_000_000) * 25_000
    found = walk(b"?" + record(trap)[1:] + record(b"after"))
    assert found[-1].data == b"after"
    assert found[-1].kind is Kind.LIVE


def test_a_header_with_a_size_over_the_limit_is_none() -> None:
    ref = Ref.of(b"large")
    for size in (MAX_BLOB_SIZE + 1, 9_999_999_999):
        found = walk(header(ref, size) + b"large" + record(b"after"))
        assert [stretch.kind for stretch in found] == [Kind.GAP, Kind.LIVE]


PIECES = st.lists(st.tuples(st.booleans(), st.binary(max_size=300)), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(PIECES, st.integers(0, 10**6), st.integers(1, 255), st.integers(1, 90))
def test_damage_hides_no_record_but_those_that_it_hits(
    pieces: list[tuple[bool, bytes]], place: int, change: int, length: int
) -> None:
    records = [removed(data) if is_gone else record(data) for is_gone, data in pieces]
    whole = b"".join(records)
    place %= len(whole)
    hit = bytes(byte ^ change for byte in whole[place : place + length])
    damaged = whole[:place] + hit + whole[place + length :]
    for verifies in (True, False):
        found = walk(damaged, verifies=verifies)
        assert found[0].begin == 0
        assert [stretch.end for stretch in found[:-1]] == [stretch.begin for stretch in found[1:]]
        assert found[-1].end == len(damaged)
        live = {stretch.begin: stretch for stretch in found if stretch.kind is Kind.LIVE}
        begin = 0
        for (is_gone, data), text in zip(pieces, records, strict=True):
            end = begin + len(text)
            is_hit = begin < place + length and place < end
            if not is_gone and not is_hit:
                assert live[begin].ref == Ref.of(data)
            begin = end
        if verifies:
            for stretch in live.values():
                assert stretch.ref is not None
                assert stretch.data is not None
                assert stretch.ref.matches(stretch.data)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=3000))
def test_any_bytes_can_be_walked(data: bytes) -> None:
    found = walk(data)
    assert sum(stretch.end - stretch.begin for stretch in found) == len(data)


def test_unreadable_blocks_come_as_zeros() -> None:
    class BadBlock(Text):
        def read_at(self, descriptor: int, size: int, offset: int) -> bytes:
            if offset < 12_000 and offset + size > 8_192:
                raise OSError(5, "Input/output error")
            return super().read_at(descriptor, size, offset)

    pieces = [record(bytes([n]) * 3000) for n in range(8)]
    data = b"".join(pieces)
    walker = Walker(PackReader(BadBlock(data), 0, "pack", len(data)))
    live = {stretch.ref for stretch in walker.walk() if stretch.kind is Kind.LIVE}
    assert live == {Ref.of(bytes([n]) * 3000) for n in (0, 1, 5, 6, 7)}
