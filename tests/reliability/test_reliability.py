"""The quick forms of the reliability programme; `./pk soak` runs the full ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reliability import big, crash, fuzz, kill9
from tests.reliability.disks import lacking
from tests.reliability.fuzz_targets import PARSERS
from tests.reliability.stores import STORES
from tests.reliability.verdict import Verdict

SEED = 9
QUICK_KILLS = 10
QUICK_CRASH_S = 15
QUICK_FUZZ_S = 8
QUICK_BIG_BYTES = 300_000_000

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


@pytest.mark.parametrize("store", STORES)
def test_crash(store: str, tmp_path: Path, record_property: Record) -> None:
    needs_mounts(fuse=True)
    judge(crash.run(tmp_path, SEED, store, QUICK_CRASH_S), record_property)


def test_kill9(tmp_path: Path, record_property: Record) -> None:
    judge(kill9.run(tmp_path, SEED, QUICK_KILLS), record_property)


def test_big(tmp_path: Path, record_property: Record) -> None:
    judge(big.run(tmp_path, QUICK_BIG_BYTES), record_property)


@pytest.mark.parametrize("name", PARSERS)
def test_fuzz(name: str, tmp_path: Path, record_property: Record) -> None:
    judge(fuzz.run(tmp_path, QUICK_FUZZ_S, [name]), record_property)
