"""`pk dbinit`, on a real PostgreSQL and on files of SQLite."""

from pathlib import Path

import pytest

from peatkeep.sorted.kv import Batch
from peatkeep.sorted.registry import open_kv
from tests.sorted.postgres import GROUP, PASSWORD, USER, Database, postgres, postgres_server

from .programs import Ran, run_program

__all__ = ["postgres", "postgres_server"]


def dbinit(folder: Path, *flags: str) -> Ran:
    return run_program(["pk", "dbinit", *flags], {"HOME": str(folder)}, folder)


def login(database: Database, name: str = "") -> list[str]:
    host = database.args["host"]
    return [
        "-dbtype=postgres", f"-dbname={name or database.name}", f"-user={USER}",
        f"-password={PASSWORD}", f"-host={host}",
    ]  # fmt: skip


def put_a_row(settings: dict[str, object]) -> None:
    with open_kv(settings) as rows:
        batch = Batch()
        batch.set(b"key", b"value")
        rows.commit(batch)


def rows_of(settings: dict[str, object]) -> list[tuple[bytes, bytes]]:
    with open_kv(settings) as rows:
        return list(rows.find())


@GROUP
def test_the_tables_are_perkeeps(postgres: Database, tmp_path: Path) -> None:
    ran = dbinit(tmp_path, *login(postgres))
    assert (ran.exit_code, ran.lines) == (0, [f"database {postgres.name}: made"])
    assert postgres.sql("SELECT metakey, value FROM meta") == ["version|2"]
    assert postgres.sql("SELECT count(*) FROM rows") == ["0"]


@GROUP
def test_a_database_that_is_missing_is_made(postgres: Database, tmp_path: Path) -> None:
    name = f"{postgres.name}_other"
    try:
        assert dbinit(tmp_path, *login(postgres, name)).exit_code == 0
        assert postgres.server.sql(name, "SELECT count(*) FROM rows") == ["0"]
    finally:
        postgres.sql(f"DROP DATABASE IF EXISTS {name}")


@GROUP
def test_rows_that_are_there_stay_unless_they_are_to_go(postgres: Database, tmp_path: Path) -> None:
    put_a_row(postgres.args)
    refused = dbinit(tmp_path, *login(postgres))
    assert refused.exit_code == 1
    assert "-wipe" in refused.stderr
    assert PASSWORD not in refused.stderr
    left = dbinit(tmp_path, *login(postgres), "-ignoreexists")
    assert (left.exit_code, left.lines) == (0, [f"database {postgres.name}: there already"])
    assert rows_of(postgres.args) == [(b"key", b"value")]
    wiped = dbinit(tmp_path, *login(postgres), "-wipe")
    assert (wiped.exit_code, wiped.lines) == (0, [f"database {postgres.name}: emptied"])
    assert rows_of(postgres.args) == []


@GROUP
def test_tables_of_another_program_are_refused_untouched(
    postgres: Database, tmp_path: Path
) -> None:
    postgres.sql("CREATE TABLE rows (id integer); INSERT INTO rows VALUES (7)")
    for flag in ("-wipe", "-ignoreexists"):
        refused = dbinit(tmp_path, *login(postgres), flag)
        assert refused.exit_code == 2
        assert "another program" in refused.stderr
    assert postgres.sql("SELECT id FROM rows") == ["7"]
    assert postgres.sql("SELECT to_regclass('meta') IS NULL") == ["t"]


@GROUP
def test_a_wrong_password_is_refused_and_not_shown(postgres: Database, tmp_path: Path) -> None:
    flags = [flag for flag in login(postgres) if "password" not in flag]
    refused = dbinit(tmp_path, *flags, "-password=a%b wrong one")
    assert refused.exit_code != 0
    assert "wrong one" not in refused.stderr


def test_a_file_of_sqlite_is_made_kept_and_emptied(tmp_path: Path) -> None:
    file = tmp_path / "rows.sqlite"
    settings: dict[str, object] = {"type": "sqlite", "file": str(file)}
    assert dbinit(tmp_path, "-dbtype=sqlite", f"-dbname={file}").lines == [f"database {file}: made"]
    put_a_row(settings)
    assert dbinit(tmp_path, "-dbtype=sqlite", f"-dbname={file}").exit_code == 1
    assert dbinit(tmp_path, "-dbtype=sqlite", f"-dbname={file}", "-ignoreexists").exit_code == 0
    assert rows_of(settings) == [(b"key", b"value")]
    assert dbinit(tmp_path, "-dbtype=sqlite", f"-dbname={file}", "-wipe").exit_code == 0
    assert rows_of(settings) == []


@pytest.mark.parametrize("flags", [["-dbname=x"], ["-dbtype=mongo", "-dbname=x"]])
def test_databases_that_are_not_served_are_named(tmp_path: Path, flags: list[str]) -> None:
    refused = dbinit(tmp_path, *flags)
    assert refused.exit_code == 2
    assert "-dbtype=postgres" in refused.stderr


def test_the_name_of_the_database_is_needed(tmp_path: Path) -> None:
    refused = dbinit(tmp_path, "-dbtype=postgres")
    assert refused.exit_code != 0
    assert "-dbname" in refused.stderr
