"""The suite must catch what it is there to catch: each broken store fails named tests of it."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from tests.blobserver import broken

pytestmark = pytest.mark.xdist_group("broken")  # one worker: they share one run of the suite

# For each broken store, tests of the suite that must fail.
MUST_FAIL = {
    "AnswersInRefOrder": {"a_batch_is_answered_in_the_order_given"},
    "DropsEmptyBlobs": {"the_empty_blob_is_a_blob"},
    "ForgetsRemoves": {"removed_blobs_are_gone", "a_removed_blob_may_come_back"},
    "HidesWhatIsWrittenAgain": {"writing_again_does_not_hide_a_blob"},
    "InventsBlobs": {"a_missing_blob_is_not_found", "stat_yields_what_is_there_each_once"},
    "KnowsOnlySha224": {"every_known_hash_is_taken"},
    "LiesAboutSizes": {"a_blob_is_read_back", "everything_received_is_listed_in_order"},
    "ListingBreaksOnWrites": {"a_listing_stays_usable_while_others_write"},
    "ListsAfterInclusive": {"enumerate_begins_after_the_text_given"},
    "ListsOnePage": {"everything_received_is_listed_in_order"},
    "ListsTwice": {"a_blob_is_read_back", "everything_received_is_listed_in_order"},
    "ListsUnsorted": {"a_batch_is_answered_in_the_order_given"},
    "LosesOnSync": {"a_blob_is_read_back", "one_sync_serves_many_writes"},
    "RangesStrictly": {"a_range_is_cut_at_the_end"},
    "RangesWithoutChecks": {"a_range_outside_the_blob_is_refused"},
    "RefusesUnknownRemoves": {"removing_twice_is_no_error"},
    "RemovesInWaitOnly": {"a_blob_removed_before_its_sync_stays_away"},
    "ServesFlippedBytes": {"a_blob_is_read_back", "any_content_comes_back"},
    "ServesShort": {"the_largest_blob_is_kept_whole"},
    "ShowsBeforeSync": {"unsynced_blobs_are_not_seen"},
    "SkipsTheTokenBlob": {"a_stream_goes_on_from_any_token"},
    "StatsTwice": {"stat_yields_what_is_there_each_once"},
    "StreamsForgetfully": {"a_stream_goes_on_from_any_token"},
}

RUNNER = """
import pytest
from peatkeep.blobserver.conformance import StorageSuite
from tests.blobserver import broken

NAMES = {names!r}

@pytest.fixture(params=NAMES)
def storage(request):
    return getattr(broken, request.param)()

class TestBroken(StorageSuite): ...
"""


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Which tests of the suite failed, by broken store; one run of the suite for all of them."""
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_suite.py").write_text(RUNNER.format(names=sorted(MUST_FAIL)))
    root = Path(__file__).parent.parent.parent
    options = ["-q", "-rf", "--tb=no", "--timeout=300", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", str(folder), f"--rootdir={folder}", *options],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(root), "COLUMNS": "300"},
        check=False,
        timeout=900,
    )
    found: dict[str, set[str]] = {name: set() for name in MUST_FAIL}
    for line in run.stdout.splitlines():
        if line.startswith("FAILED "):
            test, _, parameters = line.split("::test_")[1].partition("[")
            found[parameters.split("]")[0].split("-")[0]].add(test)
    assert " passed" in run.stdout, run.stdout + run.stderr
    return found


@pytest.mark.parametrize("name", sorted(MUST_FAIL))
def test_the_suite_catches_the_store_that(failed: dict[str, set[str]], name: str) -> None:
    assert MUST_FAIL[name] <= failed[name]


def test_every_broken_store_is_tried() -> None:
    stores = {
        name
        for name, member in inspect.getmembers(broken, inspect.isclass)
        if member.__module__ == broken.__name__
    }
    assert stores == MUST_FAIL.keys()
