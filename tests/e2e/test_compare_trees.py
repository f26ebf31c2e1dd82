"""The comparison must see every kind of difference that it promises to see."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.compare_trees import differences

NOON_NS = 1_600_000_000_123_456_789


def make_tree(root: Path) -> None:
    (root / "folder" / "empty").mkdir(parents=True)
    (root / "folder" / "text").write_bytes(b"some text")
    os.link(root / "folder" / "text", root / "hard link")
    os.symlink("folder/text", root / "link")
    os.symlink("folder", root / "link to a folder")
    os.mkfifo(root / "fifo")
    with (root / "sparse").open("wb") as sparse:
        sparse.seek(1 << 20)
        sparse.write(b"end")
    (root / os.fsdecode(b"odd \xff name")).write_bytes(b"")
    os.setxattr(root / "folder" / "text", "user.note", b"value")
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(NOON_NS, NOON_NS), follow_symlinks=False)


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("first", "second"):
        make_tree(tmp_path / name)
    return tmp_path / "first", tmp_path / "second"


def test_equal_trees_do_not_differ(trees: tuple[Path, Path]) -> None:
    assert list(differences(*trees)) == []


def overwrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    os.utime(path, ns=(NOON_NS, NOON_NS))


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)
    os.utime(path, ns=(NOON_NS, NOON_NS), follow_symlinks=False)


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # the name of a socket is at most 108 bytes
        server.bind(path.name)


CHANGES: dict[str, Callable[[Path], object]] = {
    "bytes": lambda root: overwrite(root / "folder" / "text", b"some tExt"),
    "size": lambda root: overwrite(root / "folder" / "text", b"some texts"),
    "mode": lambda root: (root / "folder").chmod(0o2755),
    "mtime": lambda root: os.utime(root / "link", ns=(0, NOON_NS + 1), follow_symlinks=False),
    "target": lambda root: replace(root / "link", lambda path: os.symlink("folder/tex", path)),
    "kind": lambda root: replace(root / "fifo", listen),
    "xattrs": lambda root: os.setxattr(root / "folder" / "text", "user.note", b"other"),
    "holes": lambda root: overwrite(root / "sparse", bytes(1 << 20) + b"end"),
    "there": lambda root: shutil.rmtree(root / "folder" / "empty"),
    "hard links": lambda root: replace(
        root / "hard link", lambda path: shutil.copy2(root / "folder" / "text", path)
    ),
}


@pytest.mark.parametrize("aspect", CHANGES)
def test_a_difference_is_seen(
    aspect: str, trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trees[1])
    CHANGES[aspect](trees[1])
    assert aspect in {difference.aspect for difference in differences(*trees)}


def test_files_are_compared_too(trees: tuple[Path, Path]) -> None:
    text = Path("folder") / "text"
    assert list(differences(trees[0] / text, trees[1] / text)) == []
    overwrite(trees[1] / text, b"some tExt")
    found = [str(difference) for difference in differences(trees[0] / text, trees[1] / text)]
    assert found == ["'.': bytes: 'from offset 6' != ''"]
