"""Reads encrypted stores as Perkeep does, without any of our code."""

import hashlib
import re
from pathlib import Path

import plyvel
import pyrage

LINE = re.compile(r"([a-z0-9]+-[0-9a-f]+)/([0-9]+)/(sha224-[0-9a-f]{56})")
HEADER = "#camlistore/encmeta=2"
OVERHEAD = 185
LIMIT = 16 * 1024 * 1024

Identity = pyrage.x25519.Identity


def files(root: Path) -> dict[str, bytes]:
    """The loose blobs of a folder; every digest is checked, and every place."""
    found = {}
    for path in root.glob("sha224/??/??/sha224-*.dat"):
        data = path.read_bytes()
        digest = hashlib.sha224(data).hexdigest()
        if path.name != f"sha224-{digest}.dat" or path.parts[-3:-1] != (digest[:2], digest[2:4]):
            raise ValueError(f"{path} holds {digest}")
        found[path.stem] = data
    return found


def decrypt(sealed: bytes, identity: Identity) -> bytes:
    if len(sealed) > LIMIT or sealed[:1] != b"\x02":
        raise ValueError(f"no sealed blob: {sealed[:30]!r}")
    if not sealed[1:].startswith(b"age-encryption.org/v1\n-> X25519 "):
        raise ValueError("no binary age file for one X25519 key")
    data: bytes = pyrage.decrypt(sealed[1:], [identity])
    if len(sealed) < len(data) + OVERHEAD + 16 * max(1, -(-len(data) // 65536)):
        raise ValueError("shorter than its content")
    return data


def rows_of_metas(root: Path, identity: Identity) -> dict[str, list[tuple[int, str]]]:
    """What the meta blobs say: ref -> (size, sealed ref)."""
    rows: dict[str, list[tuple[int, str]]] = {}
    for name, sealed in files(root).items():
        text = decrypt(sealed, identity).decode()
        head, *lines = text.split("\n")
        if head != HEADER or lines.pop() != "" or lines != sorted(lines):
            raise ValueError(f"meta blob {name} is not as Perkeep writes it")
        for line in lines:
            match = LINE.fullmatch(line)
            if match is None or match[2] != str(int(match[2])):
                raise ValueError(f"meta blob {name} says {line!r}")
            rows.setdefault(match[1], []).append((int(match[2]), match[3]))
    return rows


def rows_of_index(index: Path) -> dict[str, list[tuple[int, str]]]:
    """What the LevelDB index says."""
    database = plyvel.DB(str(index), create_if_missing=False)
    try:
        rows = {}
        for key, value in database:
            size, sealed = value.decode().split("/")
            rows[key.decode()] = [(int(size), sealed)]
        return rows
    finally:
        database.close()


def read_all(
    rows: dict[str, list[tuple[int, str]]], root: Path, identity: Identity
) -> dict[str, bytes]:
    """Every blob of these rows, each of its copies; sizes and digests are checked."""
    sealed = files(root)
    blobs = {}
    for ref, places in rows.items():
        for size, name in places:
            data = decrypt(sealed[name], identity)
            kind, _, digest = ref.partition("-")
            if len(data) != size or hashlib.new(kind, data).hexdigest() != digest:
                raise ValueError(f"{name} is not {ref}")
            blobs[ref] = data
    return blobs
