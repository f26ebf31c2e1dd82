"""Sealing in processes: which of them die or hang makes no difference."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.encrypt import workers as module
from peatkeep.blobserver.encrypt.sealing import MAX_PLAIN_SIZE
from peatkeep.blobserver.encrypt.store import Encrypt
from peatkeep.blobserver.encrypt.workers import Workers, _Process
from peatkeep.blobserver.forward import Forward
from peatkeep.blobserver.memory import Memory
from peatkeep.errors import TooLarge, Unavailable
from peatkeep.sorted.memory import MemoryKeyValue
from tests.blobserver.encrypt.stores import SEALER, TEST_ONLY_IDENTITY

SIZES = [0, 1, 200_000, 1_048_576, 1_048_577, *[50_000] * 60, *[7] * 90]
LIMIT_S = 60


def random_blobs(sizes: Iterable[int] = SIZES) -> dict[Ref, bytes]:
    made = (os.urandom(size) for size in sizes)
    return {Ref.of(data): data for data in made}


def unsealed(workers: Workers, blobs: dict[Ref, bytes]) -> list[tuple[Ref, bytes]]:
    """Seal all; each must have its own name, and lots must be small."""
    found = []
    for lot in workers.sealed(blobs):
        assert sum(len(one.data) for one in lot[:-1]) < 2 << 20
        for one in lot:
            assert one.name.matches(one.data)
            assert one.size == len(blobs[one.ref])
            found.append((one.ref, SEALER.unseal(one.name, one.data)))
    return found


@pytest.fixture
def workers() -> Iterator[Workers]:
    """With a process that is ready."""
    workers = Workers(SEALER.recipient, count=1)
    unsealed(workers, random_blobs())
    wait_until_ready(workers)
    yield workers
    workers.close()


def wait_until_ready(workers: Workers) -> None:
    [process] = workers._processes
    if not process._is_there:
        assert select.select([process], [], [], LIMIT_S)[0]


@pytest.fixture
def at_each_question(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Give a function that has something done to the process after each question."""
    ask = _Process.ask

    def install(deed: Callable[[int], None]) -> None:
        def asked(process: _Process, piece: module.Piece) -> None:
            ask(process, piece)
            deed(process._process.pid)

        monkeypatch.setattr(_Process, "ask", asked)

    return install


def test_a_process_and_this_one_seal_each_blob_once(
    workers: Workers, at_each_question: Callable[[Callable[[int], None]], None]
) -> None:
    asked: list[int] = []
    at_each_question(asked.append)
    for _ in range(3):
        blobs = random_blobs()
        assert sorted(unsealed(workers, blobs)) == sorted(blobs.items())
    assert len(asked) > 3
    assert len(set(asked)) == 1


@pytest.mark.parametrize("question", [1, 2, 5, 9])
def test_what_a_killed_process_had_is_sealed_all_the_same(
    workers: Workers,
    at_each_question: Callable[[Callable[[int], None]], None],
    question: int,
) -> None:
    asked: list[int] = []

    def kill(pid: int) -> None:
        asked.append(pid)
        if len(asked) == question:
            os.kill(pid, signal.SIGKILL)

    at_each_question(kill)
    for _ in range(10):
        blobs = random_blobs()
        assert sorted(unsealed(workers, blobs)) == sorted(blobs.items())
        if len(asked) >= question:
            break
    else:
        pytest.fail("it was not asked so often")
    blobs = random_blobs()
    assert sorted(unsealed(workers, blobs)) == sorted(blobs.items())
    assert [process._process.pid for process in workers._processes] != asked[:1]


def test_a_process_that_hangs_is_given_up(
    workers: Workers,
    at_each_question: Callable[[Callable[[int], None]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_S", 0.01)
    at_each_question(lambda pid: os.kill(pid, signal.SIGSTOP))
    [process] = workers._processes
    blobs = random_blobs()
    assert sorted(unsealed(workers, blobs)) == sorted(blobs.items())
    assert process.is_closed
    assert workers._processes == []


def test_processes_that_die_are_not_replaced_for_ever(
    at_each_question: Callable[[Callable[[int], None]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STARTS", 2)
    at_each_question(lambda pid: os.kill(pid, signal.SIGKILL))
    workers = Workers(SEALER.recipient, count=1)
    seen = set()
    for _ in range(2 * 2 + 1):
        blobs = random_blobs([100_000] * 20)
        assert sorted(unsealed(workers, blobs)) == sorted(blobs.items())
        for process in workers._processes:
            seen.add(process._process.pid)
            os.kill(process._process.pid, signal.SIGKILL)
            assert select.select([process], [], [], LIMIT_S)[0]
    workers.close()
    assert len(seen) <= 2
    assert not workers._starts


def test_what_is_left_early_does_not_come_later(workers: Workers) -> None:
    lots = workers.sealed(random_blobs())
    next(lots)
    lots.close()
    assert not any(process.asked for process in workers._processes)
    blobs = random_blobs()
    assert sorted(unsealed(workers, blobs)) == sorted(blobs.items())


def test_who_comes_while_the_processes_are_in_use_seals_alone(workers: Workers) -> None:
    lots = workers.sealed(random_blobs())
    next(lots)
    blobs = random_blobs()
    assert sorted(unsealed(workers, blobs)) == sorted(blobs.items())
    lots.close()


def test_small_batches_start_no_process() -> None:
    workers = Workers(SEALER.recipient, count=1)
    blobs = random_blobs([10] * 31)
    assert sorted(unsealed(workers, blobs)) == sorted(blobs.items())
    assert workers._processes == []


def test_what_is_too_large_is_refused_before_anything_is_sealed(workers: Workers) -> None:
    blobs = random_blobs([5, MAX_PLAIN_SIZE + 1])
    with pytest.raises(TooLarge):
        next(workers.sealed(blobs))


def test_where_no_process_starts_all_is_sealed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    workers = Workers(SEALER.recipient, count=2)
    blobs = random_blobs()
    assert sorted(unsealed(workers, blobs)) == sorted(blobs.items())
    assert workers._processes == []


def test_a_process_is_told_the_public_key_and_not_the_other(workers: Workers) -> None:
    [process] = workers._processes
    words = Path(f"/proc/{process._process.pid}/cmdline").read_bytes().split(b"\0")
    assert SEALER.recipient.text.encode() in words
    assert not any(word.upper().startswith(b"AGE-SECRET") for word in words)
    assert TEST_ONLY_IDENTITY not in repr(vars(workers.__class__(SEALER.recipient)))


def test_a_process_ends_with_the_program_that_started_it() -> None:
    program = (
        "import os, sys; from peatkeep.blobserver.encrypt.workers import Workers;"
        "from tests.blobserver.encrypt.test_workers import SEALER, random_blobs;"
        "workers = Workers(SEALER.recipient, count=1);"
        "list(workers.sealed(random_blobs()));"
        "print(workers._processes[0]._process.pid, flush=True); sys.stdin.read(); os._exit(9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        handle = os.pidfd_open(int(parent.stdout.readline()))
        parent.communicate()
    assert parent.returncode == 9
    try:
        assert select.select([handle], [], [], LIMIT_S)[0]
    finally:
        os.close(handle)


class Full(Forward):
    """Takes some lots, then no more."""

    def __init__(self, store: Memory, lots: int) -> None:
        super().__init__(store)
        self.lots = lots

    def write_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        if not self.lots:
            raise Unavailable("store", "a blob", "no room")
        self.lots -= 1
        return super().write_many(blobs)


def test_a_batch_that_breaks_off_leaves_nothing_of_itself_below() -> None:
    below = Memory()
    full = Full(below, lots=2)
    blobs = random_blobs()
    with Encrypt(SEALER, full, Memory(), MemoryKeyValue()) as store:
        with pytest.raises(Unavailable):
            store.write_many(blobs.items())
        store.sync()
        assert list(below.enumerate()) == []
        assert list(store.enumerate()) == []
        full.lots = 1000
        store.receive_many(blobs.items())
        assert dict(store.fetch_many(blobs)) == blobs
        assert len(list(below.enumerate())) == len(blobs)
