"""The inputs of the benchmarks, made from a fixed seed: the same bytes on every machine.

    inputs.py FOLDER      make them all below FOLDER, unless they are there

Text like source code (compressible 3 to 4 times, no long repeats), random bytes, a source tree,
and many small files. The sizes are those of the figures that we compare with.
"""

import os
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

SEED = 20260101
LARGE_BYTES = 450_000_000
TREE_FILES, TREE_BYTES = 1_432, 18_700_000  # 22 MB on disk
SMALL_FILES, SMALL_BYTES = 2_000, 10_240
EPOCH_S = 1_600_000_000


class Text:
    """Endless text that compresses as source code does."""

    WORDS = 40_000
    BLOCK_WORDS = 1 << 16

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        letters = np.frombuffer(b"etaoinshrdlucmfwypvbgkqjxz_0123456789", dtype=np.uint8)
        lengths = self.random.integers(2, 12, self.WORDS)
        self.words = np.array(
            [letters[self.random.integers(0, 30, length)].tobytes() for length in lengths],
            dtype=object,
        )
        marks = [b" ", b" ", b" ", b"(", b") ", b" = ", b", ", b".", b"\n    ", b"\n        "]
        self.marks = np.array(marks, dtype=object)

    def block(self) -> bytes:
        # Few words make up most of a source, and a file speaks of few things at a time.
        rare = self.random.zipf(1.5, self.BLOCK_WORDS) % self.WORDS
        near = self.random.integers(0, self.WORDS) + self.random.integers(0, 60, self.BLOCK_WORDS)
        chosen = np.where(self.random.random(self.BLOCK_WORDS) < 0.5, rare, near % self.WORDS)
        parts = np.empty(2 * self.BLOCK_WORDS, dtype=object)
        parts[0::2] = self.words[chosen]
        parts[1::2] = self.marks[self.random.integers(0, len(self.marks), self.BLOCK_WORDS)]
        return b"".join(parts)

    def files(self, sizes: Iterator[int]) -> Iterator[bytes]:
        """Yield one text of each size."""
        rest = b""
        for size in sizes:
            pieces, length = [rest], len(rest)
            while length < size:
                pieces.append(self.block())
                length += len(pieces[-1])
            joined = b"".join(pieces)
            yield joined[:size]
            rest = joined[size:]


def log_normal_sizes(seed: int, count: int, total: int) -> list[int]:
    """File sizes as in a source tree: most are small, a few are large; they sum up to `total`."""
    drawn = np.random.default_rng(seed).lognormal(8.6, 1.4, count)
    sizes = np.maximum(1, drawn * total / drawn.sum()).astype(int)
    sizes[-1] += total - int(sizes.sum())
    return [int(size) for size in sizes]


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (EPOCH_S, EPOCH_S))


def text_tar(path: Path) -> None:
    """A tar of text files, LARGE_BYTES long give or take one of them."""
    mean = 16_000
    count = LARGE_BYTES // (mean + 768)
    sizes = log_normal_sizes(SEED, count, count * mean)
    with tarfile.open(path, "w") as tar:
        from io import BytesIO

        for number, data in enumerate(Text(SEED).files(iter(sizes))):
            entry = tarfile.TarInfo(f"source/{number % 97:02}/{number // 97:05}.py")
            entry.size, entry.mtime = len(data), EPOCH_S
            tar.addfile(entry, BytesIO(data))


def random_bytes(path: Path) -> None:
    random = np.random.default_rng(SEED)
    with path.open("wb") as file:
        for begin in range(0, LARGE_BYTES, 1 << 24):
            file.write(random.bytes(min(1 << 24, LARGE_BYTES - begin)))


def source_tree(path: Path) -> None:
    sizes = log_normal_sizes(SEED + 1, TREE_FILES, TREE_BYTES)
    for number, data in enumerate(Text(SEED + 1).files(iter(sizes))):
        write(path / f"area{number % 13}" / f"part{number % 9}" / f"module{number}.py", data)


def small_files(path: Path) -> None:
    random = np.random.default_rng(SEED + 2)
    for number in range(SMALL_FILES):
        write(path / f"{number:05}.bin", random.bytes(SMALL_BYTES))


MAKERS: dict[str, Callable[[Path], None]] = {
    "large.tar": text_tar,
    "random.bin": random_bytes,
    "tree": source_tree,
    "small": small_files,
}


def make(folder: Path, name: str) -> Path:
    """The input of this name below `folder`, made if it is not there; renamed when whole."""
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"{name}.unfinished"
        MAKERS[name](unfinished)
        os.sync()  # or whoever is measured next waits for the disk too
        unfinished.rename(path)
    return path


if __name__ == "__main__":
    for name in MAKERS:
        print(make(Path(sys.argv[1]), name))
