"""What the buffer adds: what is held, when it goes behind, and what a crash leaves."""

import threading
from pathlib import Path

import pytest

from peatkeep.errors import ConfigError, TooLarge, Unavailable
from peatkeep.sorted.buffer import BufferKeyValue
from peatkeep.sorted.kv import Batch, KeyValue
from peatkeep.sorted.memory import MemoryKeyValue
from peatkeep.sorted.registry import open_kv
from peatkeep.sorted.sqlite import SQLiteKeyValue


class Behind(MemoryKeyValue):
    """A store that notes its commits, and fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[tuple[int, bool]] = []
        self.fails = False
        self.is_closed = False

    def commit(self, batch: Batch, durable: bool = True) -> None:
        if self.fails:
            raise Unavailable("write", "behind")
        super().commit(batch, durable)
        self.commits.append((len(batch), durable))

    def close(self) -> None:
        self.is_closed = True


def put(kv: KeyValue, key: bytes, value: bytes | None, durable: bool = False) -> None:
    batch = Batch()
    if value is None:
        batch.delete(key)
    else:
        batch.set(key, value)
    kv.commit(batch, durable=durable)


@pytest.fixture
def behind() -> Behind:
    return Behind()


@pytest.fixture
def kv(behind: Behind) -> BufferKeyValue:
    return BufferKeyValue(behind, 1000)


def test_rows_are_held_until_flushed(kv: BufferKeyValue, behind: Behind) -> None:
    for number in range(10):
        put(kv, b"%d" % number, b"v")
    assert behind.commits == []
    assert kv.held_bytes == 20
    kv.flush()
    assert behind.commits == [(10, True)]
    assert kv.held_bytes == 0
    kv.flush()
    assert len(behind.commits) == 1


def test_reads_are_in_order_across_both(kv: BufferKeyValue, behind: Behind) -> None:
    for key in (b"b", b"c", b"d", b"f"):
        behind.set(key, b"behind")
    for key, value in ((b"a", b"held"), (b"c", b"held"), (b"d", None), (b"e", b"held")):
        put(kv, key, value)
    put(kv, b"z", None)
    rows = [(b"a", b"held"), (b"b", b"behind"), (b"c", b"held"), (b"e", b"held"), (b"f", b"behind")]
    assert list(kv.find()) == rows
    assert list(kv.find(b"b", b"e")) == rows[1:3]
    assert kv.get_many([b"a", b"b", b"c", b"d", b"z", b"none"]) == dict(rows[:3])
    assert kv.get(b"d") is None
    kv.flush()
    assert list(kv.find()) == list(behind.find()) == rows


def test_the_buffer_never_holds_more_than_its_size(kv: BufferKeyValue, behind: Behind) -> None:
    for number in range(100):
        put(kv, b"%04d" % number, b"v" * 96)
        assert kv.held_bytes <= 1000
    assert behind.commits == [(10, True)] * 9
    assert len(list(kv.find())) == 100


def test_a_batch_larger_than_the_buffer_goes_behind(kv: BufferKeyValue, behind: Behind) -> None:
    put(kv, b"a", b"1")
    put(kv, b"big", b"v" * 2000)
    assert kv.held_bytes == 0
    assert dict(behind.find()) == {b"a": b"1", b"big": b"v" * 2000}


def test_a_durable_commit_takes_along_what_came_before_it(
    kv: BufferKeyValue, behind: Behind
) -> None:
    put(kv, b"a", b"1")
    put(kv, b"b", b"1", durable=True)
    assert behind.commits == [(1, True), (1, True)]
    put(kv, b"c", b"1", durable=True)
    assert len(behind.commits) == 3


def test_a_crash_loses_exactly_what_came_after_the_last_flush(tmp_path: Path) -> None:
    kv = BufferKeyValue(SQLiteKeyValue(tmp_path / "rows"), 1000)
    for number in range(30):
        put(kv, b"%04d" % number, b"v" * 96)
    put(kv, b"0000", None)
    with SQLiteKeyValue(tmp_path / "rows") as after_the_crash:
        kept = [key for key, _ in after_the_crash.find()]
    assert kept == [b"%04d" % number for number in range(len(kept))]
    assert len(kept) == 30
    kv.close()
    with SQLiteKeyValue(tmp_path / "rows") as after_closing:
        assert [key for key, _ in after_closing.find()] == kept[1:]


def test_what_could_not_be_flushed_is_kept_and_flushed_later(
    kv: BufferKeyValue, behind: Behind
) -> None:
    put(kv, b"a", b"1" * 900)
    behind.fails = True
    with pytest.raises(Unavailable):
        kv.flush()
    with pytest.raises(Unavailable):  # no room: neither held nor acknowledged
        put(kv, b"b", b"1" * 900)
    with pytest.raises(Unavailable):
        put(kv, b"c", b"1", durable=True)
    assert dict(kv.find()) == {b"a": b"1" * 900}
    behind.fails = False
    kv.flush()
    assert dict(behind.find()) == {b"a": b"1" * 900}


def test_closing_closes_the_store_behind_even_if_it_can_not_be_flushed(
    kv: BufferKeyValue, behind: Behind
) -> None:
    put(kv, b"a", b"1")
    behind.fails = True
    with pytest.raises(Unavailable):
        kv.close()
    assert behind.is_closed


def test_a_find_keeps_its_snapshot_through_a_flush(kv: BufferKeyValue) -> None:
    for number in range(0, 8, 2):
        kv.set(b"%d" % number, b"old")
        put(kv, b"%d" % (number + 1), b"old")
    rows = kv.find()
    next(rows)
    put(kv, b"5", b"new")
    put(kv, b"6", None)
    kv.flush()
    put(kv, b"9", b"new", durable=True)
    assert list(rows) == [(b"%d" % number, b"old") for number in range(1, 8)]


def test_no_reader_sees_a_part_of_a_batch_while_another_thread_flushes() -> None:
    kv = BufferKeyValue(MemoryKeyValue(), 200)
    stop = threading.Event()
    torn: list[dict[bytes, bytes]] = []

    def look() -> None:
        while not stop.is_set():
            rows = dict(kv.find())
            if len(set(rows.values())) > 1:
                torn.append(rows)

    def flush() -> None:
        while not stop.is_set():
            kv.flush()

    threads = [threading.Thread(target=work) for work in (look, look, flush)]
    for thread in threads:
        thread.start()
    try:
        for number in range(2000):
            batch = Batch()
            for key in (b"a", b"m", b"z"):
                batch.set(key, b"%d" % number)
            kv.commit(batch, durable=number % 3 == 0)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert torn == []


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"storage": {"type": "memory"}, "sizeBytes": -1},
        {"storage": {"type": "memory"}, "sizeBytes": "1 MB"},
        {"storage": {"type": "nosuch"}},
        {"storage": "memory"},
    ],
)
def test_arguments_that_do_not_fit_are_refused(args: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        open_kv({"type": "buffer"} | args)


def test_limits_of_rows_hold_before_anything_is_kept(kv: BufferKeyValue) -> None:
    with pytest.raises(TooLarge):
        kv.set(b"k" * 1000, b"v")
    assert kv.held_bytes == 0
