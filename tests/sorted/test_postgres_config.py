"""Perkeep's key `postgres`, from the configuration to the rows of a running server."""

from pathlib import Path

from peatkeep.blob import Ref
from tests.server.running import running_server
from tests.sorted.postgres import GROUP, PASSWORD, USER, Database, Postgres


@GROUP
def test_a_server_keeps_its_index_in_postgresql(postgres_server: Postgres, tmp_path: Path) -> None:
    login = f"{USER}@127.0.0.1:{postgres_server.port}:{PASSWORD}"
    blob = b'{"camliVersion": 1,\n"camliType": "bytes",\n"parts": []\n}'
    keys = {"postgres": login, "levelDB": None, "dbUnique": "mine"}
    for _ in range(2):  # the second time, on the databases that the first made
        with running_server(tmp_path, **keys) as server:
            assert server.upload("/bs-and-maybe-also-index/", blob).status == 200
    rows = Database(postgres_server, "pk_mine_index").sql("SELECT k FROM rows")
    assert f"have:{Ref.of(blob)}" in rows
    names = postgres_server.sql("postgres", "SELECT datname FROM pg_database")
    assert {name for name in names if name.startswith("pk_mine")} == {"pk_mine_index"}
