"""Opening what is incomplete; healing, checking, reindexing, compacting; other indexes."""

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.conformance import StorageSuite, sample
from peatkeep.blobserver.diskpacked import DiskPacked
from peatkeep.blobserver.diskpacked.records import header, removed_header
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.errors import ConfigError, Corrupt, NotFound, Unavailable
from tests.blobserver.diskpacked.simulated import Machine
from tests.independent.diskpacked import read_by_index, walk_as_perkeep

BLOBS = sample(12)
ROWS = list(BLOBS.items())
FIRST, SECOND = ROWS[0], ROWS[1]
SECOND_SIZED = SECOND[0], len(SECOND[1])


def opened(folder: Path, **more: object) -> DiskPacked:
    store = open_storage("diskpacked", {"path": str(folder), **more}, lambda _: Memory())
    assert isinstance(store, DiskPacked)
    return store


def pack(folder: Path, number: int = 0) -> Path:
    return folder / f"pack-{number:05}.blobs"


def change(path: Path, work: Callable[[bytes], bytes]) -> None:
    path.write_bytes(work(path.read_bytes()))


def flip(path: Path, text: bytes) -> None:
    """Change the last byte of a text in a file."""

    def work(data: bytes) -> bytes:
        place = data.index(text) + len(text) - 1
        return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]

    change(path, work)


def walked(folder: Path) -> dict[str, bytes]:
    return {ref: data for _, ref, data in walk_as_perkeep(folder)}


# -- configuration ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [{}, {"path": 1}, {"maxFileSize": "x"}, {"metaIndex": "x"}, {"more": 1},
     {"metaIndex": {"type": "nonesuch"}}, {"metaIndex": {"type": "leveldb"}}],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(args: dict[str, object], tmp_path: Path) -> None:
    path = {} if "path" in args or not args else {"path": str(tmp_path)}
    with pytest.raises(ConfigError):
        open_storage("diskpacked", path | args, lambda _: Memory())
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    rows = {"type": "leveldb", "file": str(tmp_path / "rows")}
    with pytest.raises(ConfigError, match="nowhere"):
        opened(tmp_path / "nowhere", metaIndex=rows)


@pytest.fixture
def storage(tmp_path: Path) -> object:
    """For the suite: small packs, and SQLite instead of LevelDB."""
    index = {"type": "sqlite", "file": str(tmp_path / "rows.sqlite")}
    with opened(tmp_path, metaIndex=index, maxFileSize=700) as store:
        yield store


class TestSmallPacksWithSQLite(StorageSuite): ...


def test_packs_end_after_the_record_that_passes_the_limit(tmp_path: Path) -> None:
    with opened(tmp_path, maxFileSize=500) as store:
        store.receive_many(sample(100).items())
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("pack-*.blobs"))]
    assert len(sizes) > 10
    assert all(500 < size <= 500 + 68 + 14 for size in sizes[:-1])
    assert walked(tmp_path) == sample(100)


def test_fifty_thousand_blobs_are_read_back_by_others(tmp_path: Path) -> None:
    luck = random.Random(4)
    noise = luck.randbytes(1 << 20)
    sizes = [1 << 20, *(int(10 * luck.paretovariate(0.6)) % 20_000 for _ in range(49_998))]
    blobs = {Ref.of(b""): b""}
    for number, size in enumerate(sizes):
        begin = luck.randrange(1 << 19)
        data = b"%d " % number + noise[begin : begin + size]
        blobs[Ref.of(data)] = data
    assert len(blobs) == 50_000
    with opened(tmp_path, maxFileSize=20 << 20) as store:
        store.receive_many(blobs.items())
        gone = luck.sample(sorted(blobs), 1000)
        store.remove(gone)
    for ref in gone:
        del blobs[ref]
    assert len(list(tmp_path.glob("pack-*.blobs"))) > 1
    assert read_by_index(tmp_path) == blobs
    assert walked(tmp_path) == blobs


# -- opening ------------------------------------------------------------------------------------


def test_rows_that_a_crash_left_unwritten_are_set(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.receive_many(ROWS[:6])
    (tmp_path / "index.leveldb").rename(tmp_path / "old")
    with opened(tmp_path) as store:
        store.receive_many(ROWS[6:])
    (tmp_path / "index.leveldb").rename(tmp_path / "new")
    (tmp_path / "old").rename(tmp_path / "index.leveldb")
    with opened(tmp_path) as store:
        assert {ref: store.fetch(ref) for ref in BLOBS} == BLOBS
        assert store.remarks == ["6 rows were missing"]
    with opened(tmp_path) as store:
        assert store.remarks == []


def test_a_removed_blob_does_not_come_back_with_a_new_index() -> None:
    machine = Machine(1 << 20)
    machine.store.receive_many(ROWS)
    machine.store.remove([FIRST[0]])
    machine.store.close()
    machine.rows.wipe()
    store = machine.open()
    assert [ref for ref, _ in store.enumerate()] == [ref for ref, _ in ROWS[1:]]


@pytest.mark.parametrize("cut", [1, 6, 7, 8, 30, 75])
def test_a_torn_end_is_filled_and_nothing_cut_off(cut: int, tmp_path: Path) -> None:
    torn = header(Ref.of(b"torn"), 1000) + b"t" * 1000
    with opened(tmp_path) as store:
        store.receive_many(ROWS)
    before = pack(tmp_path).read_bytes()
    change(pack(tmp_path), lambda data: data + torn[:cut])
    with opened(tmp_path) as store:
        assert any("unreadable" in remark for remark in store.remarks)
        assert list(store.check()) == []
        store.receive(Ref.of(b"after"), b"after")
    after = pack(tmp_path).read_bytes()
    assert after.startswith(before)
    assert torn[15:cut] in after
    assert walked(tmp_path) == BLOBS | {Ref.of(b"after"): b"after"}


@pytest.mark.parametrize("keeps_index", [True, False])
def test_packs_missing_at_the_end_are_not_written_over(keeps_index: bool, tmp_path: Path) -> None:
    with opened(tmp_path, maxFileSize=200) as store:
        store.receive_many(ROWS)
    numbers = len(list(tmp_path.glob("pack-*.blobs")))
    lost = [Ref(ref) for row, ref, _ in walk_as_perkeep(tmp_path) if int(row.split()[0]) >= 2]
    for number in range(2, numbers):
        pack(tmp_path, number).unlink()
    if not keeps_index:
        (tmp_path / "index.leveldb").rename(tmp_path / "away")
    with opened(tmp_path, maxFileSize=200) as store:
        store.receive_many((Ref.of(b"new %d" % n), b"new %d" % n) for n in range(9))
        for ref in lost:
            with pytest.raises(NotFound):
                store.fetch(ref)
        assert not {ref for ref, _ in store.stat(lost)}
        named = {found.ref for found in store.check()}
        assert named == (set(lost) if keeps_index else set())
        store.receive_many(ROWS)
        assert {ref: store.fetch(ref) for ref in BLOBS} == BLOBS
        assert list(store.check()) == []
    assert walked(tmp_path).items() >= BLOBS.items()


def test_a_pack_that_is_no_file_costs_only_its_own_blobs(tmp_path: Path) -> None:
    with opened(tmp_path, maxFileSize=200) as store:
        store.receive_many(ROWS)
    in_pack = {Ref(ref) for row, ref, _ in walk_as_perkeep(tmp_path) if row.startswith("1 ")}
    for stray in ("link", "folder"):
        pack(tmp_path, 1).rename(tmp_path / "away")
        if stray == "link":
            pack(tmp_path, 1).symlink_to(tmp_path / "unmounted")
        else:
            pack(tmp_path, 1).mkdir()
        with opened(tmp_path, maxFileSize=200) as store:
            assert {ref for ref, _ in store.enumerate()} == BLOBS.keys() - in_pack
            assert {blob.ref for blob in store.stream()} == BLOBS.keys() - in_pack
            assert {found.ref for found in store.check()} == in_pack
        pack(tmp_path, 1).unlink() if stray == "link" else pack(tmp_path, 1).rmdir()
        (tmp_path / "away").rename(pack(tmp_path, 1))
    with opened(tmp_path, maxFileSize=200) as store:
        assert {ref: store.fetch(ref) for ref in BLOBS} == BLOBS


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    for name in ("pack-00001.blobs.bak", "pack-1.blobs", "notes", "pack-00000.blobs.old"):
        (tmp_path / name).write_bytes(b"mine")
    with opened(tmp_path) as store:
        store.receive_many(ROWS)
        store.reindex()
        store.compact(0)
    for name in ("pack-00001.blobs.bak", "pack-1.blobs", "notes", "pack-00000.blobs.old"):
        assert (tmp_path / name).read_bytes() == b"mine"


def test_a_damaged_index_is_set_aside_and_made_anew(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.receive_many(ROWS)
    manifest = next((tmp_path / "index.leveldb").glob("MANIFEST-*"))
    change(manifest, lambda data: b"\xff" * len(data))
    with opened(tmp_path) as store:
        assert {ref: store.fetch(ref) for ref in BLOBS} == BLOBS
        assert any("index.leveldb.damaged-1" in remark for remark in store.remarks)
    assert (tmp_path / "index.leveldb.damaged-1" / manifest.name).exists()


def test_a_damaged_sqlite_index_is_set_aside_and_made_anew(tmp_path: Path) -> None:
    index = {"type": "sqlite", "file": str(tmp_path / "rows.sqlite")}
    with opened(tmp_path, metaIndex=index) as store:
        store.receive_many(ROWS)
    (tmp_path / "rows.sqlite").write_bytes(b"this is no database, but text" * 100)
    with opened(tmp_path, metaIndex=index) as store:
        assert {ref: store.fetch(ref) for ref in BLOBS} == BLOBS
    assert (tmp_path / "rows.sqlite.damaged-1").exists()


@pytest.mark.parametrize(
    "value", [b"", b"x", b"0 x 5", b"x 1 2", b"-1 0 1", b"0 1", b"9999999999 0 1", b"7 0 1"]
)
def test_rows_that_make_no_sense_are_named_and_stop_nothing(value: bytes) -> None:
    machine = Machine(1 << 20)
    machine.store.receive_many(ROWS)
    machine.store.close()
    odd = Ref.of(b"odd")
    machine.rows.set(odd.encode(), value)
    store = machine.open()
    assert {ref: store.fetch(ref) for ref in BLOBS} == BLOBS
    assert [ref for ref, _ in store.enumerate()] == sorted(BLOBS)
    assert [found.ref for found in store.check()] == [odd]
    with pytest.raises(NotFound):
        store.fetch(odd)
    assert [ref for ref, _ in store.stat([odd])] == []
    store.receive(odd, b"odd")
    assert store.fetch(odd) == b"odd"
    assert list(store.check()) == []


def test_a_row_that_leads_to_foreign_bytes_removes_none_of_them() -> None:
    machine = Machine(1 << 20)
    machine.store.receive_many(ROWS)
    wrong = Ref.of(b"wrong")
    machine.rows.set(wrong.encode(), machine.rows.get(FIRST[0].encode()) or b"")
    with pytest.raises(Corrupt):
        machine.store.fetch(wrong)
    machine.store.remove([wrong])
    assert machine.store.fetch(FIRST[0]) == FIRST[1]


# -- damage -------------------------------------------------------------------------------------


def test_a_damaged_blob_is_refused_named_and_healed_by_a_new_record(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.receive_many(ROWS)
        assert store.fetch_range(FIRST[0], 0, 4) == FIRST[1][:4]
        flip(pack(tmp_path), b"]" + FIRST[1])
        for _ in range(2):
            with pytest.raises(Corrupt, match=r"pack-00000.blobs at \d+"):
                store.fetch(FIRST[0])
        assert [found.ref for found in store.check()] == [FIRST[0]]
        assert {blob.ref for blob in store.stream()} == BLOBS.keys() - {FIRST[0]}
        store.write_many([FIRST])
        with pytest.raises(Corrupt):
            store.fetch(FIRST[0])
        store.sync()
        assert store.fetch(FIRST[0]) == FIRST[1]
        assert list(store.check()) == []
    with opened(tmp_path) as store:
        assert store.fetch(FIRST[0]) == FIRST[1]


def test_a_blob_whose_end_lies_in_an_unreadable_stretch_is_named(tmp_path: Path) -> None:
    """Its own header is whole, but the walk can't go on behind it: the next one is gone."""
    with opened(tmp_path) as store:
        store.receive_many(ROWS)
        next_header = header(*SECOND_SIZED)

        def zero(data: bytes) -> bytes:
            end = data.index(next_header) + len(next_header)
            gone = len(next_header) + 5
            return data[: end - gone] + bytes(gone) + data[end:]

        change(pack(tmp_path), zero)
        with pytest.raises(Corrupt):
            store.fetch(FIRST[0])
        assert store.fetch(SECOND[0]) == SECOND[1]  # whose header alone is gone
        assert {found.ref for found in store.check()} == {None, FIRST[0], SECOND[0]}
        store.receive_many([FIRST])
        assert store.fetch(FIRST[0]) == FIRST[1]


def test_a_table_of_the_index_that_is_cut_costs_no_blob(tmp_path: Path) -> None:
    blobs = {Ref.of(data): data for data in (b"%d" % number for number in range(500))}
    with opened(tmp_path) as store:
        store.receive_many(blobs.items())
    with opened(tmp_path):
        pass  # what the log held is a table now
    (table,) = (tmp_path / "index.leveldb").glob("*.ldb")
    os.truncate(table, table.stat().st_size // 2)
    with opened(tmp_path) as store:
        assert dict(store.fetch_many(blobs)) == blobs
        assert list(store.check()) == []
        assert any("index.leveldb.damaged-1" in remark for remark in store.remarks)


def test_reindexing_finds_the_intact_one_of_two_records(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.receive_many(ROWS)
    change(pack(tmp_path), lambda data: data + header(FIRST[0], len(FIRST[1])) + FIRST[1])
    with opened(tmp_path) as store:
        store.receive(Ref.of(b"behind"), b"behind")
        flip(pack(tmp_path), b"]" + FIRST[1])
        with pytest.raises(Corrupt):
            store.fetch(FIRST[0])
        assert store.reindex().rows_set == 1
        assert store.fetch(FIRST[0]) == FIRST[1]
    assert walked(tmp_path) == BLOBS | {Ref.of(b"behind"): b"behind"}


def test_opening_finds_an_intact_record_behind_the_rows(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.receive_many(ROWS)
    change(pack(tmp_path), lambda data: data + header(FIRST[0], len(FIRST[1])) + FIRST[1])
    flip(pack(tmp_path), b"]" + FIRST[1])
    with opened(tmp_path) as store:
        assert store.fetch(FIRST[0]) == FIRST[1]
        assert list(store.check()) == []


def test_reindexing_mends_headers_and_spares_damaged_blobs(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.receive_many(ROWS)
    flip(pack(tmp_path), b"[" + SECOND[0][:6].encode())
    flip(pack(tmp_path), header(*_sized(ROWS[3]))[:40])
    flip(pack(tmp_path), header(*_sized(ROWS[5])))  # its bracket
    flip(pack(tmp_path), ROWS[5][1])  # and its data
    before = pack(tmp_path).read_bytes()
    with opened(tmp_path) as store:
        done = store.reindex()
        assert done.headers_mended == 2
        assert {found.ref for found in done.damaged} == {ROWS[5][0]}
        with pytest.raises(Corrupt):
            store.fetch(ROWS[5][0])
        assert store.reindex()[:4] == (0, 0, 0, 0)
    after = pack(tmp_path).read_bytes()
    assert len(after) == len(before)
    assert ROWS[5][1][:-1] in after
    assert walked(tmp_path) == {ref: data for ref, data in ROWS if ref != ROWS[5][0]}


def _sized(blob: tuple[Ref, bytes]) -> tuple[str, int]:
    return blob[0], len(blob[1])


def test_rows_of_removed_records_go_when_reindexing(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.receive_many(ROWS)
    whole = header(*_sized(FIRST)) + FIRST[1]
    gone = removed_header(*_sized_ref(FIRST)) + bytes(len(FIRST[1]))
    change(pack(tmp_path), lambda data: data.replace(whole, gone))
    with opened(tmp_path) as store:
        with pytest.raises(NotFound, match="removed"):
            store.fetch(FIRST[0])
        assert [found.ref for found in store.check()] == [FIRST[0]]
        assert store.reindex().rows_deleted == 1
        assert list(store.check()) == []
        assert list(store.stat([FIRST[0]])) == []


def _sized_ref(blob: tuple[Ref, bytes]) -> tuple[Ref, int]:
    return blob[0], len(blob[1])


# -- compaction ---------------------------------------------------------------------------------


def test_compaction_gives_the_space_of_removed_blobs_back(tmp_path: Path) -> None:
    blobs = {Ref.of(b"%d" % n * 300): b"%d" % n * 300 for n in range(1000, 1400)}
    with opened(tmp_path, maxFileSize=100_000) as store:
        store.receive_many(blobs.items())
        kept = dict(list(blobs.items())[::8])
        store.remove(ref for ref in blobs if ref not in kept)
        before = sum(path.stat().st_size for path in tmp_path.glob("pack-*"))
        done = store.compact()
        assert done.blobs_moved == len(kept)
        assert done.kept == []
        assert {blob.ref: blob.data for blob in store.stream()} == kept
        assert list(store.check()) == []
    after = sum(path.stat().st_size for path in tmp_path.glob("pack-*"))
    assert after < before / 6
    assert done.bytes_freed == before - after
    assert pack(tmp_path).stat().st_size == 0
    assert walked(tmp_path) == kept
    assert read_by_index(tmp_path) == kept
    with opened(tmp_path, maxFileSize=100_000) as store:
        assert {ref: store.fetch(ref) for ref in kept} == kept
        assert store.compact().emptied == []


def test_packs_with_little_to_give_back_stay(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.receive_many(ROWS)
        store.remove([FIRST[0]])
        before = pack(tmp_path).read_bytes()
        assert store.compact(0.5) == ([], [], 0, 0)
        assert pack(tmp_path).read_bytes() == before


def test_a_damaged_blob_is_never_compacted_away(tmp_path: Path) -> None:
    with opened(tmp_path, maxFileSize=400) as store:
        store.receive_many(ROWS)
        flip(pack(tmp_path), b"]" + FIRST[1])
        damaged = FIRST[1][:-1]
        store.remove([SECOND[0]])
        done = store.compact(0)
        assert str(pack(tmp_path)) in done.kept
        assert damaged in pack(tmp_path).read_bytes()
        with pytest.raises(Corrupt):
            store.fetch(FIRST[0])
        intact = dict(ROWS[2:])
        assert {ref: store.fetch(ref) for ref in intact} == intact
        assert [found.ref for found in store.check()] == [FIRST[0]]
        store.receive(*FIRST)
        assert store.compact(0).kept == []
        assert store.fetch(FIRST[0]) == FIRST[1]
        assert damaged not in pack(tmp_path).read_bytes()


def test_a_record_without_a_row_is_not_compacted_away(tmp_path: Path) -> None:
    machine = Machine(400)
    machine.store.receive_many(ROWS)
    machine.rows.delete(FIRST[0].encode())
    machine.store.compact(0)
    assert machine.store.fetch(FIRST[0]) == FIRST[1]


def test_a_full_disk_stops_a_compaction_and_costs_nothing() -> None:
    for after in range(6):
        machine = Machine(400)
        machine.store.receive_many(ROWS)
        machine.store.remove([FIRST[0], ROWS[6][0]])
        machine.fail("write_at", 28, after)
        try:
            machine.store.compact(0)
        except Unavailable:
            pass
        machine.leave_alone()
        left = {ref: data for ref, data in ROWS if ref not in (FIRST[0], ROWS[6][0])}
        assert {blob.ref: blob.data for blob in machine.store.stream()} == left
        machine.store.compact(0)
        assert {blob.ref: blob.data for blob in machine.store.stream()} == left
        assert list(machine.store.check()) == []
