"""Pack folders that Perkeep wrote, sound ones."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import plyvel
import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.diskpacked import DiskPacked
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.errors import Invalid, NotFound
from peatkeep.sorted.registry import open_kv
from tests.blobserver.unpack import manifest, unpack

SETS = {name: manifest(name) for name in ("diskpacked", "diskpacked-sqlite", "diskpacked-kv")}
BLOBS = [(name, blob) for name, facts in SETS.items() for blob in facts["blobs"]]
PAGES = [(name, case) for name, f in SETS.items() for case in f.get("enumerate_cases", [])]
REMOVED = [(name, ref) for name, facts in SETS.items() for ref in facts["removed"]]

pytestmark = pytest.mark.vectors("storage")


def configured(name: str, folder: Path) -> dict[str, Any]:
    """The arguments of the set's own configuration."""
    args: dict[str, Any] = SETS[name]["config"]["/dp/"]["handlerArgs"]
    args = dict(args, path=args["path"].replace("${DIR}", str(folder)))
    if "metaIndex" in args:
        file = args["metaIndex"]["file"].replace("${DIR}", str(folder))
        args["metaIndex"] = dict(args["metaIndex"], file=file)
    return args


def opened(name: str, folder: Path) -> DiskPacked:
    store = open_storage("storage-diskpacked", configured(name, folder), lambda _: Memory())
    assert isinstance(store, DiskPacked)
    return store


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, DiskPacked]]:
    folder = tmp_path_factory.mktemp("sound")
    found = {name: opened(name, unpack(name, folder)) for name in SETS}
    yield found
    for store in found.values():
        store.close()


@pytest.mark.parametrize(
    ("name", "blob"), BLOBS, ids=lambda value: value if isinstance(value, str) else value["ref"]
)
def test_every_blob_is_served(
    stores: dict[str, DiskPacked], name: str, blob: dict[str, Any]
) -> None:
    store, ref = stores[name], Ref(blob["ref"])
    assert list(store.stat([ref])) == [SizedRef(ref, blob["size"])]
    data = store.fetch(ref)
    assert len(data) == blob["size"]
    assert ref.matches(data)
    middle = len(data) // 2
    for _ in range(2):
        assert store.fetch_range(ref, middle, 10) == data[middle : middle + 10]
    assert list(store.fetch_many([ref])) == [(ref, data)]


@pytest.mark.parametrize(("name", "ref"), REMOVED)
def test_removed_blobs_are_not_found(stores: dict[str, DiskPacked], name: str, ref: str) -> None:
    assert list(stores[name].stat([Ref(ref)])) == []
    with pytest.raises(NotFound):
        stores[name].fetch(Ref(ref))


@pytest.mark.parametrize("name", SETS)
def test_the_order_is_perkeeps(stores: dict[str, DiskPacked], name: str) -> None:
    expected = [(blob["ref"], blob["size"]) for blob in SETS[name]["blobs"]]
    assert list(stores[name].enumerate()) == expected


@pytest.mark.parametrize(
    ("name", "case"), PAGES, ids=lambda v: v if isinstance(v, str) else f"{v['after']},{v['limit']}"
)
def test_pages_are_perkeeps(stores: dict[str, DiskPacked], name: str, case: dict[str, Any]) -> None:
    page = islice(stores[name].enumerate(case["after"]), case["limit"])
    assert [ref for ref, _ in page] == case["want"]


@pytest.mark.parametrize("name", SETS)
def test_the_stream_is_perkeeps(stores: dict[str, DiskPacked], name: str) -> None:
    streamed = list(stores[name].stream())
    assert [
        {"ref": blob.ref, "size": len(blob.data), "token": blob.token} for blob in streamed
    ] == SETS[name]["stream"]
    for number, blob in enumerate(streamed):
        assert list(stores[name].stream(blob.token)) == streamed[number:]


@pytest.mark.parametrize("token", ["x", "0", "0 ", " 0", "0 -1", "0 1 2", "0 0 ", "\u0661 0"])
def test_a_token_of_another_store_is_refused(stores: dict[str, DiskPacked], token: str) -> None:
    with pytest.raises(Invalid):
        next(stores["diskpacked"].stream(token))


@pytest.mark.parametrize("name", SETS)
def test_the_generation_is_kept(stores: dict[str, DiskPacked], name: str) -> None:
    generation = stores[name].generation()
    assert generation is not None
    assert generation.token == SETS[name]["generation"]


@pytest.mark.parametrize("name", SETS)
def test_a_sound_folder_passes_the_check_and_stays_as_it_is(name: str, tmp_path: Path) -> None:
    folder = unpack(name, tmp_path)
    before = {path.name: path.read_bytes() for path in folder.rglob("pack-*")}
    with opened(name, folder) as store:
        assert list(store.check()) == []
        found = store.reindex()
        assert found[1:] == (0, 0, 0, [])
        assert found.rows_set == 0
    assert {path.name: path.read_bytes() for path in folder.rglob("pack-*")} == before
    rows = configured(name, folder).get("metaIndex") or {
        "type": "leveldb",
        "file": str(folder / "blobs" / "index.leveldb"),
    }
    if rows["type"] == "kv":
        rows = {"type": "leveldb", "file": str(folder / "index.leveldb")}
        assert (folder / "index.kv").exists()
    with open_kv(rows) as index:
        found_rows = {key.decode(): value.decode() for key, value in index.find()}
    assert found_rows == SETS[name]["index_rows"]


def test_an_index_in_the_old_format_is_made_anew_and_said_so(tmp_path: Path) -> None:
    with opened("diskpacked-kv", unpack("diskpacked-kv", tmp_path)) as store:
        assert any("reindex-diskpacked" in remark for remark in store.remarks)


def test_what_is_written_has_the_form_of_what_is_there(tmp_path: Path) -> None:
    blobs = unpack("diskpacked", tmp_path) / "blobs"
    before = (blobs / "pack-00005.blobs").read_bytes()
    ref = Ref.of(b"hello, Perkeep")
    gone = Ref(SETS["diskpacked"]["blobs"][3]["ref"])
    with opened("diskpacked", blobs.parent) as store:
        assert (blobs / "pack-00005.blobs.lock").read_bytes() == b""
        store.receive(ref, b"hello, Perkeep")
        store.remove([gone])
    assert not list(blobs.glob("*.lock"))
    record = f"[{ref} 14]hello, Perkeep".encode()
    assert (blobs / "pack-00005.blobs").read_bytes() == before + record
    first = (blobs / "pack-00000.blobs").read_bytes()
    removed = b"[xxxxxx-" + b"0" * 56 + b" 63]" + bytes(63)
    offset = SETS["diskpacked"]["blobs"][3]["offset"]
    assert first[offset - 68 : offset + 63] == removed
    rows = plyvel.DB(str(blobs / "index.leveldb"))
    assert rows.get(ref.encode()) == b"5 %d 14" % (len(before) + len(record) - 14)
    assert rows.get(gone.encode()) is None
    rows.close()


def test_a_server_directory_with_packs_opens_in_place(tmp_path: Path) -> None:
    facts = manifest("perkeepd-packblobs-leveldb")
    blobs = unpack("perkeepd-packblobs-leveldb", tmp_path) / "var" / "perkeep" / "blobs"
    index = {"type": "leveldb", "file": str(blobs / "diskpacked-index.leveldb")}
    args = {"path": str(blobs), "metaIndex": index}
    with open_storage("storage-diskpacked", args, lambda _: Memory()) as store:
        assert [tuple(found) for found in store.enumerate()] == sorted(
            (blob["ref"], blob["size"]) for blob in facts["blobs"]
        )
        for blob in facts["blobs"]:
            assert len(store.fetch(Ref(blob["ref"]))) == blob["size"]
