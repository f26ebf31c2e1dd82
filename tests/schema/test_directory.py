"""Static sets, small and large, in both directions."""

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.blob import Ref
from peatkeep.errors import Corrupt, Invalid, NotFound
from peatkeep.schema import directory
from peatkeep.schema.directory import directory_members, static_set_blobs
from peatkeep.schema.parse import parse

if TYPE_CHECKING:
    from .conftest import Blobs

VECTORS = Path(__file__).parent.parent / "vectors/schema"
SETS = json.loads((VECTORS / "json.json").read_text())["staticSets"]
A, B, C = Ref.of(b"a"), Ref.of(b"b"), Ref.of(b"c")


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", SETS, ids=lambda case: str(case["members"]))
def test_a_set_of_any_size_has_the_golden_ref(case: dict[str, Any], blobs: "Blobs") -> None:
    members = [Ref.of(str(number).encode()) for number in range(case["members"])]
    made = static_set_blobs(members)
    ref, text = made[-1]
    assert (ref, len(text)) == (case["ref"], case["size"])
    assert text.decode() == case.get("text", text.decode())
    blobs.update(made)
    assert list(directory_members(blobs, ref)) == members


@pytest.mark.vectors("schema")
def test_a_directory_of_12000_files_is_the_golden_one_and_lists_back(blobs: "Blobs") -> None:
    golden = json.loads(gzip.decompress((VECTORS / "bigdir.json.gz").read_bytes()))
    names = [f"f{number:05d}" for number in range(12_000)]
    members = [Ref.of(golden["fileTemplate"].replace("@NAME@", name).encode()) for name in names]
    assert (members[0], members[-1]) == (golden["firstFile"]["ref"], golden["lastFile"]["ref"])
    made = static_set_blobs(members)
    expected = [*golden["subsets"], golden["topSet"]]
    assert [(ref, text.decode()) for ref, text in made] == [
        (blob["ref"], blob["text"]) for blob in expected
    ]
    blobs.update(made)
    top = blobs.put_bytes(golden["directory"]["text"].encode())
    assert top == golden["directory"]["ref"]
    assert list(directory_members(blobs, top)) == members


@given(count=st.integers(0, 400))
def test_every_size_comes_back_through_every_depth(count: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(directory, "MEMBERS_OF_SET", 5)
        members = [Ref.of(str(number).encode()) for number in range(count)]
        made = static_set_blobs(members)
        store = dict(made)

        class Stored:
            def fetch(self, ref: Ref) -> bytes:
                return store[ref]

        assert list(directory_members(Stored(), made[-1][0])) == members
    seen: set[Ref] = set()
    for ref, text in made:
        schema = parse(text)
        assert schema is not None
        assert set(schema.refs("mergeSets")) <= seen
        seen.add(ref)


def test_members_win_over_subsets_and_are_kept_as_often_as_they_stand(blobs: "Blobs") -> None:
    inner = blobs.put(camliType="static-set", members=[C, C])
    both = blobs.put(camliType="static-set", members=[A, A, B], mergeSets=[inner])
    empty = blobs.put(camliType="static-set", members=[], mergeSets=[inner, both, inner])
    assert list(directory_members(blobs, both)) == [A, A, B]
    assert list(directory_members(blobs, empty)) == [C, C, A, A, B, C, C]


def test_a_schema_that_was_read_before_is_not_fetched_again(blobs: "Blobs") -> None:
    entries = blobs.put(camliType="static-set", members=[A])
    ref = blobs.put(camliType="directory", entries=entries)
    schema = parse(blobs[ref])
    assert schema is not None
    assert list(directory_members(blobs, schema)) == [A]
    assert blobs.fetched == [entries]


def test_subsets_are_read_when_their_turn_comes(blobs: "Blobs") -> None:
    first = blobs.put(camliType="static-set", members=[A])
    top = blobs.put(camliType="static-set", mergeSets=[first, B])
    found = directory_members(blobs, top)
    assert next(found) == A
    with pytest.raises(NotFound):
        next(found)


def test_a_circle_of_sets_ends_in_an_error(blobs: "Blobs") -> None:
    blobs[A] = f'{{"camliVersion":1,"camliType":"static-set","mergeSets":["{A}"]}}'.encode()
    with pytest.raises(Corrupt):
        list(directory_members(blobs, A))


def test_few_blobs_never_make_endless_work(blobs: "Blobs") -> None:
    ref = blobs.put(camliType="static-set", members=[])
    for _ in range(20):
        ref = blobs.put(camliType="static-set", mergeSets=[ref] * 100)
    with pytest.raises(Corrupt):
        list(directory_members(blobs, ref))


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"camliType": "file", "parts": []}, Invalid),
        ({"camliType": "directory"}, Corrupt),
        ({"camliType": "directory", "entries": A}, NotFound),
    ],
)
def test_what_can_not_be_listed_is_an_error(
    blobs: "Blobs", members: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        list(directory_members(blobs, blobs.put(**members)))


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_an_entry_that_is_no_set_is_damage(blobs: "Blobs", kind: str) -> None:
    other = blobs.put(camliType=kind)
    for top in (
        blobs.put(camliType="directory", entries=other),
        blobs.put(camliType="static-set", mergeSets=[other]),
    ):
        with pytest.raises(Corrupt):
            list(directory_members(blobs, top))
