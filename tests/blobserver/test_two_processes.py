"""Two processes on one folder: the second is refused with the name of a file, or both may write."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from tests.reliability.stores import STORES, opened

ROOT = Path(__file__).resolve().parents[2]
BATCHES, BATCH = 20, 5
OTHER = """
import sys
from pathlib import Path
from peatkeep.errors import StoreError
from tests.blobserver.test_two_processes import store_batches
try:
    for ref in store_batches(sys.argv[1], Path(sys.argv[2]), 2):
        print(ref, flush=True)
except StoreError as error:
    sys.exit(f"refused: {error}")
"""


def batches(seed: int) -> list[dict[Ref, bytes]]:
    dice = random.Random(seed)
    datas = [dice.randbytes(dice.randrange(2000)) for _ in range(BATCHES * BATCH)]
    found = [(Ref.of(data), data) for data in datas]
    return [dict(found[at : at + BATCH]) for at in range(0, len(found), BATCH)]


def store_batches(store: str, folder: Path, seed: int) -> list[Ref]:
    """Store batch by batch; all that was acknowledged."""
    acknowledged: list[Ref] = []
    with opened(store, folder) as opened_store:
        for batch in batches(seed):
            opened_store.receive_many(batch.items())
            acknowledged += batch
    return acknowledged


@pytest.mark.parametrize("store", STORES)
def test_two_processes_on_one_store_lose_nothing(store: str, tmp_path: Path) -> None:
    ours = {ref: data for batch in batches(1) for ref, data in batch.items()}
    with opened(store, tmp_path) as first:
        other = subprocess.Popen(
            [sys.executable, "-c", OTHER, store, str(tmp_path)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for batch in batches(1):
            first.receive_many(batch.items())
        said, complaint = other.communicate()
        # The first goes on, whatever the second met.
        assert dict(first.fetch_many(ours)) == ours
    theirs = {ref: data for batch in batches(2) for ref, data in batch.items()}
    if store == "localdisk":  # a file for each blob: nothing to be refused
        assert (other.returncode, complaint) == (0, "")
        assert said.split() == list(theirs)
    else:
        assert (other.returncode, said) == (1, "")
        assert complaint.startswith("refused: ")
        assert str(tmp_path) in complaint
    expected = ours | {Ref(ref): theirs[Ref(ref)] for ref in said.split()}
    with opened(store, tmp_path) as again:
        assert dict(again.fetch_many(expected)) == expected
