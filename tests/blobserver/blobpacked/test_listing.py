"""Pages of rows are listed as the rows one by one would be, whatever stands among them."""

import hashlib
from collections.abc import Set

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.blobpacked.listing import Row, sized

ZIP = Ref.of(b"zip")
OTHER_ZIP = Ref.of(b"other zip")


def usual(count: int = 1500) -> list[Row]:
    """Sound rows in order, of sizes 0 to count - 1, in two zips."""
    refs = sorted(Ref.of(b"%d" % number) for number in range(count))
    zips = (ZIP, OTHER_ZIP)
    return [
        (b"b:" + ref.encode(), f"{size} {zips[size % 2]} {size * 7}".encode())
        for size, ref in enumerate(refs)
    ]


def listed(rows: list[Row], without: Set[Ref] = frozenset()) -> list[SizedRef]:
    return list(sized(rows, without))


def expected(rows: list[Row]) -> list[SizedRef]:
    return [SizedRef(Ref(key[2:].decode()), int(value.split()[0])) for key, value in rows]


def test_sound_rows_are_listed_as_they_are() -> None:
    assert listed(usual()) == expected(usual())
    assert all(type(found) is SizedRef and type(found.ref) is Ref for found in listed(usual()))


def test_blobs_of_a_missing_zip_are_left_out() -> None:
    assert listed(usual(), {ZIP}) == expected(usual()[1::2])


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b"12",
        f"12 {ZIP}".encode(),
        f"12 {ZIP} ".encode(),
        f" {ZIP} 12".encode(),
        f"12  {ZIP} 12".encode(),
        f"-1 {ZIP} 12".encode(),
        f"1_0 {ZIP} 12".encode(),
        f"12 {ZIP} +3".encode(),
        f"12 {ZIP} 3\n".encode(),
        f"12 {ZIP} 3 4".encode(),
        f"12 {ZIP} 3 \n 12 {ZIP} 3".encode(),
        f"12 {str(ZIP)[:-1]}. 3".encode(),
        b"12 nothing 3",
    ],
)
def test_rows_that_break_their_form_are_left_out(value: bytes) -> None:
    rows = usual(400)
    damaged = dict(rows)
    for at in (0, 50, 51, 399):
        damaged[rows[at][0]] = value
    sound = [row for at, row in enumerate(rows) if at not in (0, 50, 51, 399)]
    assert listed(list(damaged.items())) == expected(sound)


def test_two_broken_rows_do_not_make_up_for_each_other() -> None:
    rows = usual(400)
    rows[100] = rows[100][0], f"600 {ZIP} 5 6".encode()
    rows[101] = rows[101][0], f"{ZIP} 7".encode()
    assert listed(rows) == expected(rows[:100] + rows[102:])


@pytest.mark.parametrize(
    "name",
    [
        "sha224-" + "0" * 55,
        "sha224-" + "0" * 57,
        "sha224-" + "0" * 27 + "g" + "0" * 28,
        "sha224-" + "0" * 27 + "\n" + "0" * 28,
        "sha224-" + "0" * 27 + "\n" + "0" * 38,
    ],
)
def test_keys_that_are_no_refs_are_left_out(name: str) -> None:
    rows = sorted([*usual(400), (b"b:" + name.encode(), f"1 {ZIP} 1".encode())])
    assert listed(rows) == expected(usual(400))


@pytest.mark.parametrize("hash_name", ["sha1", "sha256"])
def test_names_of_other_hashes_stand_in_their_place(hash_name: str) -> None:
    others = [
        f"{hash_name}-{hashlib.new(hash_name, b'%d' % number).hexdigest()}" for number in range(40)
    ]
    rows = sorted([*usual(400), *((b"b:" + o.encode(), f"1 {ZIP} 1".encode()) for o in others)])
    assert listed(rows) == expected(rows)


def test_zips_of_another_hash_are_zips() -> None:
    rows = usual(400)
    rows[7] = rows[7][0], f"7 sha1-{'a' * 40} 0".encode()
    assert listed(rows) == expected(rows)
