"""Putting trees: what is sent, in which order, and what happens when things go wrong."""

import hashlib
import os
import random
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.clients.backup import Hooks, count_tree
from peatkeep.clients.caches import UploadCache
from peatkeep.clients.files import FileOptions, StoredFile
from peatkeep.clients.ignore import Ignored
from peatkeep.clients.local import ChangedError
from peatkeep.clients.progress import Progress
from peatkeep.errors import Invalid, Unavailable
from peatkeep.schema.filereader import FileReader
from peatkeep.schema.filetree import PartMembers
from peatkeep.schema.parse import parse_object

from .stores import Target, put


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    rng = random.Random(1)
    for name in ("b", "a", "z/c", "y/x/w"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(1000))
    (root / "large").write_bytes(rng.randbytes(2_000_000))
    (root / "link").symlink_to("nowhere")
    (root / "empty").mkdir()
    return root


def schema_of(target: Target, ref: Ref) -> Mapping[str, object]:
    schema = parse_object(target.memory.fetch(ref))
    assert schema is not None
    return schema.members


def names_in(target: Target, directory: Ref) -> list[str]:
    entries = schema_of(target, directory)["entries"]
    members = schema_of(target, Ref(str(entries)))["members"]
    assert isinstance(members, list)
    return [str(schema_of(target, ref)["fileName"]) for ref in members]


def test_a_tree_is_stored_whole_and_gives_the_same_ref_again(tree: Path) -> None:
    first, second = Target(), Target()
    ref = put(first, tree)
    assert ref is not None
    assert ref == put(second, tree)
    assert set(first.memory.enumerate()) == set(second.memory.enumerate())
    assert names_in(first, ref) == ["a", "b", "large", "link", "empty", "y", "z"]


def test_small_files_share_requests(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}").write_bytes(b"%d" % number)
    target = Target()
    put(target, tmp_path)
    assert len(target.sent) == 602
    assert len(target.requests) <= 4


def test_a_file_is_never_sent_before_its_chunks(tree: Path) -> None:
    for number in range(20):
        data = random.Random(number).randbytes(700_000)
        (tree / f"more{number}").write_bytes(data)
    target = Target()

    def check(batch: Sequence[tuple[Ref, bytes]]) -> None:
        here: dict[Ref, bytes] = {}
        for ref, data in batch:
            schema = parse_object(data) if data[:1] == b"{" else None
            if schema is not None and schema.type == "file":
                there = Memory()
                there.receive_many([*target.memory._blobs.items(), *here.items()])
                assert len(b"".join(FileReader(there, schema).stream())) >= 1000
            here[ref] = data

    target.before = check
    assert put(target, tree) is not None
    assert len(target.requests) > 1


def test_a_blob_is_sent_once(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(900_000)
    for name in "abcdef":
        (tmp_path / name).write_bytes(data)
    target = Target()
    put(target, tmp_path)
    assert len(target.sent) == len(set(target.sent))


def test_an_unchanged_tree_is_not_sent_again(tree: Path, tmp_path: Path) -> None:
    cache = UploadCache(tmp_path / "cache")
    first = put(Target(), tree, cache=cache)
    cache.close()
    cache, target, progress = UploadCache(tmp_path / "cache"), Target(), Progress()
    assert put(target, tree, cache=cache, progress=progress) == first
    assert target.sent == []
    assert progress.unchanged_files == 5


def test_a_change_with_size_and_mtime_put_back_is_sent(tree: Path, tmp_path: Path) -> None:
    cache = UploadCache(tmp_path / "cache")
    put(Target(), tree, cache=cache)
    before = (tree / "a").stat()
    (tree / "a").write_bytes(b"x" * before.st_size)
    os.utime(tree / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    target = Target()
    put(target, tree, cache=cache)
    assert Ref.of(b"x" * before.st_size) in target.sent


def test_a_file_changed_just_now_is_not_trusted(tree: Path, tmp_path: Path) -> None:
    cache = UploadCache(tmp_path / "cache")
    just_now_ns = (tree / "a").stat().st_ctime_ns + 1_000_000_000
    put(Target(), tree / "a", cache=cache, now_ns=just_now_ns)
    assert cache.folder(os.fsencode(tree), "") == {}
    put(Target(), tree / "a", cache=cache, now_ns=just_now_ns + 2_000_000_000)
    assert list(cache.folder(os.fsencode(tree), "")) == [b"a"]


def test_results_of_other_options_are_not_reused(tree: Path) -> None:
    (tree / "a").chmod(0o4755)
    cache = UploadCache(None)
    own = put(Target(), tree / "a", cache=cache)
    plain = put(Target(), tree / "a", cache=cache, options=FileOptions(plain=True))
    assert own != plain


def test_an_unreadable_file_is_named_and_the_rest_stored(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = os.open

    def refuse(path: object, *args: object, **options: object) -> int:
        if path == os.fsencode(tree / "a"):
            raise PermissionError(13, "Permission denied", path)
        return real_open(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    target, progress = Target(), Progress()
    ref = put(target, tree, progress=progress)
    assert ref is not None
    assert [type(problem) for problem in progress.problems] == [PermissionError]
    assert str(tree / "a") in str(progress.problems[0])
    assert "a" not in names_in(target, ref)
    assert "b" in names_in(target, ref)


def test_a_file_that_shrinks_while_it_is_read_is_named(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_pread = os.pread

    def shrink(descriptor: int, length: int, offset: int) -> bytes:
        if os.fstat(descriptor).st_ino == (tree / "a").stat().st_ino:
            os.truncate(tree / "a", 10)
        return real_pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", shrink)
    target, progress = Target(), Progress()
    ref = put(target, tree, progress=progress)
    assert ref is not None
    assert [type(problem) for problem in progress.problems] == [ChangedError]
    assert str(tree / "a") in str(progress.problems[0])
    assert "b" in names_in(target, ref)


def test_a_file_that_grows_is_stored_up_to_its_size(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (tree / "a").read_bytes()
    real_pread = os.pread

    def grow(descriptor: int, length: int, offset: int) -> bytes:
        with (tree / "a").open("ab") as file:
            file.write(b"more")
        return real_pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", grow)
    target, progress, cache = Target(), Progress(), UploadCache(None)
    put(target, tree / "a", progress=progress, cache=cache)
    assert progress.problems == []
    assert Ref.of(before) in target.sent
    # It is not remembered: what it holds now was not stored.
    assert cache.folder(os.fsencode(tree), "") == {}


def test_a_file_that_vanishes_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_open = os.open

    def vanish(path: object, *args: object, **options: object) -> int:
        if path == os.fsencode(tree / "a"):
            (tree / "a").unlink()
        return real_open(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", vanish)
    progress = Progress()
    assert put(Target(), tree, progress=progress) is not None
    assert [type(problem) for problem in progress.problems] == [FileNotFoundError]


def test_a_fifo_that_takes_the_place_of_a_file_is_not_waited_for(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_open = os.open

    def swap(path: object, *args: object, **options: object) -> int:
        if path == os.fsencode(tree / "a"):
            (tree / "a").unlink()
            os.mkfifo(tree / "a")
        return real_open(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", swap)
    progress = Progress()
    put(Target(), tree, progress=progress)
    assert [type(problem) for problem in progress.problems] == [ChangedError]


def test_a_missing_argument_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        put(Target(), tmp_path / "nothing")


def test_a_failing_server_ends_the_backup(tree: Path) -> None:
    target = Target()

    def fail(batch: object) -> None:
        raise Unavailable("upload", "blobs", "as ordered")

    target.before = fail
    with pytest.raises(Unavailable, match="as ordered"):
        put(target, tree)


def test_nothing_is_remembered_of_what_was_not_acknowledged(tree: Path) -> None:
    target, cache = Target(), UploadCache(None)
    count = 0

    def fail_later(batch: object) -> None:
        nonlocal count
        count += 1
        if count > 1:
            raise Unavailable("upload", "blobs", "as ordered")

    target.before = fail_later
    for number in range(30):
        (tree / f"n{number}").write_bytes(random.Random(number).randbytes(600_000))
    with pytest.raises(Unavailable):
        put(target, tree, cache=cache)
    there = {found.ref for found in target.memory.enumerate()}
    for remembered in cache.folder(os.fsencode(tree), "").values():
        assert remembered.ref in there
    # A second run sends what is missing, and the result is whole.
    target.before = lambda batch: None
    assert put(target, tree, cache=cache) == put(Target(), tree)


def test_a_refused_file_is_a_problem_and_the_rest_is_stored(tree: Path) -> None:
    class Refusing(Target):
        def upload(self, batch: Sequence[tuple[Ref, bytes]], vivify: bool = False):  # type: ignore[no-untyped-def]
            bad = [blob for blob in batch if b'"fileName": "a"' in blob[1]]
            good = [blob for blob in batch if blob not in bad]
            outcome = super().upload(good)
            refused = [(ref, Invalid("upload", ref, "refused")) for ref, _ in bad]
            return outcome._replace(refused=refused)

    progress, cache = Progress(), UploadCache(None)
    put(Refusing(), tree, progress=progress, cache=cache)
    assert [type(problem) for problem in progress.problems] == [Invalid]
    assert b"a" not in cache.folder(os.fsencode(tree), "")
    assert b"b" in cache.folder(os.fsencode(tree), "")


def test_ignored_files_are_left_out(tree: Path) -> None:
    hooks = Hooks(is_ignored=Ignored(["a", str(tree / "z")], {}))
    target = Target()
    ref = put(target, tree, hooks=hooks)
    assert ref is not None
    assert names_in(target, ref) == ["b", "large", "link", "empty", "y"]
    assert put(target, tree / "a", hooks=hooks) is None


def test_special_files_are_stored(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        target = Target()
        ref = put(target, tmp_path)
    assert ref is not None
    assert names_in(target, ref) == ["fifo", "socket"]


def test_holes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 200 * 1024 * 1024
    with (tmp_path / "sparse").open("wb") as file:
        file.seek(size - 10)
        file.write(b"end")
        file.truncate(size)
    read: list[int] = []
    real_pread = os.pread

    def count(descriptor: int, length: int, offset: int) -> bytes:
        read.append(length)
        return real_pread(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", count)
    target = Target()
    ref = put(target, tmp_path / "sparse")
    assert ref is not None
    assert sum(read) <= 64 * 1024
    assert len(set(target.sent)) < 20
    assert schema_of(target, ref)["unixHoles"]


def test_stored_files_are_told_with_the_digest_of_their_contents(tree: Path) -> None:
    told: dict[bytes, StoredFile] = {}
    lock = threading.Lock()

    def stored(path: bytes, file: StoredFile) -> None:
        with lock:
            told[os.path.basename(path)] = file

    cache = UploadCache(None)
    for _ in range(2):  # the second time from the cache
        told.clear()
        options = FileOptions(needs_whole=True)
        put(Target(), tree, hooks=Hooks(stored=stored), cache=cache, options=options)
        assert sorted(told) == [b"a", b"b", b"c", b"large", b"w"]
        digest = hashlib.sha224((tree / "large").read_bytes()).digest()
        assert told[b"large"].whole == Ref.from_digest("sha224", digest)


class KnownCopy:
    """Says that the server has every file, as one part."""

    hash_names = ("sha224",)

    def __init__(self) -> None:
        self.asked: list[Ref] = []
        self.first_chunks: set[Ref] = set()

    def may_exist(self, first_chunk: Ref) -> bool:
        return first_chunk in self.first_chunks

    def parts_of(self, whole: Mapping[str, Ref]) -> list[PartMembers] | None:
        self.asked.append(whole["sha224"])
        return [{"blobRef": whole["sha224"], "size": 2_000_000}]


def test_a_file_that_the_server_has_is_not_sent(tree: Path) -> None:
    target, copies = Target(), KnownCopy()
    ref = put(target, tree, copies=copies)
    large = Ref.of((tree / "large").read_bytes())
    assert ref is not None
    assert copies.asked == [large]  # small files are not asked for
    assert not any(found.size > 100_000 for found in target.memory.enumerate())


def test_a_large_file_is_only_read_twice_if_there_may_be_a_copy(tmp_path: Path) -> None:
    data = bytes(300_000) + random.Random(1).randbytes(17_000_000)
    (tmp_path / "large").write_bytes(data)
    copies = KnownCopy()
    put(Target(), tmp_path / "large", copies=copies)
    assert copies.asked == []
    copies.first_chunks.add(Ref.of(data[: 256 * 1024]))
    put(Target(), tmp_path / "large", copies=copies)
    assert copies.asked == [Ref.from_digest("sha224", hashlib.sha224(data).digest())]


def test_a_digest_that_is_needed_is_found_out_later(tree: Path) -> None:
    cache, told = UploadCache(None), []
    put(Target(), tree / "large", cache=cache)
    hooks = Hooks(stored=lambda path, stored: told.append(stored.whole))
    put(Target(), tree / "large", cache=cache, hooks=hooks, options=FileOptions(needs_whole=True))
    assert told == [Ref.of((tree / "large").read_bytes())]


def test_a_tree_is_counted_ahead(tree: Path) -> None:
    counts = list(count_tree(os.fsencode(tree), lambda _: False))
    assert sum(files for files, _ in counts) == 6
    assert sum(size for _, size in counts) == 2_004_000


def test_the_current_directory_is_stored_under_its_name(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    target = Target()
    ref, plain = put(target, "."), put(target, ".", options=FileOptions(plain=True))
    assert ref is not None
    assert plain is not None
    assert schema_of(target, ref)["fileName"] == "tree"
    assert schema_of(target, plain)["fileName"] == "."
