"""What lies loose is packed while nobody writes."""

import random
import threading
from pathlib import Path

from peatkeep.blob import Ref
from peatkeep.blobserver.blobpacked import BlobPacked
from peatkeep.blobserver.memory import Memory
from peatkeep.schema.filewriter import write_file
from peatkeep.schema.text import encode
from peatkeep.server.packing import Packing
from peatkeep.sorted.memory import MemoryKeyValue
from tests.waiting import GUARD_S, wait_until


def directory(store: BlobPacked, count: int = 60, size: int = 20_000) -> dict[Ref, bytes]:
    """Store a directory of small files; return all its blobs."""
    source = random.Random(5)
    blobs: dict[Ref, bytes] = {}
    members: list[str] = []
    for number in range(count):
        made: list[tuple[Ref, bytes]] = []
        name = {"fileName": f"{number}.txt"}
        write_file(lambda ref, data: made.append((ref, data)), [source.randbytes(size)], name)  # noqa: B023
        members.append(made[-1][0])
        blobs.update(made)
    text = encode({"camliVersion": 1, "camliType": "static-set", "members": members})
    blobs[Ref.of(text)] = text
    store.receive_many(blobs.items())
    return blobs


def late_file(store: BlobPacked) -> dict[Ref, bytes]:
    """Store a file whose schema blob comes before its chunks, so that it stays loose at first."""
    made: list[tuple[Ref, bytes]] = []
    write_file(
        lambda ref, data: made.append((ref, data)), [random.Random(6).randbytes(900_000)], {}
    )
    store.receive_many(made[-1:])
    store.settle()
    store.receive_many(made[:-1])
    return dict(made)


def test_small_files_and_late_ones_are_packed_in_a_quiet_moment(tmp_path: Path) -> None:
    small, large = Memory(), Memory()
    with BlobPacked(small, large, MemoryKeyValue()) as store:
        packing = Packing("/bs/", store, quiet_s=0.05, least_bytes=1, look_wait_s=0.02)
        packing.start()
        blobs = directory(store) | late_file(store)
        done = {"phase": "waiting", "filesPacked": 1, "smallFilesBundled": 60}
        wait_until(lambda: packing.document() == done)
        packing.stop()
        assert dict(store.fetch_many(blobs)) == blobs
        # The set itself stays loose.
        assert sum(1 for _ in small.enumerate()) == 1


def test_what_was_loose_at_the_start_is_packed_too() -> None:
    small, large, rows = Memory(), Memory(), MemoryKeyValue()
    with BlobPacked(small, large, MemoryKeyValue()) as store:
        directory(store)
    with BlobPacked(small, large, rows) as store:
        packing = Packing("/bs/", store, quiet_s=0, least_bytes=1_000_000, look_wait_s=0.01)
        packing.start()
        wait_until(lambda: packing.document()["smallFilesBundled"] == 60)
        packing.stop()


def test_little_is_left_where_it_is() -> None:
    small = Memory()
    with BlobPacked(small, Memory(), MemoryKeyValue()) as store:
        blobs = directory(store)
        packing = Packing("/bs/", store, quiet_s=0, least_bytes=10_000_000, look_wait_s=0.001)
        looked = threading.Event()
        store.loose_bytes = lambda: looked.set() or 0  # type: ignore[method-assign,func-returns-value]
        packing.start()
        assert looked.wait(GUARD_S)
        packing.stop()
        assert {ref for ref, _ in small.enumerate()} == blobs.keys()


def test_whoever_stops_does_not_wait_for_the_rest() -> None:
    class Held(Memory):
        """Lets one blob be read, then says so and goes on only when the stop has begun."""

        reading, stopping = threading.Event(), threading.Event()

        def fetch(self, ref: Ref) -> bytes:
            if threading.current_thread().name == "packing":
                self.reading.set()
                assert self.stopping.wait(GUARD_S)
            return super().fetch(ref)

    small, large = Held(), Memory()
    with BlobPacked(small, large, MemoryKeyValue()) as store:
        blobs = directory(store)
        packing = Packing("/bs/", store, quiet_s=0, least_bytes=1, look_wait_s=0.001)
        packing.start()
        assert small.reading.wait(GUARD_S)
        stopper = threading.Thread(target=packing.stop)
        stopper.start()
        wait_until(packing.is_stopping)
        small.stopping.set()
        stopper.join(GUARD_S)
        assert not stopper.is_alive()
        assert {ref for ref, _ in small.enumerate()} == blobs.keys()
        assert list(large.enumerate()) == []
