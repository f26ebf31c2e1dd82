"""A row of the index that nobody has written so: whoever meets it gets an error, once."""

from pathlib import Path

from peatkeep.blob import Ref
from tests.waiting import GUARD_S, wait_until

from .running import RunningServer, running_server
from .stored import file, store_of


def describe(server: RunningServer, ref: Ref) -> int:
    return server.ask("GET", f"/my-search/camli/search/describe?blobref={ref}").status


def test_a_damaged_row_that_a_request_meets_lets_the_index_be_made_anew(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        topology = server.service.world.topology
        ((prefix, index),) = topology.indexes.items()
        assert topology.upkeeps[prefix].wait(GUARD_S)
        ref = file(store_of(server), "x", b"content")
        assert describe(server, ref) == 200
        index.view._rows.set(f"meta:{ref}".encode(), b"neither size nor type")
        assert describe(server, ref) == 500
        wait_until(lambda: describe(server, ref) == 200)
