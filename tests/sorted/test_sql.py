"""What the SQL stores add: Perkeep's databases, lost connections, other writers, refusals."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from peatkeep.errors import (
    ConfigError,
    Corrupt,
    Forbidden,
    ReadOnly,
    StoreError,
    Unavailable,
    Unsupported,
)
from peatkeep.sorted import migrations
from peatkeep.sorted import sql as module
from peatkeep.sorted.kv import Batch, KeyValue
from peatkeep.sorted.registry import open_kv
from peatkeep.sorted.sqlite import SQLiteKeyValue
from tests.blobserver.unpack import manifest, unpack
from tests.sorted.postgres import GROUP, PASSWORD, USER, Database, Postgres

TEXTS = [b"a", b"B", b"b", b"A", "é".encode(), b"z", b"~", b"a|b", b"a b", "\U0001f600".encode()]

PERKEEPS_TABLES = """
    CREATE TABLE rows (k VARCHAR(767) NOT NULL PRIMARY KEY, v VARCHAR(63000));
    CREATE TABLE meta (metakey VARCHAR(255) NOT NULL PRIMARY KEY, value VARCHAR(255) NOT NULL);
    INSERT INTO meta VALUES ('version', '2');
    INSERT INTO rows VALUES ('a', '1'), ('B', '2'), ('b', '3'), ('a|b', '4'), ('é', '5');
"""


def filled(kv: KeyValue, count: int) -> None:
    batch = Batch()
    for number in range(count):
        batch.set(b"%06d" % number, b"v")
    kv.commit(batch)


@pytest.fixture
def kv(postgres: Database) -> Iterator[KeyValue]:
    with open_kv(postgres.args) as store:
        yield store


def test_the_newest_step_is_the_one_that_the_store_asks_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    assert ScriptDirectory.from_config(config).get_heads() == [migrations.NEWEST]


# -- PostgreSQL ------------------------------------------------------------------------------------


@GROUP
def test_rows_are_there_after_reopening(postgres: Database) -> None:
    with open_kv(postgres.args) as kv:
        filled(kv, 1200)
    for _ in range(2):
        with open_kv(postgres.args) as kv:
            assert [key for key, _ in kv.find()] == [b"%06d" % number for number in range(1200)]


@GROUP
def test_a_database_of_perkeep_is_opened_in_place(postgres_server: Postgres) -> None:
    database = postgres_server.new_database(
        "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'"  # where a < B and é < z
    )
    database.sql(PERKEEPS_TABLES)
    assert database.sql("SELECT k FROM rows ORDER BY k") == ["a", "a|b", "b", "B", "é"]
    for _ in range(2):
        with open_kv(database.args) as kv:
            rows = [(b"B", b"2"), (b"a", b"1"), (b"a|b", b"4"), (b"b", b"3"), ("é".encode(), b"5")]
            assert list(kv.find()) == rows
            assert list(kv.prefixed(b"a")) == rows[1:3]
            kv.set(b"~ours", b"1")
            kv.delete(b"~ours")
    assert database.sql("SELECT k FROM rows ORDER BY k") == ["B", "a", "a|b", "b", "é"]
    assert database.sql("SELECT * FROM meta") == ["version|2"]
    plan = database.sql("SET enable_seqscan = off; EXPLAIN SELECT k FROM rows WHERE k >= 'a'")
    assert "Index" in plan[0]


@GROUP
def test_a_database_of_ours_has_what_perkeep_uses(postgres: Database, kv: KeyValue) -> None:
    kv.set(b"a", b"1")
    postgres.sql("SELECT replaceinto('a', '2'); SELECT replaceinto('b', '3')")
    assert list(kv.find()) == [(b"a", b"2"), (b"b", b"3")]
    postgres.sql("SELECT replaceintometa('version', '2')")
    assert postgres.sql("SELECT * FROM meta") == ["version|2"]


@GROUP
def test_functions_that_are_there_are_left_alone(postgres: Database) -> None:
    body = "CREATE FUNCTION replaceinto(key TEXT, value TEXT) RETURNS VOID LANGUAGE sql AS ''"
    postgres.sql(f"{PERKEEPS_TABLES} {body}")
    open_kv(postgres.args).close()
    assert postgres.sql("SELECT prosrc = '' FROM pg_proc WHERE proname = 'replaceinto'") == ["t"]


@GROUP
def test_order_is_that_of_bytes_in_a_database_of_any_locale(postgres_server: Postgres) -> None:
    database = postgres_server.new_database(
        "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de'"
    )
    with open_kv(database.args) as kv:
        for text in TEXTS:
            kv.set(text, b"")
        assert [key for key, _ in kv.find()] == sorted(TEXTS)


@GROUP
def test_a_missing_database_is_made(postgres_server: Postgres) -> None:
    database = Database(postgres_server, 'new "one" %s')
    for _ in range(2):
        with open_kv(database.args) as kv:
            kv.set(b"a", b"1")
    found = database.sql("SELECT datcollate FROM pg_database WHERE datname = current_database()")
    assert found == ["C"]


@GROUP
def test_who_may_not_make_a_database_is_told(postgres_server: Postgres) -> None:
    postgres_server.sql("postgres", "CREATE USER modest PASSWORD 'm'")
    args = Database(postgres_server, "nosuch").args | {"user": "modest", "password": "m"}
    with pytest.raises(Forbidden, match=r"nosuch.*permission denied to create database"):
        open_kv(args)


@GROUP
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "wrong"}, "password authentication failed"),
        ({"password": ""}, "no password"),
        ({"user": "nobody"}, "password authentication failed"),
        ({"host": "127.0.0.1:1"}, "refused"),
        ({"sslmode": "verify-full"}, "root certificate"),
        ({"host": "no.such.host.invalid"}, "no.such.host.invalid"),
    ],
)
def test_a_server_that_does_not_let_us_in_is_named_with_its_reason(
    postgres: Database, change: dict[str, str], words: str
) -> None:
    with pytest.raises(Unavailable, match=words) as caught:
        open_kv(postgres.args | change)
    assert postgres.name in str(caught.value)
    assert PASSWORD not in str(caught.value)


@GROUP
@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (PERKEEPS_TABLES + "UPDATE meta SET value = '3'", "version is 3, not 2"),
        (PERKEEPS_TABLES + "DELETE FROM meta", "version is none, not 2"),
        ("CREATE TABLE rows (song TEXT)", "of another program"),
        (
            PERKEEPS_TABLES + "CREATE TABLE alembic_version (version_num TEXT);"
            " INSERT INTO alembic_version VALUES ('99')",
            "newer version",
        ),
    ],
)
def test_tables_of_another_version_or_program_are_refused_untouched(
    postgres: Database, statements: str, words: str
) -> None:
    postgres.sql(statements)
    tables = "SELECT table_name, column_name FROM information_schema.columns ORDER BY 1, 2"
    before = postgres.sql(tables)
    with pytest.raises(Unsupported, match=words):
        open_kv(postgres.args)
    assert postgres.sql(tables) == before


@GROUP
def test_a_database_that_is_not_utf8_is_refused(postgres_server: Postgres) -> None:
    database = postgres_server.new_database(
        "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    with pytest.raises(Unsupported, match="LATIN1"):
        open_kv(database.args)


@GROUP
def test_several_may_open_a_new_database_at_once(postgres: Database) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with open_kv(postgres.args) as kv:
                kv.set(b"%d" % number, b"1")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(postgres.sql("SELECT k FROM rows")) == 6


@GROUP
@pytest.mark.parametrize("server_default", ["on", "off", "remote_apply"])
def test_a_commit_is_acknowledged_as_durably_as_asked(
    postgres: Database, server_default: str
) -> None:
    postgres.sql(f"ALTER DATABASE {postgres.name} SET synchronous_commit = {server_default}")
    open_kv(postgres.args).close()
    postgres.sql("""
        CREATE TABLE seen (setting TEXT);
        CREATE FUNCTION note() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW;
        END $$;
        CREATE TRIGGER note AFTER INSERT ON rows EXECUTE FUNCTION note();
    """)
    batch = Batch()
    batch.set(b"a", b"1")
    with open_kv(postgres.args) as kv:
        for durable in (True, False, True):
            kv.commit(batch, durable=durable)
    strict = "remote_apply" if server_default == "remote_apply" else "on"
    assert postgres.sql("SELECT setting FROM seen") == [strict, "off", strict]


@GROUP
def test_after_the_server_was_restarted_the_next_calls_connect_anew(
    postgres_server: Postgres, kv: KeyValue
) -> None:
    filled(kv, 2000)
    rows = kv.find()
    next(rows)
    postgres_server.stop()
    for work in (
        lambda: list(rows),
        lambda: kv.get(b"000001"),
        lambda: kv.set(b"x", b"1"),
        lambda: list(kv.find()),
    ):
        with pytest.raises(Unavailable):
            work()
    postgres_server.start()
    assert kv.get(b"000001") == b"v"
    kv.set(b"x", b"1")
    postgres_server.stop()
    postgres_server.start()
    kv.set(b"y", b"1")  # although every connection is stale
    assert len(list(kv.find())) == 2002


@GROUP
def test_transactions_that_wait_for_each_other_are_tried_again(
    postgres: Database, kv: KeyValue
) -> None:
    kv.set(b"a", b"0")
    kv.set(b"b", b"0")
    # Takes b when somebody else holds a, and then waits for a: a deadlock with our batch.
    other = """
        BEGIN; UPDATE rows SET v = 'theirs' WHERE k = 'b';
        DO $$ BEGIN
            WHILE NOT EXISTS (SELECT FROM pg_locks WHERE NOT granted) LOOP
                PERFORM pg_sleep(0.01);
            END LOOP;
        END $$;
        UPDATE rows SET v = 'theirs' WHERE k = 'a'; COMMIT;
    """
    batch = Batch()
    batch.set(b"a", b"ours")
    batch.set(b"b", b"ours")
    failures: list[BaseException] = []

    def run_other() -> None:
        try:
            postgres.sql(f"SET deadlock_timeout = '10s'; {other}")  # so that ours is the victim
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run_other)
    thread.start()
    while postgres.sql("SELECT 1 FROM pg_locks WHERE mode = 'RowExclusiveLock'") == []:
        assert thread.is_alive()
    kv.commit(batch)
    thread.join(60)
    assert failures == []
    assert {value for _, value in kv.find()} == {b"ours"}


@GROUP
def test_a_server_in_recovery_is_read_only(postgres: Database) -> None:
    open_kv(postgres.args).close()
    postgres.sql(f"ALTER DATABASE {postgres.name} SET default_transaction_read_only = on")
    with open_kv(postgres.args) as kv:
        assert kv.get(b"a") is None
        with pytest.raises(ReadOnly, match=postgres.name):
            kv.set(b"a", b"1")


@GROUP
def test_too_many_finds_at_once_are_told_so(kv: KeyValue, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(kv, 1000)
    monkeypatch.setattr(kv._engine.pool, "_timeout", 0.01)  # type: ignore[attr-defined]
    finds = [kv.find() for _ in range(module._CONNECTIONS)]
    for rows in finds:
        next(rows)
    with pytest.raises(Unavailable, match="limit"):
        kv.get(b"a")
    for rows in finds:
        rows.close()  # type: ignore[attr-defined]
    assert kv.get(b"000001") == b"v"


@GROUP
def test_closing_gives_the_connections_back(postgres: Database) -> None:
    kv = open_kv(postgres.args)
    filled(kv, 2000)
    rows = kv.find()
    next(rows)
    kv.close()
    kv.close()
    assert len(list(rows)) == 1999
    for work in (lambda: kv.get(b"a"), lambda: list(kv.find()), lambda: kv.set(b"a", b"b")):
        with pytest.raises(Unavailable):
            work()
    others = "SELECT 1 FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname"
    while postgres.sql(f"{others} = current_database()"):  # the server notices in a moment
        pass


@GROUP
def test_a_killed_process_loses_no_durable_row(postgres: Database) -> None:
    program = """
import sys
from peatkeep.sorted.registry import open_kv
kv = open_kv(eval(sys.stdin.readline()))
for number in range(10**6):
    kv.set(b"%08d" % number, b"v")
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{postgres.args!r}\n")
    process.stdin.close()
    acknowledged = -1
    for line in process.stdout:
        if line.endswith("\n"):
            acknowledged = int(line)
        if acknowledged == 100:
            process.kill()
    process.wait(60)
    process.stdout.close()
    with open_kv(postgres.args) as kv:
        keys = [key for key, _ in kv.find()]
    assert keys[: acknowledged + 1] == [b"%08d" % number for number in range(acknowledged + 1)]


@GROUP
def test_a_url_opens_the_same_rows(postgres: Database, kv: KeyValue) -> None:
    kv.set(b"a", b"1")
    password = PASSWORD.replace("%", "%25").replace(" ", "%20")
    place = f"127.0.0.1:{postgres.server.port}/{postgres.name}?sslmode=disable"
    for scheme in ("postgresql", "postgresql+psycopg"):
        with open_kv({"type": "sql", "url": f"{scheme}://{USER}:{password}@{place}"}) as other:
            assert list(other.find()) == [(b"a", b"1")]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("db", ("db", None)),
        ("db:5433", ("db", 5433)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("::1", ("::1", None)),
        ("[::1]", ("::1", None)),
        ("[::1]:5", ("::1", 5)),
        ("/run/postgresql", ("/run/postgresql", None)),
    ],
)
def test_a_host_may_have_a_port(host: str, expected: tuple[str, int | None]) -> None:
    assert module._host_and_port(host) == expected


# -- SQLite ----------------------------------------------------------------------------------------


def test_sqlite_files_are_the_same_as_those_of_the_other_type(tmp_path: Path) -> None:
    args = {"type": "sql", "url": f"sqlite:///{tmp_path}/deep/below/rows"}
    with open_kv(args) as kv:
        for text in TEXTS:
            kv.set(text, b"007")
    with SQLiteKeyValue(tmp_path / "deep/below/rows") as other:
        assert list(other.find()) == [(text, b"007") for text in sorted(TEXTS)]
        other.set(b"more", b"1")
    with open_kv(args) as kv:
        assert kv.get(b"more") == b"1"


@pytest.mark.vectors("storage")
@pytest.mark.parametrize("path", ["index.sqlite", "blobs/thumbmeta.sqlite"])
def test_perkeeps_own_file_opens_and_holds_its_rows(tmp_path: Path, path: str) -> None:
    rows = manifest("perkeepd-default-sqlite")[
        {"index.sqlite": "index_rows", "blobs/thumbmeta.sqlite": "thumbmeta_rows"}[path]
    ]
    file = unpack("perkeepd-default-sqlite", tmp_path) / "var/perkeep" / path
    expected = sorted((key.encode(), value.encode()) for key, value in rows.items())
    for _ in range(2):
        with open_kv({"type": "sql", "url": f"sqlite:///{file}"}) as kv:
            assert list(kv.find()) == expected
            assert kv.get_many(key for key, _ in expected) == dict(expected)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(Corrupt, match=str(tmp_path / "rows")):
        open_kv({"type": "sql", "url": f"sqlite:///{tmp_path}/rows"})


def test_rows_that_are_no_text_are_damage(tmp_path: Path) -> None:
    with open_kv({"type": "sql", "url": f"sqlite:///{tmp_path}/rows"}) as kv:
        kv.set(b"a", b"1")
        with sqlite3.connect(tmp_path / "rows") as other:
            other.execute("UPDATE rows SET v = CAST(x'ff' AS TEXT)")
        other.close()
        for work in (lambda: kv.get(b"a"), lambda: list(kv.find())):
            with pytest.raises(StoreError, match=str(tmp_path / "rows")):
                work()


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    SQLiteKeyValue(tmp_path / "rows").close()
    with sqlite3.connect(tmp_path / "rows") as other:
        other.execute("UPDATE meta SET value = '2'")
    other.close()
    with pytest.raises(Unsupported, match="version is 2, not 1"):
        open_kv({"type": "sql", "url": f"sqlite:///{tmp_path}/rows"})


# -- configuration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        {"type": "sql"},
        {"type": "sql", "url": "secret"},
        {"type": "sql", "url": "sqlite://"},
        {"type": "sql", "url": "sqlite:///:memory:"},
        {"type": "sql", "url": "mysql://u:secret@h/d"},
        {"type": "sql", "url": "postgresql://u:secret@h:port/d"},
        {"type": "postgres", "user": "u", "password": "secret"},
        {"type": "postgres", "user": "u", "database": "d", "host": "h:secret"},
        {"type": "postgres", "user": "u", "database": "d", "colour": "secret"},
    ],
)
def test_arguments_that_do_not_fit_are_refused_without_showing_them(args: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        open_kv(args)
    assert "secret" not in str(caught.value)
