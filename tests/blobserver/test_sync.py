"""Comparing and copying stores."""

from collections.abc import Iterator

import hypothesis.strategies as st
import pytest
from hypothesis import given

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver import sync
from peatkeep.blobserver.conformance import sample
from peatkeep.blobserver.hub import Hub
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.sync import Copied, Difference, compare, copy_missing
from peatkeep.errors import Corrupt, Unavailable

REFS = sorted(Ref.of(b"%d" % number) for number in range(20))
LISTINGS = st.dictionaries(st.sampled_from(REFS), st.integers(0, 2))


def rows(sizes: dict[Ref, int]) -> list[SizedRef]:
    return [SizedRef(ref, size) for ref, size in sorted(sizes.items())]


@given(LISTINGS, LISTINGS)
def test_compare_names_what_two_listings_do_not_agree_on(
    left: dict[Ref, int], right: dict[Ref, int]
) -> None:
    assert list(compare(rows(left), rows(right))) == [
        Difference(ref, left.get(ref), right.get(ref))
        for ref in REFS
        if left.get(ref) != right.get(ref)
    ]


@pytest.mark.parametrize("order", [(1, 0), (0, 0)])
def test_a_listing_out_of_order_decides_nothing_more(order: tuple[int, int]) -> None:
    bad = [SizedRef(REFS[n], 1) for n in order]
    with pytest.raises(Corrupt, match="right listing"):
        list(compare([], bad))


def test_a_failing_listing_is_an_error_not_an_end() -> None:
    def failing() -> Iterator[SizedRef]:
        yield SizedRef(REFS[0], 1)
        raise Unavailable("list", "disk")

    whole = [SizedRef(ref, 1) for ref in REFS]
    for left, right in ((whole, failing()), (failing(), whole)):
        differences = compare(left, right)
        with pytest.raises(Unavailable):
            list(differences)


def test_copy_brings_what_is_missing_and_nothing_else() -> None:
    blobs = sample(40)
    source, target = Memory(), Memory()
    source.receive_many(blobs.items())
    there = dict(list(blobs.items())[::3])
    extra = (Ref.of(b"only here"), b"only here")
    target.receive_many([*there.items(), extra])
    told: list[Ref] = []
    hub = Hub()
    hub.add_hook(lambda batch: told.extend(ref for ref, _ in batch))
    missing = [ref for ref in blobs if ref not in there]
    steps: list[Copied] = []
    done = copy_missing(source, target, progress=steps.append, hub=hub)
    assert done == Copied(len(missing), sum(len(blobs[ref]) for ref in missing), (), missing[-1])
    assert steps == [done]
    assert told == missing
    assert {ref: target.fetch(ref) for ref in blobs} == blobs
    assert target.fetch(extra[0]) == extra[1]
    assert len(list(source.enumerate())) == 40
    assert copy_missing(source, target).blobs == 0


def test_copy_goes_on_after_a_ref() -> None:
    blobs = sample(10)
    source, target = Memory(), Memory()
    source.receive_many(blobs.items())
    assert copy_missing(source, target, after=list(blobs)[6]).blobs == 3
    assert [ref for ref, _ in target.enumerate()] == list(blobs)[7:]


def test_batches_stay_under_both_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "BATCH_COUNT", 4)
    monkeypatch.setattr(sync, "BATCH_SIZE", 100)
    source, target = Memory(), Memory()
    contents = [b"small %d" % n for n in range(9)] + [bytes(80 + n) for n in range(5)]
    source.receive_many((Ref.of(data), data) for data in contents)
    steps: list[Copied] = []
    copy_missing(source, target, progress=steps.append)
    sizes = [(b.blobs - a.blobs, b.size_bytes - a.size_bytes)
             for a, b in zip([Copied(0, 0, (), ""), *steps], steps, strict=False)]  # fmt: skip
    assert all(count <= 4 and size <= 100 for count, size in sizes)
    assert steps[-1].blobs == 14
    assert steps[-1].last == list(target.enumerate())[-1].ref


def test_a_damaged_blob_is_named_and_left_out() -> None:
    blobs = sample(10)
    bad = list(blobs)[4]
    source, target = Memory(), Memory()
    source.receive_many({**blobs, bad: b"damaged"}.items())
    done = copy_missing(source, target)
    assert done.damaged == (bad,)
    assert done.blobs == 9
    assert list(target.stat([bad])) == []


def test_a_copy_of_another_size_is_replaced() -> None:
    blobs = sample(3)
    cut = next(iter(blobs))
    source, target = Memory(), Memory()
    source.receive_many(blobs.items())
    target.receive_many({**blobs, cut: b""}.items())
    assert copy_missing(source, target).blobs == 1
    assert target.fetch(cut) == blobs[cut]
