"""Encrypted stores that Perkeep wrote, sound and damaged ones."""

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.encrypt.store import Encrypt
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.registry import open_storage
from peatkeep.errors import ConfigError, Corrupt, NotFound, Unsupported
from tests.blobserver.encrypt.stores import TEST_ONLY_IDENTITY
from tests.blobserver.unpack import manifest, unpack
from tests.independent import encrypt as independent

SOUND = {name: manifest(name) for name in ("encrypt", "encrypt-compacted")}
BLOBS = [(name, blob) for name, facts in SOUND.items() for blob in facts["blobs"]]
FACTS = manifest("damaged-encrypt")
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent.parent / "damaged_expected.toml").read_text()
)["encrypt"]
OPENING = sorted(name for name in EXPECTED if "refused" not in EXPECTED[name])
REFUSED = sorted(EXPECTED.keys() - set(OPENING))
BASE = {Ref(ref): row for ref, row in FACTS["base_rows"].items()}
IDENTITY = independent.Identity.from_str(TEST_ONLY_IDENTITY)

pytestmark = pytest.mark.vectors("storage")


def opened(folder: Path) -> Encrypt:
    """By the set's own configuration."""
    config = FACTS["config"]
    args: dict[str, Any] = dict(config["/enc/"]["handlerArgs"])
    args["keyFile"] = args["keyFile"].replace("${DIR}", str(folder))
    file = args["metaIndex"]["file"].replace("${DIR}", str(folder))
    args["metaIndex"] = dict(args["metaIndex"], file=file)

    def resolve(prefix: str) -> LocalDisk:
        path = config[prefix]["handlerArgs"]["path"].replace("${DIR}", str(folder))
        return LocalDisk(Path(path))

    store = open_storage("storage-encrypt", args, resolve)
    assert isinstance(store, Encrypt)
    return store


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, but for what a look into a LevelDB database changes."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in paths
        if "leveldb" not in str(path)
    }


# -- sound ones -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Encrypt]]:
    folder = tmp_path_factory.mktemp("sound")
    found = {name: opened(unpack(name, folder)) for name in SOUND}
    yield found
    for store in found.values():
        store.close()


@pytest.mark.parametrize(
    ("name", "blob"), BLOBS, ids=lambda value: value if isinstance(value, str) else value["ref"]
)
def test_every_blob_is_served(stores: dict[str, Encrypt], name: str, blob: dict[str, Any]) -> None:
    store, ref = stores[name], Ref(blob["ref"])
    assert list(store.stat([ref])) == [SizedRef(ref, blob["size"])]
    data = store.fetch(ref)
    assert ref.matches(data)
    assert len(data) == blob["size"]
    assert store.fetch_range(ref, 1 if data else 0, 3) == data[1:4]


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("without", ["nothing", "index"])
def test_exactly_what_perkeep_lists_is_listed(name: str, without: str, tmp_path: Path) -> None:
    folder = unpack(name, tmp_path)
    before = contents(folder)
    if without == "index":
        shutil.rmtree(folder / "encindex.leveldb")
    blobs = SOUND[name]["blobs"]
    sized = sorted(SizedRef(Ref(blob["ref"]), blob["size"]) for blob in blobs)
    with opened(folder) as store:
        assert list(store.enumerate()) == sized
        assert store.remarks == []
        assert list(store.check()) == []
    rows = independent.rows_of_index(folder / "encindex.leveldb")
    assert rows == {blob["ref"]: [(blob["size"], blob["encrypted_ref"])] for blob in blobs}
    assert contents(folder) == before


@pytest.mark.parametrize("name", SOUND)
def test_what_we_compact_reads_as_before(name: str, tmp_path: Path) -> None:
    folder = unpack(name, tmp_path)
    with opened(folder) as store:
        store.compact()
    assert len(independent.files(folder / "encmeta")) == 1
    rows = independent.rows_of_metas(folder / "encmeta", IDENTITY)
    assert rows == independent.rows_of_index(folder / "encindex.leveldb")
    blobs = independent.read_all(rows, folder / "encblobs", IDENTITY)
    assert blobs.keys() == {blob["ref"] for blob in SOUND[name]["blobs"]}


# -- damaged ones ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="plain")
def _plain(tmp_path_factory: pytest.TempPathFactory) -> dict[Ref, bytes]:
    with opened(unpack("damaged-encrypt", tmp_path_factory.mktemp("base")) / "ok") as store:
        return {ref: store.fetch(ref) for ref in BASE}


@pytest.fixture
def variant(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return unpack("damaged-encrypt", tmp_path) / request.param


def test_every_variant_is_expected() -> None:
    assert EXPECTED.keys() == {found["variant"] for found in FACTS["variants"]}


@pytest.mark.parametrize("variant", OPENING, indirect=True)
@pytest.mark.parametrize("without", ["nothing", "index"])
def test_it_opens_and_serves_what_is_intact(
    variant: Path, plain: dict[Ref, bytes], without: str
) -> None:
    facts = EXPECTED[variant.name]
    lost = {Ref(ref) for ref in facts.get("lost", [])}
    before = contents(variant)
    if without == "index":
        shutil.rmtree(variant / "encindex.leveldb", ignore_errors=True)
    with opened(variant) as store:
        named = {found.ref for found in store.check()}
        assert named == lost | {Ref(ref) for ref in facts.get("named", [])}
        for ref, data in plain.items():
            if ref in lost:
                with pytest.raises((Corrupt, NotFound)):
                    store.fetch(ref)
            else:
                assert store.fetch(ref) == data
        whole = plain.keys() - lost
        listed = {ref for ref, _ in store.enumerate()}
        assert whole <= listed <= plain.keys()
        assert whole <= {ref for ref, _ in store.stat(plain)} <= plain.keys()
        assert {blob.ref: blob.data for blob in store.stream()} == {r: plain[r] for r in whole}
        assert store.remarks or not facts.get("named")
    after = contents(variant)
    assert {name: after[name] for name in before} == before  # nothing deleted, nothing changed


@pytest.mark.parametrize("variant", OPENING, indirect=True)
def test_storing_again_heals(variant: Path, plain: dict[Ref, bytes]) -> None:
    before = contents(variant).keys()
    with opened(variant) as store:
        store.receive_many(plain.items())
        assert {ref: store.fetch(ref) for ref in plain} == plain
    assert before <= contents(variant).keys()
    with opened(variant) as store:
        assert {ref: store.fetch(ref) for ref in plain} == plain
        assert {ref for ref, _ in store.enumerate()} == plain.keys()
        damaged = {Ref(ref) for ref in EXPECTED[variant.name].get("named", [])}
        assert {found.ref for found in store.check() if not found.is_readable} <= damaged


@pytest.mark.parametrize("variant", OPENING, indirect=True)
def test_the_second_opening_finds_nothing_more_to_mend(variant: Path) -> None:
    opened(variant).close()
    before = contents(variant)
    with opened(variant) as store:
        assert len(list(store.enumerate())) == 4
        assert not any("named again" in remark for remark in store.remarks)
    assert contents(variant) == before


@pytest.mark.parametrize("variant", REFUSED, indirect=True)
def test_it_is_refused_and_stays_untouched(variant: Path) -> None:
    before = contents(variant)
    with pytest.raises((ConfigError, Unsupported)) as caught:
        opened(variant)
    assert EXPECTED[variant.name]["refused"] in str(caught.value)
    assert "AGE-SECRET" not in str(caught.value)
    assert contents(variant) == before
