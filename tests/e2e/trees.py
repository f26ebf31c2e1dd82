"""Trees with everything in them that a backup may meet."""

import base64
import json
import os
import random
import runpy
import socket
import stat
from collections.abc import Callable
from pathlib import Path

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "schema"
NULL_DEVICE = os.makedev(1, 3)
MEGABYTE = 1 << 20


def odd_names(root: Path) -> None:
    """The tree of the golden data: every odd name, kind, mode and time, below `root`.

    `.DS_Store` is left out, which a fresh configuration ignores; the device needs root.
    """
    make_data = runpy.run_path(str(VECTORS / "generators.py"))["make"]
    entries = json.loads((VECTORS / "dirtree.json").read_text())["entries"]
    kept = [entry for entry in entries if base64.b64decode(entry["path_b64"]) != b".DS_Store"]
    if os.geteuid() != 0:
        kept = [entry for entry in kept if entry["kind"] != "char-device"]
    by_path = sorted(kept, key=lambda entry: base64.b64decode(entry["path_b64"]))
    linked: dict[str, bytes] = {}
    for entry in by_path:
        path = path_of(root, entry)
        make_node(path, entry, make_data)
        if entry["nlink"] > 1 and entry["kind"] == "regular":
            first = linked.setdefault(entry["gen"]["text"], path)
            if first != path:
                os.unlink(path)
                os.link(first, path)
    # Modes and times last, members before their folders: either may forbid or undo the other.
    for entry in reversed(by_path):
        path = path_of(root, entry)
        if os.geteuid() == 0:
            os.lchown(path, entry["uid"], entry["gid"])
        if entry["kind"] != "symlink":
            os.chmod(path, int(entry["mode"], 8))
        os.utime(path, ns=(entry["mtime_ns"], entry["mtime_ns"]), follow_symlinks=False)


def path_of(root: Path, entry: dict[str, str]) -> bytes:
    return os.path.join(os.fsencode(root), base64.b64decode(entry["path_b64"])).rstrip(b"/")


def make_node(path: bytes, entry: dict[str, str], make_data: Callable[[object], bytes]) -> None:
    kind = entry["kind"]
    if kind == "directory":
        os.makedirs(path, exist_ok=True)
    elif kind == "symlink":
        os.symlink(base64.b64decode(entry["target_b64"]), path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        make_socket(path)
    elif kind == "char-device":
        os.mknod(path, stat.S_IFCHR | 0o600, NULL_DEVICE)
    else:
        with open(path, "wb") as file:
            file.write(make_data(entry["gen"]))


def make_socket(path: bytes) -> None:
    """A socket's name may be at most 108 bytes long: reach it through its folder's descriptor."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(b"/proc/self/fd/%d/%s" % (folder, os.path.basename(path)))
    finally:
        os.close(folder)


def hard_links(root: Path) -> None:
    """Groups of hard links, within a folder and across, empty ones too."""
    (root / "one").mkdir(parents=True)
    (root / "two").mkdir()
    for name, data in {"text": b"linked", "empty": b"", "large": bytes(range(256)) * 2000}.items():
        (root / "one" / name).write_bytes(data)
        os.link(root / "one" / name, root / "one" / f"{name} again")
        os.link(root / "one" / name, root / "two" / name)
    (root / "two" / "equal, not linked").write_bytes(b"linked")
    os.symlink("text", root / "one" / "symlink")


def sparse(root: Path, size_bytes: int) -> None:
    """Files with holes at the front, inside and at the end; one is nothing but a hole."""
    root.mkdir(parents=True)
    dice = random.Random(size_bytes)
    with (root / "inside").open("wb") as file:
        for begin in range(0, size_bytes, max(MEGABYTE, size_bytes // 5)):
            file.seek(begin + MEGABYTE // 2)
            file.write(dice.randbytes(100_000))
        file.truncate(size_bytes)
    with (root / "hole").open("wb") as file:
        file.truncate(size_bytes // 2)
    with (root / "holes in blocks").open("wb") as file:
        for block in range(0, 64, 2):
            file.seek(block * 4096)
            file.write(dice.randbytes(4096))


def attributes(root: Path) -> None:
    """Extended attributes, with odd values, on a file and a folder."""
    root.mkdir(parents=True)
    (root / "file").write_bytes(b"with attributes")
    for path in (root, root / "file"):
        os.setxattr(path, "user.text", b"value")
        os.setxattr(path, "user.bytes", bytes(range(256)))
        os.setxattr(path, "user.empty", b"")


def wide(root: Path, count: int) -> None:
    """A folder with so many members that its set is split."""
    root.mkdir(parents=True)
    for number in range(count):
        (root / f"{number:06}").write_bytes(b"" if number % 3 else b"%d" % number)


def deep(root: Path, depth: int) -> None:
    """A folder in a folder in a folder."""
    path = root / "/".join(["f"] * depth)
    path.mkdir(parents=True)
    (path / "leaf").write_bytes(b"leaf")
