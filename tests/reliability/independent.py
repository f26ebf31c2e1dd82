"""What we write is read by programs that share no code with us, byte for byte.

Mixed blobs, some written twice and some removed, then the store is closed and the readers of
tests/independent take it apart: each knows the format from its description, and imports the
standard library, plyvel and pyrage only. The planted bugs are a flipped bit, and a blob that is
counted as stored and is not.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from peatkeep.blob import Ref
from peatkeep.blobserver.blobpacked import BlobPacked
from peatkeep.blobserver.encrypt.sealing import MAX_PLAIN_SIZE
from tests.blobserver.encrypt.stores import TEST_ONLY_IDENTITY
from tests.independent import blobpacked, diskpacked, encrypt, localdisk
from tests.reliability.stores import Blobs, file_batch, opened
from tests.reliability.verdict import Verdict

PLANTED_COUNT = 100
BATCH_MOST = 200
FILE_SHARE = 0.01
"""Of the batches: files that blobpacked packs."""

REMOVED_SHARE = 0.02
HASHES = ("sha224", "sha224", "sha224", "sha1", "sha256")

Read = Callable[[Path], dict[str, bytes]]
"""Reads all blobs of a store's folder; raises ValueError, AssertionError where it is not sound."""


def read_diskpacked(folder: Path) -> dict[str, bytes]:
    """By the index, and once more from header to header."""
    packs = folder / "packs"
    blobs = diskpacked.read_by_index(packs)
    walked = {ref: data for _, ref, data in diskpacked.walk_as_perkeep(packs)}
    if walked != blobs:
        raise ValueError(f"{len(walked.keys() ^ blobs.keys())} blobs in the packs or index alone")
    return blobs


def read_blobpacked(folder: Path) -> dict[str, bytes]:
    blobs = blobpacked.read_all(folder / "blobs")
    blobpacked.whole_files(folder / "blobs")  # unzips them, and checks their digests
    return blobs


def read_encrypt(folder: Path) -> dict[str, bytes]:
    """By the meta blobs; the index must lead to the same."""
    identity = encrypt.Identity.from_str(TEST_ONLY_IDENTITY)
    rows = encrypt.rows_of_metas(folder / "metas", identity)
    index = encrypt.rows_of_index(folder / "index.leveldb")
    if any(places[0] not in rows.get(ref, ()) for ref, places in index.items()):
        raise ValueError("the index says what no meta blob says")
    if index.keys() != rows.keys():
        raise ValueError(f"{len(rows.keys() - index.keys())} blobs are not in the index")
    return encrypt.read_all(rows, folder / "sealed", identity)


READERS: dict[str, Read] = {
    "localdisk": lambda folder: localdisk.read_all(folder / "blobs"),
    "diskpacked": read_diskpacked,
    "blobpacked": read_blobpacked,
    "encrypt": read_encrypt,
}


def batches(dice: random.Random, count: int) -> Iterator[Blobs]:
    """At least `count` blobs of all sizes, texts and noise, in groups as clients send them."""
    made = 0
    largest = dict(blob(dice, MAX_PLAIN_SIZE) for _ in range(count // 20_000))
    yield {**largest, **dict([blob(dice, 0)])}
    yield file_batch(dice)
    while made < count:
        if dice.random() < FILE_SHARE:
            batch = file_batch(dice)
        else:
            group = (blob(dice, size(dice)) for _ in iter(int, 1))
            batch = dict(islice(group, dice.randint(1, min(BATCH_MOST, count - made))))
        made += len(batch)
        yield batch


def size(dice: random.Random) -> int:
    """Mostly small, as in a store of files: bytes."""
    return int(min(dice.lognormvariate(7, 1.7), 400_000))


def blob(dice: random.Random, size_bytes: int) -> tuple[Ref, bytes]:
    data = dice.randbytes(size_bytes)
    if size_bytes < 10_000 and dice.random() < 0.5:
        data = b'{"camliVersion": 1, "note": "%s"}' % data.hex()[: max(0, size_bytes)].encode()
    name = dice.choice(HASHES)
    return Ref(f"{name}-{hashlib.new(name, data).hexdigest()}"), data


def write(
    folder: Path, store: str, dice: random.Random, count: int, removed_share: float = REMOVED_SHARE
) -> dict[str, bytes]:
    """Write a store and close it. Returns the digests of what must be there, by ref."""
    wanted: dict[str, bytes] = {}
    with opened(store, folder) as storage:
        again: Blobs = {}
        for batch in batches(dice, count):
            storage.receive_many({**batch, **again}.items())
            wanted.update((ref, fingerprint(data)) for ref, data in batch.items())
            again = dict(islice(batch.items(), 1)) if dice.random() < 0.1 else {}
        if isinstance(storage, BlobPacked):
            storage.settle()
        removed = dice.sample(sorted(wanted), int(removed_share * len(wanted)))
        storage.remove([Ref(ref) for ref in removed])
    return {ref: digest for ref, digest in wanted.items() if ref not in set(removed)}


def fingerprint(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def differences(folder: Path, store: str, wanted: dict[str, bytes]) -> list[str]:
    try:
        found = READERS[store](folder)
    except (ValueError, AssertionError, KeyError, OSError) as error:
        return [f"{store} can't be read: {error!r}"]
    return [
        *(f"{ref} is lost" for ref in sorted(wanted.keys() - found.keys())),
        *(f"{ref} is too much" for ref in sorted(found.keys() - wanted.keys())),
        *(
            f"{ref} is changed"
            for ref, data in found.items()
            if ref in wanted and fingerprint(data) != wanted[ref]
        ),
    ]


def run(folder: Path, seed: int, store: str, count: int) -> Verdict:
    """Write about so many blobs and read them back."""
    wanted = write(folder / "all", store, random.Random(seed), count)
    problems = differences(folder / "all", store, wanted)
    size_bytes = sum(path.stat().st_size for path in (folder / "all").rglob("*") if path.is_file())
    return Verdict(
        f"independent-{store}",
        len(wanted),
        len(problems),
        _planted_is_caught(folder / "planted", seed, store),
        f"blobs in {size_bytes / 1e6:.0f} MB",
        tuple(problems[:20]),
    )


def _planted_is_caught(folder: Path, seed: int, store: str) -> bool:
    wanted = write(folder, store, random.Random(seed), PLANTED_COUNT, removed_share=0)
    absent = b"counted, and not stored"
    is_missed = bool(differences(folder, store, {**wanted, Ref.of(absent): fingerprint(absent)}))
    _flip_a_bit(folder)
    return is_missed and bool(differences(folder, store, wanted))


def _flip_a_bit(folder: Path) -> None:
    """In the middle of the largest file that holds blobs."""
    files = [path for path in folder.rglob("*") if path.suffix in (".dat", ".blobs")]
    path = max(files, key=lambda file: file.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
