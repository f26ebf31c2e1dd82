"""What LevelDB adds: locks, Perkeep's directories, damage."""

import fcntl
import os
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import plyvel
import pytest

from peatkeep.errors import Corrupt, ReadOnly, StoreError, Unavailable
from peatkeep.sorted.kv import Batch
from peatkeep.sorted.leveldb import LevelDBKeyValue
from tests.blobserver.unpack import manifest, unpack

OTHER_PROCESS = """
import sys
from pathlib import Path
import plyvel
from peatkeep.errors import Unavailable
from peatkeep.sorted.leveldb import LevelDBKeyValue
folder = Path(sys.argv[1])
try:
    LevelDBKeyValue(folder)
except Unavailable as error:
    print("ours:", error)
try:
    plyvel.DB(str(folder))
except plyvel.IOError as error:
    print("plyvel:", error)
"""


def filled(folder: Path, count: int) -> dict[bytes, bytes]:
    rows = {b"%06d" % n: b"value %d" % n * 5 for n in range(count)}
    with LevelDBKeyValue(folder) as kv:
        batch = Batch()
        for key, value in rows.items():
            batch.set(key, value)
        kv.commit(batch)
    return rows


def test_rows_are_there_after_reopening(tmp_path: Path) -> None:
    rows = filled(tmp_path / "deep" / "below" / "rows", 1000)
    with LevelDBKeyValue(tmp_path / "deep" / "below" / "rows") as kv:
        assert dict(kv.find()) == rows


def test_a_second_opener_in_this_process_is_told_the_file(tmp_path: Path) -> None:
    with LevelDBKeyValue(tmp_path / "rows") as kv:
        for _ in range(2):
            with pytest.raises(Unavailable, match=str(tmp_path / "rows" / "LOCK")):
                LevelDBKeyValue(tmp_path / "rows")
        kv.set(b"still", b"works")
        run = subprocess.run(  # nor did the refused attempt loosen the lock
            [sys.executable, "-c", OTHER_PROCESS, str(tmp_path / "rows")],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert "ours: lock" in run.stdout
        assert "plyvel:" in run.stdout
    with LevelDBKeyValue(tmp_path / "rows") as kv:
        assert kv.get(b"still") == b"works"


def test_perkeeps_lock_is_respected(tmp_path: Path) -> None:
    filled(tmp_path / "rows", 1)
    descriptor = os.open(tmp_path / "rows" / "LOCK", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="LOCK"):
            LevelDBKeyValue(tmp_path / "rows")
    finally:
        os.close(descriptor)
    with LevelDBKeyValue(tmp_path / "rows") as kv:
        assert kv.get(b"000000") is not None


def test_perkeep_would_be_refused_until_closed(tmp_path: Path) -> None:
    kv = LevelDBKeyValue(tmp_path / "rows")
    check = f"import fcntl; fcntl.flock(open({str(tmp_path / 'rows' / 'LOCK')!r}), 6)"
    assert subprocess.run(
        [sys.executable, "-c", check], capture_output=True, check=False
    ).returncode
    kv.close()
    kv.close()
    assert not subprocess.run([sys.executable, "-c", check], check=False).returncode


@pytest.mark.parametrize("damage", ["manifest", "current", "table", "missing table"])
def test_a_damaged_database_is_named(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "rows"
    for _ in range(3):
        filled(folder, 40_000)  # enough for a table beside the log
    files = {
        "manifest": "MANIFEST-*", "current": "CURRENT", "table": "*.ldb", "missing table": "*.ldb",
    }  # fmt: skip
    victims = list(folder.glob(files[damage]))
    assert victims
    for victim in victims:
        if damage == "missing table":
            victim.unlink()
        else:
            data = bytearray(victim.read_bytes())
            for place in range(0, len(data), 20):
                data[place] ^= 0xFF
            victim.write_bytes(data)

    def read() -> None:
        with LevelDBKeyValue(folder) as kv:
            list(kv.find())

    with pytest.raises(Corrupt, match=str(folder)):
        read()


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
def test_a_cut_table_is_named_and_no_row_is_missing_unnoticed(tmp_path: Path, left: float) -> None:
    folder = tmp_path / "rows"
    for _ in range(3):
        rows = filled(folder, 40_000)
    for table in folder.glob("*.ldb"):
        os.truncate(table, int(table.stat().st_size * left))
    for _ in range(2):  # LevelDB does not mend it: opening it again changes nothing
        with pytest.raises(Corrupt, match=str(folder)), LevelDBKeyValue(folder) as kv:
            assert dict(kv.find()) == rows


def test_a_failed_opening_gives_the_lock_back(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    filled(folder, 10)
    shutil.copytree(folder, tmp_path / "good")
    (folder / "CURRENT").write_bytes(b"nonsense")
    for _ in range(2):
        with pytest.raises(StoreError):
            LevelDBKeyValue(folder)
    shutil.copy(tmp_path / "good" / "CURRENT", folder)
    with LevelDBKeyValue(folder) as kv:
        assert len(list(kv.find())) == 10


def test_a_closed_store_answers_with_an_error(tmp_path: Path) -> None:
    kv = LevelDBKeyValue(tmp_path / "rows")
    kv.close()
    for work in (lambda: kv.get(b"a"), lambda: list(kv.find()), lambda: kv.set(b"a", b"b")):
        with pytest.raises(Unavailable):
            work()


def test_closing_ends_open_finds(tmp_path: Path) -> None:
    filled(tmp_path / "rows", 1000)
    kv = LevelDBKeyValue(tmp_path / "rows")
    rows = kv.find()
    next(rows)
    kv.close()
    with pytest.raises(Unavailable):
        list(rows)


def test_a_killed_process_loses_no_durable_row(tmp_path: Path) -> None:
    writer = """
import os, sys
from pathlib import Path
from peatkeep.sorted.leveldb import LevelDBKeyValue
kv = LevelDBKeyValue(Path(sys.argv[1]))
for number in range(10**6):
    kv.set(b"%08d" % number, b"v")
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", writer, str(tmp_path / "rows")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = -1
    for line in process.stdout:
        if line.endswith("\n"):
            acknowledged = int(line)
        if acknowledged == 200:
            process.kill()
    process.wait(60)
    process.stdout.close()
    assert acknowledged >= 200
    with LevelDBKeyValue(tmp_path / "rows") as kv:
        keys = [key for key, _ in kv.find()]
    assert keys[: acknowledged + 1] == [b"%08d" % number for number in range(acknowledged + 1)]


PERKEEPS = {
    "var/perkeep/index.leveldb": "index_rows",
    "var/perkeep/blobs/thumbmeta.leveldb": "thumbmeta_rows",
    "var/perkeep/blobs/sync-to-index-queue.leveldb": "sync_queue_rows",
}


@pytest.mark.vectors("storage")
@pytest.mark.parametrize("path", sorted(PERKEEPS))
def test_perkeeps_own_database_opens_and_holds_its_rows(tmp_path: Path, path: str) -> None:
    rows = manifest("perkeepd-default-leveldb")[PERKEEPS[path]]
    folder = unpack("perkeepd-default-leveldb", tmp_path) / path
    expected = sorted((key.encode(), value.encode()) for key, value in rows.items())
    for _ in range(2):  # the second time, after our own writes to it
        with LevelDBKeyValue(folder) as kv:
            assert list(kv.find()) == expected
            assert kv.get_many(key for key, _ in expected) == dict(expected)
            kv.set(b"~ours", b"1")
            kv.delete(b"~ours")


@pytest.mark.vectors("storage")
@pytest.mark.parametrize("name", ["diskpacked", "encrypt", "blobpacked"])
def test_other_databases_of_perkeep_open(tmp_path: Path, name: str) -> None:
    folder = unpack(name, tmp_path)
    databases = [path.parent for path in folder.rglob("CURRENT")]
    assert databases
    rows = manifest(name).get("index_rows")
    for database in databases:
        with LevelDBKeyValue(database) as kv:
            found = {key.decode(): value.decode() for key, value in kv.find()}
        assert found
        if isinstance(rows, dict):
            assert found == rows
        elif rows is not None:  # some manifests give only the number
            assert len(found) == rows


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """As a full disk: a write takes what there is room for, and fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def log_size(folder: Path) -> int:
    return max(path.stat().st_size for path in folder.glob("*.log"))


def test_what_is_committed_after_a_write_that_failed_half_way_is_there_after_reopening(
    tmp_path: Path,
) -> None:
    rows = filled(tmp_path / "rows", 100)
    with LevelDBKeyValue(tmp_path / "rows") as kv:
        kv.set(b"before", b"1")
        with no_file_longer_than(log_size(tmp_path / "rows") + 5000):
            with pytest.raises(Unavailable):
                kv.set(b"torn", b"x" * 50_000)
            assert kv.get(b"before") == b"1"
        for n in range(100):
            kv.set(b"later %d" % n, b"y" * 1000)
            rows[b"later %d" % n] = b"y" * 1000
    with LevelDBKeyValue(tmp_path / "rows") as kv:
        assert dict(kv.find()) == {**rows, b"before": b"1"}


def test_a_find_that_is_under_way_when_leveldb_is_opened_anew_ends_with_unavailable(
    tmp_path: Path,
) -> None:
    rows = filled(tmp_path / "rows", 2000)
    with LevelDBKeyValue(tmp_path / "rows") as kv:
        kv.set(b"", b"")
        finding = kv.find(b"0")
        assert next(finding)[0] == b"000000"
        with no_file_longer_than(log_size(tmp_path / "rows") + 10), pytest.raises(Unavailable):
            kv.set(b"torn", b"x" * 5000)
        kv.delete(b"")
        with pytest.raises(Unavailable):
            list(finding)
        assert dict(kv.find()) == rows


def test_readers_do_not_notice_that_leveldb_is_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "rows", 100)
    wrong: list[object] = []
    is_done = threading.Event()

    def read(kv: LevelDBKeyValue) -> None:
        try:
            while not is_done.is_set():
                if kv.get(b"000042") is None:
                    wrong.append("it is gone")
        except StoreError as error:
            wrong.append(error)

    with LevelDBKeyValue(tmp_path / "rows") as kv:
        threads = [threading.Thread(target=read, args=(kv,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for n in range(10):
                limit = no_file_longer_than(log_size(tmp_path / "rows") + 1)
                # The limit holds for readers, too, who would open it now.
                monkeypatch.setattr(kv, "_has_room", lambda: False)
                with limit, pytest.raises(Unavailable):
                    kv.set(b"torn", b"x" * 5000)
                monkeypatch.undo()
                kv.set(b"more", b"%d" % n)
        finally:
            is_done.set()
            for thread in threads:
                thread.join()
    assert wrong == []


def test_after_a_failure_that_may_be_one_of_a_sync_it_is_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        """LevelDB on a disk that can't write any more."""

        def write_batch(self, **_: object) -> "Broken":
            raise plyvel.IOError(b"IO error: 000003.log: Input/output error")

        def close(self) -> None: ...

    with LevelDBKeyValue(tmp_path / "rows") as kv:
        kv.set(b"a", b"1")
    monkeypatch.setattr(plyvel, "DB", lambda *_, **__: Broken())
    with LevelDBKeyValue(tmp_path / "rows") as kv:
        for _ in range(2):
            with pytest.raises(ReadOnly):
                kv.set(b"b", b"2")


def test_after_closing_everything_is_unavailable(tmp_path: Path) -> None:
    kv = LevelDBKeyValue(tmp_path / "rows")
    finding = kv.find()
    kv.close()
    kv.close()
    with pytest.raises(Unavailable):
        kv.get(b"a")
    with pytest.raises(Unavailable):
        kv.set(b"a", b"1")
    with pytest.raises(Unavailable):
        list(finding)
