"""Writers of the same blob at the same time: whoever is answered has it stored."""

from pathlib import Path

import pytest

from peatkeep.blobserver.conformance import sample
from peatkeep.blobserver.groupcommit import GroupCommit
from tests.reliability.stores import STORES, opened


@pytest.mark.parametrize("store", STORES)
def test_a_blob_that_another_has_just_written_is_stored_when_it_is_acknowledged(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = sample(3)
    said = GroupCommit.wrote
    meetings = 0

    with opened(store, tmp_path) as storage:

        def wrote(group: GroupCommit) -> None:
            nonlocal meetings
            meetings += 1
            monkeypatch.setattr(GroupCommit, "wrote", said)
            storage.receive_many(blobs.items())
            assert {ref for ref, _ in storage.stat(blobs)} == set(blobs)
            storage.remove(blobs)
            monkeypatch.setattr(GroupCommit, "wrote", wrote)
            said(group)

        monkeypatch.setattr(GroupCommit, "wrote", wrote)
        storage.receive_many(blobs.items())
    assert meetings
