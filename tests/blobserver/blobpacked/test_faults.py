"""Bad zips, bad rows, failing disks, and many threads."""

import errno
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.blobpacked import BlobPacked
from peatkeep.blobserver.blobpacked.pack import read_pack
from peatkeep.blobserver.conformance import run_together
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.errors import ConfigError, Corrupt, NotFound, StoreError, Unavailable, Unsupported
from peatkeep.schema.filewriter import WrittenFile, write_file
from peatkeep.sorted.memory import MemoryKeyValue
from tests.blobserver.blobpacked.opening import open_store
from tests.blobserver.powercut import SimulatedFiles

ROOT = Path("/store")


def blobs_of(data: bytes, **members: object) -> tuple[list[tuple[Ref, bytes]], WrittenFile]:
    blobs: list[tuple[Ref, bytes]] = []
    written = write_file(lambda ref, chunk: blobs.append((ref, chunk)), [data], members)
    return blobs, written


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture
def packed() -> tuple[Memory, Memory, list[tuple[Ref, bytes]]]:
    """A loose and a large store with one packed file of 900 kB, and its blobs."""
    small, large = Memory(), Memory()
    store = BlobPacked(small, large, MemoryKeyValue())
    blobs, _ = blobs_of(content(900_000))
    store.receive_many(blobs)
    assert store.settle(30)
    store.close()
    return small, large, blobs


def only_zip(large: Memory) -> tuple[Ref, bytes]:
    ((ref, _),) = large.enumerate()
    return ref, large.fetch(ref)


# -- bytes that are no zip ----------------------------------------------------------------------


def test_damage_anywhere_in_a_zip_gives_right_blobs_or_errors(
    packed: tuple[Memory, Memory, list[tuple[Ref, bytes]]],
) -> None:
    _, large, blobs = packed
    zip_ref, data = only_zip(large)
    luck = random.Random(7)
    tail = len(data) - 6000
    for _ in range(300):
        bad = bytearray(data)
        for _ in range(luck.choice([1, 1, 3])):
            bad[luck.randrange(luck.choice([0, tail]), len(bad))] = luck.randrange(256)
        del bad[luck.choice([len(bad), luck.randrange(len(bad))]) :]
        damaged = Memory()
        damaged.receive(zip_ref, bytes(bad))
        store = BlobPacked(Memory(), damaged, MemoryKeyValue())
        for ref, right in blobs:
            try:
                assert store.fetch(ref) == right
            except (NotFound, Corrupt):
                pass
        assert {ref for ref, _ in blobs} >= {blob.ref for blob in store.stream()}
        store.close()


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"PK\5\6" + bytes(18),
        b"PK\5\6" + b"\xff" * 18,
        b"PK\5\6" + bytes(4) + b"\1\0\1\0" + b"\x2e\0\0\0" + bytes(6),
        b"PK\1\2" * 20 + b"PK\5\6" + bytes(4) + b"\1\0\1\0" + b"\x2e\0\0\0" + bytes(6),
        b"hello" * 100,
    ],
)
def test_what_is_no_pack_is_refused(junk: bytes) -> None:
    with pytest.raises(Corrupt):
        read_pack(SizedRef(Ref.of(junk), len(junk)), lambda at, size: junk[at : at + size])


def test_a_damaged_loose_copy_hides_neither_bytes_nor_size(
    packed: tuple[Memory, Memory, list[tuple[Ref, bytes]]], tmp_path: Path
) -> None:
    _, large, blobs = packed
    sizes = {ref: len(data) for ref, data in blobs}
    with LocalDisk(tmp_path) as small:
        store = BlobPacked(small, large, MemoryKeyValue())
        assert store.settle(30)
        damaged, data = blobs[3]
        small.receive(damaged, data)
        (file,) = tmp_path.rglob(f"{damaged}.dat")
        file.write_bytes(data[:-5])
        assert store.fetch(damaged) == data
        assert dict(store.enumerate()) == dict(store.stat(sizes)) == sizes
        store.close()


def test_a_copy_in_another_zip_replaces_a_damaged_one() -> None:
    small, large, rows = Memory(), Memory(), MemoryKeyValue()
    store = BlobPacked(small, large, rows)
    data = content(1_200_000)
    first, _ = blobs_of(data, fileName="first")
    second, _ = blobs_of(data + content(50_000, 2), fileName="second")
    for blobs in (first, second):
        store.receive_many(blobs)
        assert store.settle(30)
    store.close()
    for bad in [ref for ref, _ in large.enumerate()]:
        damaged = Memory()
        for ref, _ in large.enumerate():
            whole = large.fetch(ref)
            damaged.receive(ref, whole if ref != bad else bytes(len(whole) - 5000) + whole[-5000:])
        for again in (MemoryKeyValue(), copy_of(rows)):
            store = BlobPacked(Memory(), damaged, again)
            good = [ref for ref, _ in first if ref in dict(second)]
            assert len(good) > 5
            assert {ref: store.fetch(ref) for ref in good} == {r: dict(first)[r] for r in good}
            streamed = [blob.ref for blob in store.stream()]
            assert len(streamed) == len(set(streamed))
            assert set(good) <= set(streamed)
            store.close()


def copy_of(rows: MemoryKeyValue) -> MemoryKeyValue:
    copy = MemoryKeyValue()
    for key, value in rows.find():
        copy.set(key, value)
    return copy


@pytest.mark.parametrize(
    "value",
    [b"", b"1 2", b"x y z", b"5 sha224-00 -1", b"99999999 sha224-00 0", b"1  2 3", b"\xc3\xa9 a b"],
)
def test_rows_that_break_their_form_count_as_absent(
    packed: tuple[Memory, Memory, list[tuple[Ref, bytes]]], value: bytes
) -> None:
    small, large, blobs = packed
    rows = MemoryKeyValue()
    store = BlobPacked(small, large, rows)
    store.close()
    for key, _ in list(rows.find()):
        rows.set(key, value)
    rows.set(b"z:nonsense", value)
    store = BlobPacked(small, large, rows)
    assert {ref: store.fetch(ref) for ref, _ in blobs} == dict(blobs)
    assert {ref for ref, _ in store.enumerate()} == {ref for ref, _ in blobs}
    store.close()


# -- failing disks ------------------------------------------------------------------------------


class Failing(Memory):
    """Fails the calls that `before` fails."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[str], None] = lambda _: None

    def read_range(self, ref: Ref, offset: int, length: int) -> bytes:
        self.before("read")
        return super().read_range(ref, offset, length)

    def sync(self) -> None:
        self.before("sync")
        super().sync()


@pytest.mark.parametrize("failing", ["large", "small"])
def test_a_failed_packing_leaves_the_file_loose_and_is_named(failing: str) -> None:
    small, large = Failing(), Failing()

    def fail(_: str) -> None:
        if failing == "large" or threading.current_thread().name == "blobpacked":
            raise Unavailable("sync", "disk", "No space left on device")

    store = BlobPacked(small, large, MemoryKeyValue())
    (large if failing == "large" else small).before = fail
    blobs, written = blobs_of(content(900_000))
    store.receive_many(blobs)
    assert store.settle(30)
    assert {ref: store.fetch(ref) for ref, _ in blobs} == dict(blobs)
    if failing == "large":
        assert [found.subject for found in store.check()] == [written.ref]
        large.before = lambda _: None
        assert store.pack_loose() == 1
    assert list(store.check()) == []
    assert {ref: store.fetch(ref) for ref, _ in blobs} == dict(blobs)
    store.close()


def test_a_full_disk_loses_nothing_whatever_call_fails() -> None:
    blobs, _ = blobs_of(content(560_000))
    for point in range(1, 400, 13):
        small, large = SimulatedFiles(), SimulatedFiles()
        calls = 0

        def before(operation: str, path: str, point: int = point) -> None:
            nonlocal calls
            calls += operation in {"open_new", "write", "make_folder", "rename", "unlink"}
            if calls >= point and operation in {"open_new", "write", "make_folder", "rename"}:
                raise OSError(errno.ENOSPC, "No space left on device", path)

        rows = MemoryKeyValue()
        store = BlobPacked(LocalDisk(ROOT, small), LocalDisk(ROOT, large), rows)
        small.before = large.before = before
        try:
            store.receive_many(blobs)
        except StoreError:
            small.before = lambda _operation, _path: None
            store.receive_many(blobs)
        assert store.settle(30)
        assert {ref: store.fetch(ref) for ref, _ in blobs} == dict(blobs)
        small.before = large.before = lambda _operation, _path: None
        store.pack_loose()
        assert {ref: store.fetch(ref) for ref, _ in blobs} == dict(blobs)
        assert [ref for ref, _ in store.enumerate()] == sorted(ref for ref, _ in blobs)
        store.close()


def test_a_zip_that_the_medium_can_not_read_stops_nothing() -> None:
    small, large = SimulatedFiles(), SimulatedFiles()
    rows = MemoryKeyValue()
    store = BlobPacked(LocalDisk(ROOT, small), LocalDisk(ROOT, large), rows)
    files = [blobs_of(content(600_000, seed))[0] for seed in range(2)]
    for blobs in files:
        store.receive_many(blobs)
        assert store.settle(30)
    bad = next(
        value.split()[1].decode() for key, value in rows.find(b"b:" + files[0][0][0].encode())
    )
    store.close()
    readable = dict(files[1])

    def before(operation: str, path: str) -> None:
        if operation == "open_read" and bad in path:
            raise OSError(errno.EIO, "Input/output error", path)

    large.before = before
    for again in (rows, MemoryKeyValue()):
        store = BlobPacked(LocalDisk(ROOT, small), LocalDisk(ROOT, large), again)
        assert {ref: store.fetch(ref) for ref in readable} == readable
        with pytest.raises((Unavailable, NotFound)):
            store.fetch(files[0][0][0])
        assert {blob.ref for blob in store.stream()} == readable.keys()
        assert bad in {found.subject for found in store.check()}
        store.receive_many(files[0])
        assert {ref: store.fetch(ref) for ref, _ in files[0]} == dict(files[0])
        store.remove([ref for ref, _ in files[0]])
        store.close()


class KeepsZips(Memory):
    def remove(self, refs: object) -> None:
        raise Unsupported("remove", "zips")


def test_a_large_store_that_removes_nothing_keeps_removed_blobs_hidden() -> None:
    small, large, rows = Memory(), KeepsZips(), MemoryKeyValue()
    store = BlobPacked(small, large, rows)
    blobs, _ = blobs_of(content(900_000))
    store.receive_many(blobs)
    assert store.settle(30)
    store.remove([blobs[0][0]])
    assert store.settle(30)
    with pytest.raises(Unsupported):
        store.compact()
    for forget in (False, True):
        store.recover(forget)
        assert {ref for ref, _ in store.enumerate()} == {ref for ref, _ in blobs[1:]}
    store.close()


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    args = {"smallBlobs": "/a/", "largeBlobs": "/b/", "metaIndex": {"type": "memory"}}
    BlobPacked.from_config({**args, "keepGoing": True}, lambda _: Memory()).close()
    wrong: list[dict[str, object]] = [
        {"keepGoing": "yes"}, {"metaIndex": "leveldb"}, {"metaIndex": {}}, {"unknown": 1},
        {"smallBlobs": 5},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(ConfigError):
            BlobPacked.from_config({**args, **change}, lambda _: Memory())


# -- threads ------------------------------------------------------------------------------------


def test_threads_read_write_and_remove_while_files_are_packed(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        stays = [blobs_of(content(700_000, seed), fileName=f"{seed}") for seed in range(4)]
        everything = {ref: data for blobs, _ in stays for ref, data in blobs}
        guest, _ = blobs_of(content(600_000, 99))
        acknowledged: set[Ref] = set()
        done = threading.Event()

        def write() -> None:
            for blobs, _ in stays:
                for begin in range(0, len(blobs), 3):
                    store.receive_many(blobs[begin : begin + 3])
                    acknowledged.update(ref for ref, _ in blobs[begin : begin + 3])
            done.set()

        def come_and_go() -> None:
            for _ in range(4):
                store.receive_many(guest)
                store.remove([ref for ref, _ in guest[::2]])
                store.remove([ref for ref, _ in guest])

        def look() -> None:
            luck = random.Random(3)
            while not done.is_set():
                there = set(acknowledged)
                listed = [ref for ref, _ in store.enumerate()]
                assert listed == sorted(set(listed))
                assert there <= set(listed)
                assert there <= {ref for ref, _ in store.stat(there)}
                for ref in luck.sample(sorted(there), min(5, len(there))):
                    assert store.fetch(ref) == everything[ref]

        run_together(write, come_and_go, look)
        assert store.settle(60)
        assert {ref: store.fetch(ref) for ref in everything} == everything
        assert {ref for ref, _ in store.enumerate()} == everything.keys()
        assert {blob.ref for blob in store.stream()} == everything.keys()
        assert list(store.check()) == []
    with open_store(tmp_path) as store:
        assert {ref for ref, _ in store.enumerate()} == everything.keys()
        for blobs, written in stays:
            assert b"".join(store.open_whole(written.whole_ref)) != b""
            assert all(store.fetch(ref) == data for ref, data in blobs)
