"""The quick forms of the reliability programme; `./pk soak` runs the full ones."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reliability import (
    big,
    crash,
    enospc,
    fuzz,
    independent,
    indexkill,
    kill9,
    kill9_stores,
    lying,
    migrate,
    model,
    nthfail,
    resume,
    rot,
    slow,
    syncfirst,
)
from tests.reliability.disks import lacking
from tests.reliability.fuzz_targets import PARSERS
from tests.reliability.stores import SERVED, STORES
from tests.reliability.verdict import Verdict

SEED = 9
QUICK_MOVED = 300
QUICK_KILLS = 10
QUICK_CRASH_S = 15
QUICK_FUZZ_S = 8
QUICK_NTHFAIL_S = 10
QUICK_ROT_S = 60
QUICK_ROT_CASES = 8
QUICK_LYING_S = 5
QUICK_MODEL_S = 20
QUICK_STORE_KILLS = 5
QUICK_FILLINGS = 10
QUICK_INDEX_KILLS = 4
QUICK_READ_BLOBS = 2000
QUICK_BIG_BYTES = 300_000_000
QUICK_SLOW_S = 10
QUICK_RESUMED_BYTES = 30_000_000
QUICK_CUTS = 10

Record = Callable[[str, object], None]


def judge(verdict: Verdict, record_property: Record) -> None:
    """Keep the verdict for the last lines of the check, and fail where it does."""
    record_property("verdict", str(verdict))
    assert verdict.passed, "\n".join([str(verdict), *verdict.problems])


def needs_mounts(*, fuse: bool = False) -> None:
    """Name the test in the last lines where this machine can't run it."""
    missing = lacking(fuse=fuse)
    if missing:
        pytest.skip(missing)


@pytest.mark.parametrize("store", [*STORES, SERVED])
def test_crash(store: str, tmp_path: Path, record_property: Record) -> None:
    needs_mounts(fuse=True)
    judge(crash.run(tmp_path, SEED, store, QUICK_CRASH_S), record_property)


@pytest.mark.parametrize("store", STORES)
def test_nthfail(store: str, tmp_path: Path, record_property: Record) -> None:
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    judge(nthfail.run(tmp_path, SEED, store, QUICK_NTHFAIL_S), record_property)


def test_a_sync_comes_before_the_first_acknowledgement(
    tmp_path: Path, record_property: Record
) -> None:
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    judge(syncfirst.run(tmp_path, SEED), record_property)


@pytest.mark.parametrize("store", STORES)
def test_enospc(store: str, tmp_path: Path, record_property: Record) -> None:
    needs_mounts()
    judge(enospc.run(tmp_path, SEED, store, QUICK_FILLINGS), record_property)


@pytest.mark.parametrize("store", STORES)
def test_rot(store: str, tmp_path: Path, record_property: Record) -> None:
    judge(rot.run(tmp_path, SEED, store, QUICK_ROT_S, QUICK_ROT_CASES), record_property)


@pytest.mark.parametrize("store", STORES)
def test_kill9_of_a_store(store: str, tmp_path: Path, record_property: Record) -> None:
    judge(kill9_stores.run(tmp_path, SEED, store, QUICK_STORE_KILLS), record_property)


@pytest.mark.parametrize("store", independent.READERS)
def test_independent(store: str, tmp_path: Path, record_property: Record) -> None:
    judge(independent.run(tmp_path, SEED, store, QUICK_READ_BLOBS), record_property)


def test_kill9_of_an_index(tmp_path: Path, record_property: Record) -> None:
    judge(indexkill.run(tmp_path, SEED, QUICK_INDEX_KILLS), record_property)


def test_lying(tmp_path: Path, record_property: Record) -> None:
    judge(lying.run(tmp_path, SEED, QUICK_LYING_S), record_property)


def test_model(tmp_path: Path, record_property: Record) -> None:
    judge(model.run(tmp_path, SEED, QUICK_MODEL_S), record_property)


def test_migrate(tmp_path: Path, record_property: Record) -> None:
    judge(migrate.run(tmp_path, SEED, QUICK_MOVED, kills=1), record_property)


def test_kill9(tmp_path: Path, record_property: Record) -> None:
    judge(kill9.run(tmp_path, SEED, QUICK_KILLS), record_property)


def test_resume(tmp_path: Path, record_property: Record) -> None:
    judge(resume.run(tmp_path, SEED, QUICK_RESUMED_BYTES, QUICK_CUTS), record_property)


def test_slow(tmp_path: Path, record_property: Record) -> None:
    # Beside other tests: only the long form judges how long the others waited.
    judge(slow.run(tmp_path, SEED, QUICK_SLOW_S, most_ms=math.inf), record_property)


def test_big(tmp_path: Path, record_property: Record) -> None:
    judge(big.run(tmp_path, QUICK_BIG_BYTES), record_property)


@pytest.mark.parametrize("name", PARSERS)
def test_fuzz(name: str, tmp_path: Path, record_property: Record) -> None:
    judge(fuzz.run(tmp_path, QUICK_FUZZ_S, [name]), record_property)
