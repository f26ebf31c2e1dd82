"""What SQLite adds: Perkeep's files, other openers, damage."""

import sqlite3
import threading
from pathlib import Path

import pytest

from peatkeep.errors import Corrupt, ReadOnly, Unavailable, Unsupported
from peatkeep.sorted.kv import Batch
from peatkeep.sorted.sqlite import SQLiteKeyValue
from tests.blobserver.unpack import manifest, unpack

PERKEEPS = {
    "var/perkeep/index.sqlite": "index_rows",
    "var/perkeep/blobs/thumbmeta.sqlite": "thumbmeta_rows",
    "var/perkeep/blobs/sync-to-index-queue.sqlite": "sync_queue_rows",
}


@pytest.mark.vectors("storage")
@pytest.mark.parametrize("path", sorted(PERKEEPS))
def test_perkeeps_own_database_opens_and_holds_its_rows(tmp_path: Path, path: str) -> None:
    rows = manifest("perkeepd-default-sqlite")[PERKEEPS[path]]
    file = unpack("perkeepd-default-sqlite", tmp_path) / path
    expected = sorted((key.encode(), value.encode()) for key, value in rows.items())
    for _ in range(2):
        with SQLiteKeyValue(file) as kv:
            assert list(kv.find()) == expected
            assert kv.get_many(key for key, _ in expected) == dict(expected)
            kv.set(b"~ours", b"1")
            kv.delete(b"~ours")


@pytest.mark.vectors("storage")
def test_an_index_of_packs_opens(tmp_path: Path) -> None:
    folder = unpack("diskpacked-sqlite", tmp_path)
    (file,) = folder.rglob("*.sqlite")
    with SQLiteKeyValue(file) as kv:
        found = {key.decode(): value.decode() for key, value in kv.find()}
    assert found == manifest("diskpacked-sqlite")["index_rows"]


def test_tables_and_types_are_perkeeps(tmp_path: Path) -> None:
    with SQLiteKeyValue(tmp_path / "new" / "rows.sqlite") as kv:
        kv.set("schlüssel".encode(), b"007")
    with sqlite3.connect(tmp_path / "new" / "rows.sqlite") as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert other.execute("SELECT * FROM meta").fetchall() == [("version", "1")]
        assert other.execute("SELECT k, v, typeof(k), typeof(v) FROM rows").fetchall() == [
            ("schlüssel", "007", "text", "text")
        ]
        assert other.execute("SELECT v FROM rows WHERE k = 'schlüssel'").fetchall() == [("007",)]
        columns = {row[1]: row[2] for row in other.execute("PRAGMA table_info(rows)")}
        assert columns == {"k": "VARCHAR(767)", "v": "VARCHAR(63000)"}
    other.close()


def test_an_empty_file_is_a_new_database(tmp_path: Path) -> None:
    (tmp_path / "rows.sqlite").touch()
    with SQLiteKeyValue(tmp_path / "rows.sqlite") as kv:
        kv.set(b"a", b"1")
    with SQLiteKeyValue(tmp_path / "rows.sqlite") as kv:
        assert list(kv.find()) == [(b"a", b"1")]


@pytest.mark.parametrize("durable", [True, False])
def test_a_commit_is_synced_as_asked(tmp_path: Path, durable: bool) -> None:
    with SQLiteKeyValue(tmp_path / "rows.sqlite") as kv:
        batch = Batch()
        batch.set(b"a", b"1")
        kv.commit(batch, durable=durable)
        assert kv._writer.execute("PRAGMA synchronous").fetchone() == (2 if durable else 1,)


def test_another_program_may_read_and_write_meanwhile(tmp_path: Path) -> None:
    with SQLiteKeyValue(tmp_path / "rows.sqlite") as kv:
        kv.set(b"a", b"1")
        rows = kv.find()
        next(rows)
        with SQLiteKeyValue(tmp_path / "rows.sqlite") as other:
            other.set(b"b", b"2")
        assert list(rows) == []
        assert kv.get(b"b") == b"2"


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.sqlite"
    file.write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(Corrupt, match=str(file)):
        SQLiteKeyValue(file)


def test_a_damaged_page_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "rows.sqlite"
    with SQLiteKeyValue(file) as kv:
        batch = Batch()
        for number in range(5000):
            batch.set(b"%06d" % number, b"v" * 50)
        kv.commit(batch)
    data = bytearray(file.read_bytes())
    data[8192:] = b"\xa5" * (len(data) - 8192)
    file.write_bytes(data)

    def read() -> None:
        with SQLiteKeyValue(file) as kv:
            list(kv.find())

    with pytest.raises(Corrupt, match=str(file)):
        read()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.sqlite"
    SQLiteKeyValue(file).close()
    with sqlite3.connect(file) as other:
        other.execute("UPDATE meta SET value = '2'")
    other.close()
    with pytest.raises(Unsupported, match="version is 2"):
        SQLiteKeyValue(file)


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"rows\.sqlite"):
        SQLiteKeyValue(tmp_path / "file" / "rows.sqlite")


def test_after_a_failed_sync_the_store_is_read_only(tmp_path: Path) -> None:
    class FailingConnection:
        """A connection whose commits fail as SQLite's do when fsync fails."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self.connection = connection

        def __getattr__(self, name: str) -> object:
            return getattr(self.connection, name)

        def execute(self, statement: str, parameters: tuple[bytes, ...] = ()) -> object:
            if statement == "COMMIT":
                error = sqlite3.OperationalError("disk I/O error")
                error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
                raise error
            return self.connection.execute(statement, parameters)

    with SQLiteKeyValue(tmp_path / "rows.sqlite") as kv:
        kv.set(b"a", b"1")
        plain = kv._writer
        kv._writer = FailingConnection(plain)  # type: ignore[assignment]
        with pytest.raises(Unavailable):
            kv.set(b"b", b"2")
        kv._writer = plain
        for _ in range(2):
            with pytest.raises(ReadOnly, match="restart"):
                kv.set(b"c", b"3")
        assert list(kv.find()) == [(b"a", b"1")]


def test_a_closed_store_answers_with_an_error(tmp_path: Path) -> None:
    kv = SQLiteKeyValue(tmp_path / "rows.sqlite")
    kv.close()
    kv.close()
    for work in (lambda: kv.get(b"a"), lambda: list(kv.find()), lambda: kv.set(b"a", b"b")):
        with pytest.raises(Unavailable):
            work()


def test_a_find_may_be_ended_by_another_thread(tmp_path: Path) -> None:
    with SQLiteKeyValue(tmp_path / "rows.sqlite") as kv:
        batch = Batch()
        for number in range(2000):
            batch.set(b"%06d" % number, b"v")
        kv.commit(batch)
        rows = kv.find()
        next(rows)
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(len(list(rows))))
        thread.start()
        thread.join(60)
        assert seen == [1999]


@pytest.mark.parametrize("value", ["NULL", "x'00'"])
def test_values_that_are_no_text_are_reported_by_verifying(tmp_path: Path, value: str) -> None:
    file = many_rows(tmp_path)
    with sqlite3.connect(file) as connection:
        connection.execute(f"UPDATE rows SET v = {value} WHERE k = '000700'")
    connection.close()
    with SQLiteKeyValue(file) as kv, pytest.raises(Corrupt, match="no text"):
        kv.verify()


@pytest.mark.parametrize("number", [0, 1, 499, 500, 501, 998])
def test_keys_out_of_order_are_reported_by_verifying(tmp_path: Path, number: int) -> None:
    file = many_rows(tmp_path)
    file.write_bytes(file.read_bytes().replace(b"%06d" % number, b"~%05d" % number))
    with SQLiteKeyValue(file) as kv, pytest.raises(Corrupt, match="out of order"):
        kv.verify()


def test_sound_rows_are_verified(tmp_path: Path) -> None:
    with SQLiteKeyValue(many_rows(tmp_path)) as kv:
        kv.verify()


def many_rows(folder: Path) -> Path:
    file = folder / "rows.sqlite"
    with SQLiteKeyValue(file) as kv:
        batch = Batch()
        for number in range(1000):
            batch.set(b"%06d" % number, b"v")
        kv.commit(batch)
    return file
