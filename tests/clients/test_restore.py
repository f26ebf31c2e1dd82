"""Restoring: identical, whole or not at all, and never outside of the target."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.clients.contents import Found
from peatkeep.clients.files import FileOptions
from peatkeep.clients.progress import Progress
from peatkeep.clients.restore import Restore
from peatkeep.clients.writing import TEMPORARY_PREFIX
from peatkeep.errors import Corrupt, Invalid, NotFound, StoreError, Unavailable
from peatkeep.schema.directory import static_set_blobs
from peatkeep.schema.text import encode
from tests.e2e import trees
from tests.e2e.compare_trees import differences

from .stores import Target, put, restore

TREES: dict[str, Callable[[Path], None]] = {
    "odd names": trees.odd_names,
    "hard links": trees.hard_links,
    "holes": partial(trees.sparse, size_bytes=20 * trees.MEGABYTE),
    "attributes": trees.attributes,
    "deep": partial(trees.deep, depth=60),
}
IS_ROOT = os.geteuid() == 0


def blob(target: Target, **members: object) -> Ref:
    """Store a schema blob of these members."""
    text = encode(members)
    target.memory.receive(Ref.of(text), text)
    return Ref.of(text)


def file_blob(target: Target, name: str, data: bytes, **members: object) -> Ref:
    chunk = Ref.of(data)
    target.memory.receive(chunk, data)
    parts = [{"blobRef": chunk, "size": len(data)}]
    return blob(target, camliType="file", fileName=name, parts=parts, **members)


def folder_blob(target: Target, name: str, members: Iterable[Ref]) -> Ref:
    blobs = static_set_blobs(list(members))
    target.memory.receive_many(blobs)
    return blob(target, camliType="directory", fileName=name, entries=blobs[-1][0])


def message(progress: Progress) -> str:
    (problem,) = progress.problems
    return str(problem)


@pytest.mark.parametrize("kind", TREES)
def test_a_tree_comes_back_identical(kind: str, tmp_path: Path) -> None:
    tree, target = tmp_path / "tree", Target()
    TREES[kind](tree)
    ref = put(target, tree)
    assert ref is not None
    progress = restore(target, ref, tmp_path / "out")
    assert progress.problems == []
    assert list(map(str, differences(tree, tmp_path / "out" / "tree", owners=IS_ROOT))) == []
    # Again, onto what is there: nothing is written, nothing changes.
    again = restore(target, ref, tmp_path / "out")
    assert again.problems == []
    assert list(map(str, differences(tree, tmp_path / "out" / "tree", owners=IS_ROOT))) == []


@pytest.mark.parametrize("stored", [0, 12])
def test_groups_are_set_below_a_folder_that_gives_its_own(stored: int, tmp_path: Path) -> None:
    target, out = Target(), tmp_path / "out"
    out.mkdir()
    if IS_ROOT:
        os.chown(out, 0, 12)
        out.chmod(0o2755)
    files = [
        file_blob(target, f"{letter}{number}", b"x", unixOwnerId=number, unixGroupId=stored)
        for letter in "ab"
        for number in (0, 7)
    ]
    inner = folder_blob(target, "inner", files)
    top = folder_blob(target, "new", [inner, file_blob(target, "beside", b"", unixOwnerId=0)])
    assert restore(target, top, out).problems == []
    if IS_ROOT:
        made = {path.name: path.stat() for path in (out / "new" / "inner").iterdir()}
        assert {name: (found.st_uid, found.st_gid) for name, found in made.items()} == {
            f"{letter}{number}": (number, stored) for letter in "ab" for number in (0, 7)
        }


def test_large_files_come_back_in_stretches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("peatkeep.clients.restore.STRETCH_BYTES", 700_001)
    data = os.urandom(5_000_000)
    (tmp_path / "large").write_bytes(data)
    target = Target()
    ref = put(target, tmp_path / "large")
    assert ref is not None
    restore(target, ref, tmp_path / "out")
    assert list(differences(tmp_path / "large", tmp_path / "out" / "large")) == []


def test_a_directory_of_more_than_ten_thousand_comes_back(tmp_path: Path) -> None:
    target = Target()
    members = [
        blob(target, camliType="symlink", fileName=f"{n}", symlinkTarget="x") for n in range(10_050)
    ]
    restore(target, folder_blob(target, "d", members), tmp_path)
    assert len(list((tmp_path / "d").iterdir())) == 10_050


def test_what_perkeep_writes_comes_back(tmp_path: Path) -> None:
    tree, target = tmp_path / "tree", Target()
    trees.hard_links(tree)
    ref = put(target, tree, options=FileOptions(plain=True))
    assert ref is not None
    assert restore(target, ref, tmp_path / "out").problems == []


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../../up", "/etc/passwd", "nul\0", ""])
def test_a_name_that_leads_elsewhere_is_refused_and_the_rest_made(
    name: str, tmp_path: Path
) -> None:
    target = Target()
    members = [file_blob(target, name, b"evil"), file_blob(target, "good", b"good")]
    out = tmp_path / "out"
    progress = restore(target, folder_blob(target, "d", members), out)
    assert "not a name" in message(progress)
    assert isinstance(progress.problems[0], Invalid)
    assert (out / "d" / "good").read_bytes() == b"good"
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "d", "good"]


def test_a_folder_that_is_a_link_on_disk_is_not_entered(tmp_path: Path) -> None:
    elsewhere, out, target = tmp_path / "elsewhere", tmp_path / "out", Target()
    elsewhere.mkdir()
    link = blob(target, camliType="symlink", fileName="sub", symlinkTarget=str(elsewhere))
    folder = folder_blob(target, "sub", [file_blob(target, "evil", b"evil")])
    progress = restore(target, folder_blob(target, "d", [link, folder]), out)
    assert len(progress.problems) == 1
    assert list(elsewhere.iterdir()) == []


def test_a_file_replaces_a_link_and_does_not_follow_it(tmp_path: Path) -> None:
    precious, out, target = tmp_path / "precious", tmp_path / "out", Target()
    precious.write_bytes(b"mine")
    out.mkdir()
    (out / "a").symlink_to(precious)
    restore(target, file_blob(target, "a", b"new"), out)
    assert precious.read_bytes() == b"mine"
    assert (out / "a").read_bytes() == b"new"
    assert not (out / "a").is_symlink()


def test_a_missing_chunk_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    target = Target()
    bad, good = file_blob(target, "bad", b"gone"), file_blob(target, "good", b"good")
    target.memory.remove([Ref.of(b"gone")])
    progress = restore(target, folder_blob(target, "d", [bad, good]), tmp_path)
    assert isinstance(progress.problems[0], NotFound)
    assert str(tmp_path / "d" / "bad") in message(progress)
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["good"]


def test_a_corrupt_chunk_is_named_and_leaves_no_file(tmp_path: Path) -> None:
    target = Target()
    ref = file_blob(target, "bad", b"right")
    target.memory._blobs[Ref.of(b"right")] = b"wrong"
    progress = restore(target, ref, tmp_path)
    assert isinstance(progress.problems[0], Corrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_member_is_a_problem_and_the_rest_made(tmp_path: Path) -> None:
    target = Target()
    good = file_blob(target, "good", b"good")
    progress = restore(target, folder_blob(target, "d", [Ref.of(b"absent"), good]), tmp_path)
    assert isinstance(progress.problems[0], NotFound)
    assert (tmp_path / "d" / "good").exists()


def test_a_size_that_lies_is_a_problem(tmp_path: Path) -> None:
    target = Target()
    target.memory.receive(Ref.of(b"abc"), b"abc")
    parts = [{"blobRef": Ref.of(b"abc"), "size": 1000}]
    ref = blob(target, camliType="file", fileName="f", parts=parts)
    progress = restore(target, ref, tmp_path)
    assert isinstance(progress.problems[0], StoreError)
    assert list(tmp_path.iterdir()) == []


def test_a_blob_that_is_no_node_is_refused(tmp_path: Path) -> None:
    target = Target()
    ref = blob(target, camliType="permanode", random="x")
    with pytest.raises(Invalid):
        restore(target, ref, tmp_path)
    with pytest.raises(NotFound):
        restore(target, Ref.of(b"absent"), tmp_path)


def test_a_file_of_equal_size_and_mtime_is_left_alone(tmp_path: Path) -> None:
    target = Target()
    ref = file_blob(target, "f", b"new!", unixMtime="2020-01-01T00:00:00Z")
    (tmp_path / "f").write_bytes(b"old!")
    os.utime(tmp_path / "f", (1577836800, 1577836800))
    assert restore(target, ref, tmp_path).unchanged_files == 1
    assert (tmp_path / "f").read_bytes() == b"old!"
    os.utime(tmp_path / "f", (1577836801, 1577836801))
    restore(target, ref, tmp_path)
    assert (tmp_path / "f").read_bytes() == b"new!"


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    target = Target()
    ref = folder_blob(target, "d", [file_blob(target, "f", b"f")])
    (tmp_path / "d").mkdir()
    gone = 2**22 + 1  # above the largest process number
    dead = tmp_path / "d" / os.fsdecode(TEMPORARY_PREFIX + b"%d-00" % gone)
    mine = tmp_path / "d" / os.fsdecode(TEMPORARY_PREFIX + b"%d-00" % os.getpid())
    dead.touch()
    mine.touch()
    restore(target, ref, tmp_path)
    assert not dead.exists()
    assert mine.exists()


def test_a_full_disk_ends_the_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target()
    files = [file_blob(target, f"{n}", b"x" * 100 + b"%d" % n) for n in range(3)]

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("peatkeep.clients.writing.write_whole", full)
    with pytest.raises(OSError, match=r"No space left.*/d/[0-2]"):
        restore(target, folder_blob(target, "d", files), tmp_path)
    assert list((tmp_path / "d").iterdir()) == []


def test_a_dead_server_ends_the_restore(tmp_path: Path) -> None:
    class Dying(Target):
        def __init__(self) -> None:
            super().__init__()
            self.fetch_many = self._die

        def _die(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, Found]]:
            raise Unavailable("fetch", "blobs", "as ordered")

    target = Dying()
    ref = folder_blob(target, "d", [file_blob(target, "f", b"f")])
    with pytest.raises(Unavailable, match="as ordered"):
        Restore(target, os.fsencode(tmp_path), Progress()).restore(ref)


def test_irregular_nodes_can_be_left_out(tmp_path: Path) -> None:
    target = Target()
    link = blob(target, camliType="symlink", fileName="l", symlinkTarget="x")
    fifo = blob(target, camliType="fifo", fileName="p")
    ref = folder_blob(target, "d", [link, fifo, file_blob(target, "f", b"f")])
    Restore(target, os.fsencode(tmp_path), Progress(), skip_irregular=True).restore(ref)
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["f"]


def test_a_hole_that_lies_about_its_bytes_is_written(tmp_path: Path) -> None:
    target = Target()
    ref = file_blob(target, "f", b"not a hole", unixHoles=[[0, 4], [6, 4]])
    restore(target, ref, tmp_path)
    assert (tmp_path / "f").read_bytes() == b"not a hole"
