"""Stores full of permanodes, the same for the same seed, kept in the user's cache directory.

    corpora.py NAME…      make them, unless they are there

Each permanode has a title, a tag and a date; two of five a place, one of five a type. That is
4.00136 claims each: 50,000 permanodes are 250,069 blobs with the key.
"""

import os
import random
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from peatkeep.blob import Ref  # noqa: E402
from peatkeep.blobserver.registry import open_storage  # noqa: E402
from peatkeep.blobserver.storage import Storage  # noqa: E402
from peatkeep.schema.claims import random_permanode, set_attribute  # noqa: E402
from peatkeep.schema.keyring import read_ring  # noqa: E402
from peatkeep.schema.openpgp import ECDSA, SECRET_KEY, write_number, write_packet  # noqa: E402
from peatkeep.schema.signing import Signer  # noqa: E402

SEED = 20260102
START_S = 1_200_000_000
STEP_S = 400
"""Between two permanodes; dates of the last decade and a half."""

CHUNK = 500
"""Permanodes that a worker makes in one go."""

RARE_TAGS_PER = 10
"""Permanodes for each rare tag."""

COMMON_TAGS = [f"common{number}" for number in range(20)]
TYPES = [f"example.com:kind{number}" for number in range(5)]
_ALSO_TYPED = range(0, 340, 5)
_EXTRA_CLAIMS_OF = 50_000
_RSA_RING = ROOT / "tests" / "vectors" / "search" / "identity" / "TEST-ONLY-owner-secring.gpg"
_P256 = bytes.fromhex("2a8648ce3d030107")


class Corpus(NamedTuple):
    """permanodes: how many. key: the algorithm of all signatures."""

    name: str
    permanodes: int
    key: str


CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus("tiny", 2_000, "p256"),
        Corpus("50k", 50_000, "rsa"),
        Corpus("200k", 200_000, "p256"),
        Corpus("1m", 1_000_000, "p256"),
    )
}


class Entry(NamedTuple):
    """A permanode as it is going to be. created: RFC 3339."""

    number: int
    attributes: dict[str, str]


@cache
def words() -> list[str]:
    """Words of two or three syllables, for titles."""
    dice = random.Random(SEED)
    syllables = [c + v for c in "bcdfghklmnprstvz" for v in ("a", "e", "i", "o", "u", "ar", "en")]
    made = {"".join(dice.choices(syllables, k=dice.choice((2, 2, 3)))) for _ in range(9_000)}
    return sorted(made)


def entry(number: int, of: int) -> Entry:
    """The permanode with this number, of so many."""
    dice = random.Random(f"{SEED} {number}")
    rare = f"rare{dice.randrange(max(of // RARE_TAGS_PER, 1))}"
    attributes = {
        "title": f"{' '.join(dice.choices(words(), k=4))} {number}",
        "tag": rare if dice.random() < 0.5 else dice.choice(COMMON_TAGS),
        "startDate": _date(START_S + number * STEP_S % 470_000_000 + dice.randrange(STEP_S)),
    }
    if number % 5 in (1, 3):
        attributes["latitude"] = f"{dice.uniform(-60, 70):.4f}"
        attributes["longitude"] = f"{dice.uniform(-180, 180):.4f}"
    if number % 5 == 2 or number % _EXTRA_CLAIMS_OF in _ALSO_TYPED:
        attributes["camliNodeType"] = dice.choice(TYPES)
    return Entry(number, attributes)


def _date(time_s: int) -> str:
    from peatkeep.schema.times import format_time

    return format_time(time_s * 1_000_000_000)


# -- keys ---------------------------------------------------------------------------------------


@cache
def signer(key: str) -> Signer:
    return Signer(read_ring(ring(key))[0])


def ring(key: str) -> bytes:
    """The secret key ring of an algorithm."""
    return _RSA_RING.read_bytes() if key == "rsa" else _p256_ring()


def _p256_ring() -> bytes:
    """A key ring with a key made from the seed: for tests only, as anybody can make it."""
    from cryptography.hazmat.primitives.asymmetric import ec

    secret = int.from_bytes(sha256(b"%d" % SEED).digest()[:31], "big") + 1
    numbers = ec.derive_private_key(secret, ec.SECP256R1()).public_key().public_numbers()
    point = b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    public = bytes([4]) + START_S.to_bytes(4, "big") + bytes([ECDSA, len(_P256)]) + _P256
    number = write_number(secret)
    check_sum = (sum(number) % 65536).to_bytes(2, "big")
    body = public + write_number(int.from_bytes(point, "big")) + b"\0" + number + check_sum
    return write_packet(SECRET_KEY, body)


# -- blobs --------------------------------------------------------------------------------------


def blobs(numbers: range, of: int, key: str) -> list[tuple[Ref, bytes]]:
    """The blobs of some permanodes, each permanode before its claims."""
    by = signer(key)
    made = []
    for number in numbers:
        time_ns = (START_S + number) * 1_000_000_000
        token = random.Random(number).randbytes(20)
        permanode = by.sign_members(random_permanode(token), time_ns)
        ref = Ref.of(permanode)
        made.append((ref, permanode))
        for index, (name, value) in enumerate(entry(number, of).attributes.items()):
            claim = by.sign_members(set_attribute(ref, name, value), time_ns + index + 1)
            made.append((Ref.of(claim), claim))
    return made


def _chunk(start: int, of: int, key: str) -> list[tuple[Ref, bytes]]:
    return blobs(range(start, min(start + CHUNK, of)), of, key)


def made_in_parallel(corpus: Corpus) -> Iterator[list[tuple[Ref, bytes]]]:
    """Yield pages of blobs, in order, as fast as all processors can sign."""
    key = signer(corpus.key)
    yield [(key.ref, key.public_text)]
    starts = range(0, corpus.permanodes, CHUNK)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        count = len(starts)
        yield from pool.map(_chunk, starts, [corpus.permanodes] * count, [corpus.key] * count)


# -- stores -------------------------------------------------------------------------------------


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "peatkeep" / "bench"


def store_args(folder: Path) -> dict[str, object]:
    """The store of a corpus, as a configuration describes it."""
    rows = {"type": "leveldb", "file": str(folder / "packs.leveldb")}
    return {"path": str(folder), "metaIndex": rows}


def open_store(folder: Path) -> Storage:
    def no_other(prefix: str) -> Storage:
        raise LookupError(prefix)

    return open_storage("diskpacked", store_args(folder), no_other)


def folder_of(corpus: Corpus) -> Path:
    return cache_folder() / f"{corpus.name}-{SEED}"


def make(corpus: Corpus) -> Path:
    """The folder of the store, made now if it is not there."""
    folder = folder_of(corpus)
    if folder.exists():
        return folder
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    store = open_store(unfinished)
    try:
        for page in made_in_parallel(corpus):
            store.receive_many(page)  # synced: rows of five million blobs are no single commit
    finally:
        store.close()
    unfinished.rename(folder)  # last: what has the name is whole
    return folder


def main() -> int:
    for name in sys.argv[1:] or CORPORA:
        print(make(CORPORA[name]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
