"""What LMDB adds: several openers, keys of every length, damage, failed syncs."""

import errno
import subprocess
import sys
import threading
from pathlib import Path

import lmdb
import pytest

from peatkeep.errors import Corrupt, ReadOnly, Unavailable, Unsupported
from peatkeep.sorted.kv import MAX_KEY_SIZE, Batch
from peatkeep.sorted.lmdb import LMDBKeyValue


def test_rows_are_there_after_reopening(tmp_path: Path) -> None:
    rows = {b"%06d" % n: b"value %d" % n * 5 for n in range(1000)}
    batch = Batch()
    for key, value in rows.items():
        batch.set(key, value)
    with LMDBKeyValue(tmp_path / "deep" / "below") as kv:
        kv.commit(batch)
    with LMDBKeyValue(tmp_path / "deep" / "below") as kv:
        assert dict(kv.find()) == rows


@pytest.mark.parametrize("size", [0, 1, 510, 511, 512, MAX_KEY_SIZE])
def test_a_key_of_every_allowed_length_is_found(tmp_path: Path, size: int) -> None:
    with LMDBKeyValue(tmp_path) as kv:
        kv.set(b"k" * size, b"here")
        kv.set(b"l", b"after")
        assert kv.get(b"k" * size) == b"here"
        assert list(kv.find()) == [(b"k" * size, b"here"), (b"l", b"after")]
        assert list(kv.find(b"k" * size, b"l")) == [(b"k" * size, b"here")][: bool(size) or 1]
        kv.delete(b"k" * size)
        assert list(kv.find()) == [(b"l", b"after")]


def test_asking_for_longer_keys_finds_what_lies_behind_them(tmp_path: Path) -> None:
    too_long = b"k" * 5000
    with LMDBKeyValue(tmp_path) as kv:
        for key in (b"j", b"k" * MAX_KEY_SIZE, b"l"):
            kv.set(key, b"")
        assert kv.get(too_long) is None
        assert [key for key, _ in kv.find(too_long)] == [b"l"]
        assert [key for key, _ in kv.find(b"", too_long)] == [b"j", b"k" * MAX_KEY_SIZE]
        kv.delete(too_long)


def test_another_process_reads_and_writes_meanwhile(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from peatkeep.sorted.lmdb import LMDBKeyValue
with LMDBKeyValue(Path(sys.argv[1])) as kv:
    print(kv.get(b"a"))
    kv.set(b"b", b"theirs")
"""
    with LMDBKeyValue(tmp_path) as kv:
        kv.set(b"a", b"ours")
        run = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert run.stdout == "b'ours'\n"
        assert kv.get(b"b") == b"theirs"


def test_a_second_opener_in_this_process_is_told_the_folder(tmp_path: Path) -> None:
    with LMDBKeyValue(tmp_path), pytest.raises(Unavailable, match=str(tmp_path)):
        LMDBKeyValue(tmp_path)


@pytest.mark.parametrize("content", [b"nonsense" * 4000, b"short"])
def test_a_file_that_is_no_database_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.mdb").write_bytes(content)
    with pytest.raises(Corrupt, match=str(tmp_path)):
        LMDBKeyValue(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes() == content


def test_a_file_cut_short_is_damaged(tmp_path: Path) -> None:
    batch = Batch()
    for number in range(20_000):
        batch.set(b"%06d" % number, b"v" * 50)
    with LMDBKeyValue(tmp_path) as kv:
        kv.commit(batch)
    file = tmp_path / "data.mdb"
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)
    with pytest.raises(Corrupt, match=str(tmp_path)):
        LMDBKeyValue(tmp_path)


def test_a_database_of_an_older_format_is_refused_untouched(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), lib_version=0) as old, old.begin(write=True) as transaction:
        transaction.put(b"a", b"1")
    before = (tmp_path / "data.mdb").read_bytes()
    with pytest.raises(Unsupported, match=str(tmp_path)):
        LMDBKeyValue(tmp_path)
    assert (tmp_path / "data.mdb").read_bytes() == before


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="file"):
        LMDBKeyValue(tmp_path / "file" / "rows")


def test_little_address_space_is_enough_for_a_smaller_map(tmp_path: Path) -> None:
    program = """
import resource, sys
from pathlib import Path
from peatkeep.sorted.lmdb import LMDBKeyValue
resource.setrlimit(resource.RLIMIT_AS, (1 << 34, 1 << 34))
with LMDBKeyValue(Path(sys.argv[1])) as kv:
    kv.set(b"a", b"1")
    print(kv.get(b"a"))
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert run.stdout == "b'1'\n"


def test_after_a_failed_sync_the_store_is_read_only(tmp_path: Path) -> None:
    class FailingEnvironment:
        """An environment whose syncs fail as LMDB's do when fdatasync fails."""

        def __init__(self, env: lmdb.Environment) -> None:
            self.env = env

        def __getattr__(self, name: str) -> object:
            return getattr(self.env, name)

        def sync(self, force: bool) -> None:
            error = lmdb.Error("mdb_env_sync")
            error.code = errno.EIO  # type: ignore[misc]
            raise error

    with LMDBKeyValue(tmp_path) as kv:
        kv.set(b"a", b"1")
        plain = kv._env
        kv._env = FailingEnvironment(plain)  # type: ignore[assignment]
        with pytest.raises(Unavailable):
            kv.set(b"b", b"2")
        kv._env = plain
        for _ in range(2):
            with pytest.raises(ReadOnly, match="restart"):
                kv.set(b"c", b"3")
        assert kv.get(b"a") == b"1"


def test_a_closed_store_answers_with_an_error(tmp_path: Path) -> None:
    kv = LMDBKeyValue(tmp_path)
    kv.set(b"a", b"1")
    kv.set(b"b", b"1")
    rows = kv.find()
    next(rows)
    kv.close()
    kv.close()
    for work in (
        lambda: kv.get(b"a"),
        lambda: list(kv.find()),
        lambda: kv.set(b"a", b"b"),
        lambda: next(rows),
    ):
        with pytest.raises(Unavailable):
            work()


def test_a_killed_process_loses_no_row(tmp_path: Path) -> None:
    writer = """
import sys
from pathlib import Path
from peatkeep.sorted.kv import Batch
from peatkeep.sorted.lmdb import LMDBKeyValue
kv = LMDBKeyValue(Path(sys.argv[1]))
for number in range(10**6):
    batch = Batch()
    batch.set(b"%08d" % number, b"v")
    kv.commit(batch, durable=number % 2 == 0)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", writer, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    acknowledged = -1
    killer = threading.Timer(1.0, process.kill)
    killer.start()
    for line in process.stdout:
        if line.endswith("\n"):
            acknowledged = int(line)
    process.wait(60)
    process.stdout.close()
    killer.cancel()
    with LMDBKeyValue(tmp_path) as kv:
        keys = [key for key, _ in kv.find()]
    assert keys[: acknowledged + 1] == [b"%08d" % number for number in range(acknowledged + 1)]
