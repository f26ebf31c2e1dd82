"""Rows that other processes worked out are those of this one."""

import os
import signal
from datetime import UTC
from pathlib import Path

import pytest

from peatkeep.index import index as index_module
from peatkeep.index.workers import Workers
from tests.index import make
from tests.index.corpus import World, corpus
from tests.waiting import wait_until


def test_a_reindex_in_processes_gives_the_rows_of_one_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = World()
    refused = alone.add(corpus(), batch=100)
    monkeypatch.setattr(index_module, "PAGES_ALONE", 0)
    shared = World(blobs=alone.blobs)
    report = shared.index.reindex()
    assert report.refused == refused
    assert shared.rows() == alone.rows()
    assert shared.own_rows() == alone.own_rows()
    assert shared.search_rows() == alone.search_rows()


def test_what_a_dead_process_leaves_is_done_here() -> None:
    node = make.permanode("p")
    page = dict([make.key(), node, make.claim(node[0], "title", "some words")])
    world = World()
    world.add(list(page.items()))
    with Workers(world.blobs, UTC, count=1) as workers:
        # For a moment at its start a process has no command line.
        wait_until(lambda: bool(_children()))
        for child in _children():
            os.kill(child, signal.SIGKILL)
        [(done, worked)] = workers.outcomes([page])
    assert done == page
    assert [outcome.ref for outcome in worked.outcomes] == list(page)
    assert all(not outcome.refused and outcome.needs is None for outcome in worked.outcomes)
    assert not worked.prepared.rows


def _children() -> list[int]:
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in listed}
    return [pid for pid, command in commands.items() if b"peatkeep.index.workers" in command]
