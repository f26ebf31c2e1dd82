"""Loose directories that Perkeep wrote, sound and damaged."""

import os
import tomllib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.errors import Corrupt, NotFound
from tests.blobserver.unpack import manifest, unpack

SOUND = manifest("localdisk")
DAMAGED = manifest("damaged-localdisk")

pytestmark = pytest.mark.vectors("storage")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalDisk]:
    folder = unpack("localdisk", tmp_path_factory.mktemp("sound"))
    with LocalDisk(folder / "blobs") as store:
        yield store


@pytest.mark.parametrize("blob", SOUND["blobs"], ids=lambda blob: blob["ref"])
def test_every_blob_is_served(sound: LocalDisk, blob: dict[str, Any]) -> None:
    ref = Ref(blob["ref"])
    assert list(sound.stat([ref])) == [SizedRef(ref, blob["size"])]
    data = sound.fetch(ref)
    assert len(data) == blob["size"]
    assert ref.matches(data)
    middle = len(data) // 2
    assert sound.fetch_range(ref, middle, 10) == data[middle : middle + 10]


@pytest.mark.parametrize("ref", SOUND["removed"])
def test_removed_blobs_are_not_found(sound: LocalDisk, ref: str) -> None:
    with pytest.raises(NotFound):
        sound.fetch(Ref(ref))


def test_the_order_is_perkeeps(sound: LocalDisk) -> None:
    assert [ref for ref, _ in sound.enumerate()] == [blob["ref"] for blob in SOUND["blobs"]]


@pytest.mark.parametrize(
    "case", SOUND["enumerate_cases"], ids=lambda c: f"{c['after']},{c['limit']}"
)
def test_pages_are_perkeeps(sound: LocalDisk, case: dict[str, Any]) -> None:
    page = islice(sound.enumerate(case["after"]), case["limit"])
    assert [ref for ref, _ in page] == case["want"]


def test_the_generation_is_kept(tmp_path: Path) -> None:
    blobs = unpack("localdisk", tmp_path) / "blobs"
    before = (blobs / "GENERATION.dat").read_bytes()
    with LocalDisk(blobs) as store:
        generation = store.generation()
    assert generation is not None
    assert generation.token == SOUND["generation"]
    assert generation.initialised.timestamp() == 1_700_000_000
    assert (blobs / "GENERATION.dat").read_bytes() == before


def test_new_files_look_like_perkeeps(tmp_path: Path) -> None:
    blobs = unpack("localdisk", tmp_path) / "blobs"
    example = next(path for path in blobs.rglob("*.dat") if path.parent != blobs)
    with LocalDisk(blobs) as store:
        ref = Ref.of(b"new")
        store.receive(ref, b"new")
    digits = ref.hex_digest
    new = blobs / "sha224" / digits[:2] / digits[2:4] / f"{ref}.dat"
    assert new.read_bytes() == b"new"
    for ours, theirs in zip((new, *new.parents), (example, *example.parents), strict=False):
        if ours == blobs:
            break
        assert ours.stat().st_mode == theirs.stat().st_mode


# -- damaged ------------------------------------------------------------------------------------

VARIANTS = {variant["variant"]: variant for variant in DAMAGED["variants"]}
EXPECTED = tomllib.loads(Path(__file__).with_name("damaged_expected.toml").read_text())["localdisk"]
KEYS = ("not_found", "corrupt")


def test_every_variant_is_expected() -> None:
    assert EXPECTED.keys() == VARIANTS.keys()


def files_below(folder: Path) -> set[str]:
    return {
        os.path.relpath(os.path.join(top, n), folder) for top, _, ns in os.walk(folder) for n in ns
    }


@pytest.fixture(params=sorted(VARIANTS))
def variant(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[dict[str, Any], Path]:
    folder = unpack("damaged-localdisk", tmp_path)
    return VARIANTS[request.param], folder / request.param / "blobs"


def sound_blobs() -> dict[Ref, bytes]:
    """The base set's blobs, by the undamaged variant."""
    return _SOUND_BLOBS


_SOUND_BLOBS: dict[Ref, bytes] = {}


@pytest.fixture(scope="module", autouse=True)
def _read_sound_blobs(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = unpack("damaged-localdisk", tmp_path_factory.mktemp("ok")) / "ok" / "blobs"
    with LocalDisk(folder) as store:
        _SOUND_BLOBS.update({Ref(r): store.fetch(Ref(r)) for r in DAMAGED["base_blobs"]})


def test_a_damaged_directory_opens_and_serves_what_is_intact(
    variant: tuple[dict[str, Any], Path],
) -> None:
    facts, blobs = variant
    expected = EXPECTED[facts["variant"]]
    absent, damaged = ({Ref(ref) for ref in expected.get(key, ())} for key in KEYS)
    perkeep = facts["perkeep"]
    assert absent == {*perkeep["not_found"]}
    assert damaged == {found["ref"] for found in perkeep["fetch_bad"]}
    before = files_below(blobs)
    with LocalDisk(blobs) as store:
        for ref, data in sound_blobs().items():
            if ref in absent:
                with pytest.raises(NotFound):
                    store.fetch(ref)
            elif ref in damaged:
                with pytest.raises(Corrupt, match=str(blobs)):
                    store.fetch(ref)
                with pytest.raises(Corrupt):
                    store.fetch_range(ref, 0, 0)
            else:
                assert store.fetch(ref) == data
        listed = {ref for ref, _ in store.enumerate()}
        assert listed == {ref for ref, _ in store.stat([*listed, *sound_blobs()])}
        assert listed == set(sound_blobs()) - absent
        named = {ref for ref, data in store.fetch_many(listed) if isinstance(data, Corrupt)}
        assert named == damaged
        assert {blob.ref for blob in store.stream()} == set(sound_blobs()) - absent - damaged
    assert files_below(blobs) >= before


def test_storing_again_heals_and_deletes_no_file(variant: tuple[dict[str, Any], Path]) -> None:
    _, blobs = variant
    before = files_below(blobs)
    with LocalDisk(blobs) as store:
        store.receive_many(sound_blobs().items())
        assert {ref: store.fetch(ref) for ref in sound_blobs()} == sound_blobs()
        assert {blob.ref: blob.data for blob in store.stream()} == sound_blobs()
    assert files_below(blobs) >= before
    assert not any(".tmp" in name for name in files_below(blobs) - before)
