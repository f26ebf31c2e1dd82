"""Pack folders that Perkeep wrote and something damaged."""

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.diskpacked import DiskPacked
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.errors import Corrupt, NotFound, Unavailable
from tests.blobserver.unpack import manifest, unpack
from tests.independent.diskpacked import walk_as_perkeep

FACTS = manifest("damaged-diskpacked")
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent.parent / "damaged_expected.toml").read_text()
)["diskpacked"]
OPENING = sorted(name for name in EXPECTED if "refused" not in EXPECTED[name])
BASE: dict[Ref, bytes] = {}

pytestmark = pytest.mark.vectors("storage")


def opened(blobs: Path) -> DiskPacked:
    args = {"path": str(blobs), "maxFileSize": 2000}
    store = open_storage("diskpacked", args, lambda _: Memory())
    assert isinstance(store, DiskPacked)
    return store


@pytest.fixture(scope="module", autouse=True)
def _read_base(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = unpack("damaged-diskpacked", tmp_path_factory.mktemp("base")) / "ok" / "blobs"
    with opened(folder) as store:
        BASE.update({Ref(ref): store.fetch(Ref(ref)) for ref in FACTS["base_blobs"]})


@pytest.fixture
def variant(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return unpack("damaged-diskpacked", tmp_path) / request.param / "blobs"


def names(folder: Path) -> set[str]:
    """What lies in the folder, but for what is LevelDB's own."""
    return set(os.listdir(folder))


def packs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("pack-*.blobs")}


def test_every_variant_is_expected() -> None:
    assert EXPECTED.keys() == {found["variant"] for found in FACTS["variants"]}


@pytest.mark.parametrize("variant", OPENING, indirect=True)
def test_it_opens_and_serves_what_is_intact(variant: Path, request: pytest.FixtureRequest) -> None:
    facts = EXPECTED[request.node.callspec.params["variant"]]
    lost = {Ref(ref) for ref in facts.get("lost", [])}
    also = {Ref(ref) for ref in facts.get("also", [])}
    absent = {Ref(ref) for ref in facts.get("absent", [])}
    before = packs(variant)
    with opened(variant) as store:
        for ref, data in BASE.items():
            if ref in lost:
                with pytest.raises((Corrupt, NotFound)):
                    store.fetch(ref)
                with pytest.raises((Corrupt, NotFound)):
                    store.fetch_range(ref, 0, 1)
            else:
                assert store.fetch(ref) == data
                assert store.fetch_range(ref, 1, 3) == data[1:4]
        for ref in also:
            assert ref.matches(store.fetch(ref))
        for ref in absent:
            with pytest.raises(NotFound):
                store.fetch(ref)
        whole = (BASE.keys() - lost) | also
        listed = {ref for ref, _ in store.enumerate()}
        assert whole <= listed <= whole | lost
        assert {ref for ref, _ in store.stat([*BASE, *also])} == listed
        streamed = list(store.stream())
        assert {blob.ref for blob in streamed} == whole
        assert len(streamed) == len(whole)
        assert all(blob.ref.matches(blob.data) for blob in streamed)
        for number, blob in enumerate(streamed):
            assert next(store.stream(blob.token)) == streamed[number]
        got = dict(store.fetch_many(BASE))
        assert {ref for ref, data in got.items() if isinstance(data, bytes)} == whole - also
        named = {found.ref for found in store.check() if not found.is_readable}
        assert named - {None} == lost | absent
    after = packs(variant)
    assert before.keys() <= after.keys()
    assert all(len(after[name]) >= len(before[name]) for name in before)


@pytest.mark.parametrize("variant", OPENING, indirect=True)
def test_storing_again_heals_and_deletes_no_file(
    variant: Path, request: pytest.FixtureRequest
) -> None:
    facts = EXPECTED[request.node.callspec.params["variant"]]
    also, absent = ({Ref(ref) for ref in facts.get(key, [])} for key in ("also", "absent"))
    before = names(variant)
    with opened(variant) as store:
        store.receive_many(BASE.items())
    with opened(variant) as store:
        assert {ref: store.fetch(ref) for ref in BASE} == BASE
        assert {blob.ref: blob.data for blob in store.stream() if blob.ref in BASE} == BASE
        assert {ref for ref, _ in store.enumerate()} == BASE.keys() | also
        named = {found.ref for found in store.check() if not found.is_readable}
        assert named <= {None} | absent
    assert before <= names(variant)


@pytest.mark.parametrize("variant", OPENING, indirect=True)
def test_reindexing_leaves_what_every_reader_walks_through(
    variant: Path, request: pytest.FixtureRequest
) -> None:
    facts = EXPECTED[request.node.callspec.params["variant"]]
    lost = {Ref(ref) for ref in facts.get("lost", [])}
    with opened(variant) as store:
        store.reindex()
        assert {ref for ref in BASE if ref not in lost} <= {blob.ref for blob in store.stream()}
        # What is mended is found sound, and mending again changes nothing.
        again = store.reindex()
        assert again[:4] == (0, 0, 0, 0)
        assert {found.ref for found in again.damaged} <= lost
    seen = [ref for _, ref, _ in walk_as_perkeep(variant)]
    assert {ref for ref in BASE if ref not in lost} <= set(seen)
    with opened(variant) as store:
        store.receive_many(BASE.items())
    walked = {ref: data for _, ref, data in walk_as_perkeep(variant) if ref in BASE}
    assert walked == BASE


@pytest.mark.parametrize("variant", OPENING, indirect=True)
def test_a_lost_index_costs_no_blob_of_any_variant(
    variant: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    lost = {Ref(ref) for ref in EXPECTED[request.node.callspec.params["variant"]].get("lost", [])}
    if (variant / "index.leveldb").exists():
        (variant / "index.leveldb").rename(tmp_path / "away")
    with opened(variant) as store:
        nameless = {
            found.path for found in store.check() if found.ref is None and not found.is_readable
        }
        for ref, data in BASE.items():
            # Whose header and row are both gone is gone; there is no such case but these.
            damaged_header = variant.parent.name in (
                "flipped-header-size", "flipped-header-bracket"
            ) and ref.startswith("sha224-f0a018")  # fmt: skip
            if ref in lost or damaged_header:
                with pytest.raises((Corrupt, NotFound)):
                    store.fetch(ref)
            else:
                assert store.fetch(ref) == data
        assert nameless <= {str(path) for path in variant.iterdir()}
        store.receive_many(BASE.items())
        assert {ref: store.fetch(ref) for ref in BASE} == BASE


def test_a_lock_file_that_is_not_empty_is_respected(tmp_path: Path) -> None:
    blobs = unpack("damaged-diskpacked", tmp_path) / "stale-lock-not-empty" / "blobs"
    before = packs(blobs)
    lock = blobs / EXPECTED["stale-lock-not-empty"]["refused"]
    held = lock.read_bytes()
    with pytest.raises(Unavailable, match=str(lock)):
        opened(blobs)
    assert packs(blobs) == before
    assert lock.read_bytes() == held
    lock.unlink()
    with opened(blobs) as store:
        assert {ref: store.fetch(ref) for ref in BASE} == BASE
