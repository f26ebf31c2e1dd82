"""Replicas that were wiped, damaged or away."""

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.conformance import sample
from peatkeep.blobserver.faulty import Fault, Faulty
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.repair import repair
from peatkeep.blobserver.replica import Replica
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import Corrupt, NotFound, Unavailable
from peatkeep.sorted.memory import MemoryKeyValue

BLOBS = sample(300)
REFS = list(BLOBS)


def content(store: Storage) -> dict[Ref, bytes]:
    return {ref: store.fetch(ref) for ref, _ in store.enumerate()}


class Three:
    """A replica over three folders."""

    def __init__(self, folder: Path) -> None:
        self.folders = [folder / name for name in "abc"]
        for one in self.folders:
            one.mkdir()
        self.stores = [LocalDisk(one) for one in self.folders]
        self.replica = Replica(self.stores)
        self.replica.receive_many(BLOBS.items())

    def wipe(self, number: int) -> None:
        self.stores[number].remove(REFS)

    def flip(self, number: int, share: float) -> None:
        files = sorted(self.folders[number].rglob("*.dat"))
        files = [file for file in files if file.name.startswith("sha")]
        for file in random.Random(1).sample(files, int(len(files) * share)):
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 4
            file.write_bytes(data)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[Three]:
    found = Three(tmp_path)
    yield found
    found.replica.close()
    for store in found.stores:
        store.close()


@pytest.mark.parametrize(("wiped", "flipped"), [(0, 1), (0, 2), (1, 0), (2, 0)])
def test_one_wiped_and_one_with_flipped_bits_are_read_rightly_and_repaired(
    three: Three, wiped: int, flipped: int
) -> None:
    three.wipe(wiped)
    three.flip(flipped, 0.01)
    assert dict(three.replica.fetch_many(REFS[:100])) == {ref: BLOBS[ref] for ref in REFS[:100]}
    assert {ref: three.replica.fetch(ref) for ref in REFS[100:200]}.items() <= BLOBS.items()
    repaired = three.replica.repair()
    assert repaired.blobs == 300
    assert repaired.damaged == ()
    for store in three.stores:
        assert content(store) == BLOBS
    assert three.replica.repair().copies == 0


@contextmanager
def opened(kind: str, folders: list[Path]) -> Iterator[list[Storage]]:
    with ExitStack() as stack:
        for folder in folders:
            folder.mkdir(exist_ok=True)
        configured = [(kind, {"path": str(folder)}, lambda _: Memory()) for folder in folders]
        yield [stack.enter_context(open_storage(*one)) for one in configured]


def flip_bits(folder: Path, contents: list[bytes]) -> None:
    """Change one bit of each of these blobs, in the file where it lies."""
    files = {file: bytearray(file.read_bytes()) for file in folder.rglob("*") if file.is_file()}
    for content in contents:
        (file,) = (file for file, data in files.items() if content in data)
        files[file][files[file].index(content) + len(content) // 2] ^= 4
        file.write_bytes(files[file])


@pytest.mark.parametrize("is_read_first", [True, False], ids=["read", "unread"])
@pytest.mark.parametrize("kind", ["localdisk", "diskpacked"])
def test_a_lost_disk_and_one_with_a_hundredth_of_its_blobs_flipped_are_mended_by_one_repair(
    kind: str, is_read_first: bool, tmp_path: Path
) -> None:
    contents = [b"blob %04d " % number + b"and more" * 20 for number in range(1000)]
    blobs = {Ref.of(content): content for content in contents}
    folders = [tmp_path / name for name in "abc"]
    with opened(kind, folders) as stores, Replica(stores) as replica:
        replica.receive_many(blobs.items())
    shutil.rmtree(folders[0])
    flip_bits(folders[1], random.Random(1).sample(contents, 10))
    with opened(kind, folders) as stores, Replica(stores) as replica:
        if is_read_first:
            assert {ref: replica.fetch(ref) for ref in list(blobs)[::100]}.items() <= blobs.items()
            assert dict(replica.fetch_many(blobs)) == blobs
        repaired = replica.repair()
        assert (repaired.blobs, repaired.damaged) == (1000, ())
        assert repaired.copies == (0 if is_read_first else 1010)
    with opened(kind, folders) as stores:
        for store in stores:
            assert content(store) == blobs


def test_a_read_fills_the_backend_that_lacks_the_blob(three: Three) -> None:
    three.wipe(0)
    assert three.replica.fetch(REFS[7]) == BLOBS[REFS[7]]
    assert content(three.stores[0]) == {REFS[7]: BLOBS[REFS[7]]}


def test_an_index_that_knows_a_blob_is_not_given_it_at_every_read() -> None:
    class Index(Memory):
        written = 0

        def fetch(self, ref: Ref) -> bytes:
            raise NotFound("fetch", ref, "an index keeps no blobs")

        def receive(self, *_: object) -> None:  # type: ignore[override]
            self.written += 1

    index, blobs = Index(), Memory()
    replica = Replica([index, blobs])
    replica.receive_many(BLOBS.items())
    assert dict(replica.fetch_many(BLOBS)) == BLOBS
    assert index.written == 0
    assert replica.repair().copies == 0


def test_without_reading_only_what_lacks_is_copied(three: Three) -> None:
    three.stores[0].remove(REFS[:10])
    three.flip(1, 0.5)
    assert three.replica.repair(verify=False).copies == 10
    assert three.replica.repair().copies == 150


def test_a_blob_that_is_nowhere_whole_is_named_and_left(three: Three) -> None:
    for folder in three.folders:
        next(folder.rglob(f"{REFS[0]}.dat")).write_bytes(b"wrong")
    repaired = three.replica.repair()
    assert repaired.damaged == (REFS[0],)
    for folder in three.folders:
        assert next(folder.rglob(f"{REFS[0]}.dat")).read_bytes() == b"wrong"


def test_a_backend_that_is_away_stops_the_repair_with_an_error() -> None:
    stores: list[Storage] = [Memory(), Faulty(Memory(), [Fault("unavailable", rate=1.0)])]
    stores[0].receive_many(BLOBS.items())
    with pytest.raises(Unavailable):
        repair(stores)
    assert content(stores[0]) == BLOBS


def test_a_listing_out_of_order_is_refused() -> None:
    class Unsorted(Memory):
        def enumerate(self, after: str = "") -> Iterator:  # type: ignore[type-arg]
            return iter(sorted(super().enumerate(after), reverse=True))

    stores = [Unsorted(), Memory()]
    stores[0].receive_many(BLOBS.items())
    with pytest.raises(Corrupt):
        repair(stores)


# -- catching up --------------------------------------------------------------------------------


def away(faulty: Faulty, is_away: bool) -> None:
    faulty.faults = [Fault("unavailable", rate=1.0)] if is_away else []


def test_what_a_backend_missed_is_noted_and_given_to_it_later() -> None:
    here, there = Memory(), Faulty(Memory(), [])
    rows = MemoryKeyValue()
    replica = Replica([here, there], min_writes=1, queue=rows)
    away(there, True)
    replica.receive_many(list(BLOBS.items())[:200])
    assert len(list(rows.find())) == 200
    with pytest.raises(Unavailable):
        replica.catch_up()
    away(there, False)
    # The rows outlive the replica that wrote them.
    again = Replica([here, there], min_writes=1, queue=rows)
    assert again.catch_up() == 0
    assert content(there) == content(here) == dict(list(BLOBS.items())[:200])
    assert list(rows.find()) == []


def until(condition: Callable[[], bool]) -> None:
    end = monotonic() + 15
    while not condition():
        assert monotonic() < end, "it never happens"


def test_it_catches_up_by_itself_when_all_are_back() -> None:
    here, there = Memory(), Faulty(Memory(), [])
    with Replica([here, there], min_writes=1) as replica:
        away(there, True)
        replica.receive_many(BLOBS.items())
        away(there, False)
        replica.receive(Ref.of(b"next"), b"next")
        until(lambda: len(list(there.enumerate())) == 301)
        assert content(there) == content(here)


def test_what_was_removed_meanwhile_does_not_come_back() -> None:
    here, there = Memory(), Faulty(Memory(), [])
    replica = Replica([here, there], min_writes=1)
    away(there, True)
    replica.receive_many(BLOBS.items())
    away(there, False)
    replica.remove(REFS[:50])
    assert replica.catch_up() == 0
    assert set(content(there)) == set(content(here)) == set(REFS[50:])


def test_a_configuration_may_name_a_queue(tmp_path: Path) -> None:
    stores: dict[str, Storage] = {"/a/": Memory(), "/b/": Memory()}
    args = {
        "backends": ["/a/", "/b/"],
        "queue": {"type": "sqlite", "file": str(tmp_path / "queue.sqlite")},
    }
    with open_storage("storage-replica", args, stores.__getitem__) as replica:
        replica.receive_many(BLOBS.items())
    assert content(stores["/a/"]) == content(stores["/b/"]) == BLOBS
