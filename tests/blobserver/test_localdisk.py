"""What localdisk promises beyond the suite: names, strays, damage, listing."""

import errno
import os
import random
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.conformance import sample
from peatkeep.blobserver.filesystem import FileSystem
from peatkeep.blobserver.localdisk import LocalDisk
from peatkeep.blobserver.loose import folder_of
from peatkeep.blobserver.loosewriter import SMALL_GROUP
from peatkeep.errors import ConfigError, Corrupt, NotFound, Unavailable
from tests.blobserver.powercut import SimulatedFiles

STORE = Path("/store")
SMALL = sample(2)
LARGE = sample(SMALL_GROUP * 5)


def file_of(ref: Ref) -> str:
    return f"{folder_of(ref)}/{ref}.dat"


# -- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "folder"),
    [
        ("sha1-aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d", "sha1/aa/f4"),
        ("sha224-ea09ae9cc6768c50fcee903ed054556e5bfc8347907f12598aa24193", "sha224/ea/09"),
        ("digalg-abc", "digalg/ab/c_"),
        ("digalg-ab", "digalg/ab/__"),
        ("digalg-a", "digalg/a_/__"),
    ],
)
def test_a_blob_lies_in_the_folder_of_its_first_digits(ref: str, folder: str) -> None:
    assert folder_of(Ref(ref)) == folder


def test_short_digests_and_unknown_hashes_are_listed_in_order(tmp_path: Path) -> None:
    digits = ["0", "00", "000", "0000", "00000", "0001", "01", "a", "a0", "ab", "abc", "abcd", "b"]
    refs = [Ref(f"{name}-{digit}") for name in ("a", "a1", "b", "sha1x") for digit in digits]
    for ref in random.Random(1).sample(refs, len(refs)):
        folder = tmp_path / folder_of(ref)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{ref}.dat").write_bytes(b"12345")
    with LocalDisk(tmp_path) as store:
        assert [ref for ref, _ in store.enumerate()] == sorted(refs)
        for after in [*refs, "a-", "a-0", "b", "a1-a", "a-ab~"]:
            assert [r for r, _ in store.enumerate(after)] == sorted(r for r in refs if r > after)
        with pytest.raises(Corrupt, match="unknown hash"):
            store.fetch(refs[0])


def test_a_store_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        LocalDisk(tmp_path / "missing")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="file"):
        LocalDisk(tmp_path / "file")


def test_a_folder_named_packed_is_made(tmp_path: Path) -> None:
    with LocalDisk(tmp_path / "packed") as store:
        store.receive(Ref.of(b"zip"), b"zip")
    assert (tmp_path / "packed").stat().st_mode & 0o777 == 0o700


def test_nested_stores_are_not_listed(tmp_path: Path) -> None:
    ref = Ref.of(b"inner")
    for name in ("packed", "cache", "partition"):
        (tmp_path / name).mkdir()
        with LocalDisk(tmp_path / name) as inner:
            inner.receive(ref, b"inner")
    with LocalDisk(tmp_path) as store:
        assert list(store.enumerate()) == []
        assert list(store.stat([ref])) == []


def test_strays_under_the_name_of_a_blob_are_no_blobs(tmp_path: Path) -> None:
    folder, pipe = Ref.of(b"folder"), Ref.of(b"pipe")
    with LocalDisk(tmp_path) as store:
        (tmp_path / file_of(folder)).mkdir(parents=True)
        (tmp_path / folder_of(pipe)).mkdir(parents=True)
        os.mkfifo(tmp_path / file_of(pipe))
        for ref in (folder, pipe):
            with pytest.raises(NotFound):
                store.fetch(ref)
        assert list(store.stat([folder, pipe])) == list(store.enumerate()) == []
        with pytest.raises(Unavailable, match=str(folder)):
            store.receive(folder, b"folder")
        store.receive(Ref.of(b"other"), b"other")
        assert [ref for ref, _ in store.enumerate()] == [Ref.of(b"other")]


def test_a_file_where_a_folder_should_be_is_reported(tmp_path: Path) -> None:
    ref = Ref.of(b"blocked")
    (tmp_path / "sha224").write_bytes(b"")
    with LocalDisk(tmp_path) as store:
        with pytest.raises(NotFound):
            store.fetch(ref)
        assert list(store.stat([ref])) == list(store.enumerate()) == []
        with pytest.raises(Unavailable, match="sha224"):
            store.receive(ref, b"blocked")


def test_no_empty_folders_stay_behind(tmp_path: Path) -> None:
    blobs = sample(50)
    with LocalDisk(tmp_path) as store:
        store.receive_many(blobs.items())
        store.remove(blobs)
    assert list((tmp_path / "sha224").iterdir()) == []


def test_temporary_files_are_named_as_perkeep_names_them() -> None:
    files = SimulatedFiles()
    ref = Ref.of(b"x")
    with LocalDisk(STORE, files) as store:
        store.write_many([(ref, b"x")])
        (name,) = (name for name in files.files() if ".tmp" in name)
        begin, _, digits = name.partition(".tmp")
        assert begin == file_of(ref)
        assert digits.isdecimal()
    assert set(files.files()) == {"GENERATION.dat"}


# -- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage", [b"", b"sam", b"some more", b"sumo", b"some\0", bytes(2**24 + 5)]
)
def test_damage_is_found_on_every_way_of_reading(tmp_path: Path, damage: bytes) -> None:
    ref = Ref.of(b"some")
    with LocalDisk(tmp_path) as store:
        store.receive(ref, b"some")
        for _ in range(2):  # with and without a memory of having verified it
            (tmp_path / file_of(ref)).write_bytes(damage)
            with pytest.raises(Corrupt, match=str(tmp_path / file_of(ref))):
                store.fetch(ref)
            with pytest.raises(Corrupt):
                store.fetch_range(ref, 0, 1)
            assert isinstance(next(store.fetch_many([ref]))[1], Corrupt)
            assert list(store.stream()) == []
            store.receive(ref, b"some")
            assert store.fetch(ref) == b"some"


def test_a_range_of_a_verified_file_is_read_alone() -> None:
    files = SimulatedFiles()
    data = bytes(100_000)
    ref = Ref.of(data)
    sizes: list[int] = []
    with LocalDisk(STORE, files) as store:
        store.receive(ref, data)
        plain_read = files.read

        def read(descriptor: int, size: int) -> bytes:
            sizes.append(size)
            return plain_read(descriptor, size)

        files.read = read  # type: ignore[method-assign]
        assert store.fetch_range(ref, 10, 20) == bytes(20)
        assert sizes == [100_000]
        assert store.fetch_range(ref, 10, 20) == bytes(20)
        assert sizes == [100_000, 20]
        files.damage(file_of(ref), b"1" + data[1:])
        with pytest.raises(Corrupt):
            store.fetch_range(ref, 10, 20)


def test_a_file_changed_within_a_clock_tick_is_not_trusted(tmp_path: Path) -> None:
    ref = Ref.of(b"quick")
    with LocalDisk(tmp_path) as store:
        store.receive(ref, b"quick")
        path = tmp_path / file_of(ref)
        status = path.stat()
        assert store.fetch(ref) == b"quick"
        descriptor = os.open(path, os.O_WRONLY)  # in place, and the times set back
        os.write(descriptor, b"quack")
        os.close(descriptor)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        with pytest.raises(Corrupt):
            store.fetch_range(ref, 0, 5)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize("operation", ["open_read", "read", "status", "list_folder"])
def test_what_the_disk_refuses_to_read_is_unavailable(operation: str, number: int) -> None:
    files = SimulatedFiles()
    ref = Ref.of(b"there")
    with LocalDisk(STORE, files) as store:
        store.receive(ref, b"there")
        failed = files.fail(operation, number)
        works: list[Callable[[], object]] = {
            "open_read": [lambda: store.fetch(ref), lambda: store.fetch_range(ref, 0, 1)],
            "read": [lambda: store.fetch(ref), lambda: store.fetch_range(ref, 0, 1)],
            "status": [lambda: list(store.stat([ref])), lambda: list(store.enumerate())],
            "list_folder": [lambda: list(store.enumerate()), lambda: list(store.stream())],
        }[operation]
        for work in works:
            with pytest.raises(Unavailable, match="/store"):
                work()
        assert len(failed) == len(works)
        files.work_again()
        assert store.fetch(ref) == b"there"
        assert files.open_count == 1, "a descriptor leaks"


def test_enumerate_passes_over_what_vanishes(tmp_path: Path) -> None:
    class Vanishing(FileSystem):
        def list_folder(self, path: str) -> list[str]:
            return [*super().list_folder(path), "zz", f"{ghost}.dat"]

    ghost = Ref.of(b"ghost")
    blobs = sample(5)
    with LocalDisk(tmp_path, Vanishing()) as store:
        (tmp_path / folder_of(ghost)).mkdir(parents=True)
        store.receive_many(blobs.items())
        assert [ref for ref, _ in store.enumerate()] == list(blobs)


def test_enumerate_lists_no_more_folders_than_it_needs() -> None:
    files = SimulatedFiles()
    blobs = sample(300)
    with LocalDisk(STORE, files) as store:
        store.receive_many(blobs.items())
        files.calls.clear()
        assert [ref for ref, _ in islice(store.enumerate(), 3)] == list(blobs)[:3]
        assert files.calls.count("list_folder") <= 10
        files.calls.clear()
        assert [ref for ref, _ in store.enumerate(list(blobs)[-2])] == list(blobs)[-1:]
        assert files.calls.count("list_folder") <= 10


def test_leftover_temporary_files_are_neither_listed_nor_in_the_way(tmp_path: Path) -> None:
    ref = Ref.of(b"half written")
    with LocalDisk(tmp_path) as store:
        (tmp_path / folder_of(ref)).mkdir(parents=True)
        leftover = tmp_path / f"{file_of(ref)}.tmp123"
        leftover.write_bytes(b"half")
        assert list(store.enumerate()) == []
        store.receive(ref, b"half written")
        assert store.fetch(ref) == b"half written"
        assert leftover.read_bytes() == b"half"


# -- generation ---------------------------------------------------------------------------------


def test_a_new_generation_file_has_perkeeps_form(tmp_path: Path) -> None:
    before_s = time.time()
    with LocalDisk(tmp_path) as store:
        generation = store.generation()
    assert generation is not None
    line, _, explanation = (tmp_path / "GENERATION.dat").read_text().partition("\n")
    assert line == generation.token
    assert len(line) == 26
    assert set(line) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    assert explanation.strip()
    assert (tmp_path / "GENERATION.dat").stat().st_mode & 0o777 == 0o644
    assert abs(generation.initialised.timestamp() - before_s) < 3600
    with LocalDisk(tmp_path) as store:
        assert store.generation() == generation


def test_an_empty_generation_file_is_the_empty_token(tmp_path: Path) -> None:
    (tmp_path / "GENERATION.dat").write_bytes(b"")
    with LocalDisk(tmp_path) as store:
        generation = store.generation()
    assert generation is not None
    assert generation.token == ""


# -- the check ----------------------------------------------------------------------------------


def test_the_check_names_what_is_damaged_unreadable_or_misplaced(tmp_path: Path) -> None:
    blobs = {Ref.of(data): data for data in (b"damaged", b"misplaced", b"both", b"sound", b"cut")}
    with LocalDisk(tmp_path) as store:
        store.receive_many(blobs.items())
        damaged, misplaced, both, sound, cut = blobs
        (tmp_path / file_of(damaged)).write_bytes(b"damagee")
        (tmp_path / "sha224" / "old" / "er").mkdir(parents=True)
        os.rename(tmp_path / file_of(misplaced), tmp_path / f"sha224/old/er/{misplaced}.dat")
        os.rename(tmp_path / file_of(both), tmp_path / f"{both}.dat")
        (tmp_path / file_of(both)).write_bytes(b"bath")
        for harmless in (f"{sound}.dat", f"sha224/{cut}.dat", f"cache/{misplaced}.dat"):
            (tmp_path / harmless).parent.mkdir(exist_ok=True)
            (tmp_path / harmless).write_bytes(b"cu")
        (tmp_path / "up").symlink_to(tmp_path)
        found = list(store.check())
        assert {ref for ref, _ in found} == {damaged, misplaced, both}
        words = next(reason for ref, reason in found if ref == misplaced)
        assert words.endswith(f"{misplaced}.dat to {tmp_path / file_of(misplaced)}")
        store.receive_many(blobs.items())
        assert list(store.check()) == []
