"""The blobs of the golden vectors, and ways to feed them to an index."""

import json
import random
import tarfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.index.clips import MEDIA
from peatkeep.index.derived import DERIVED_KEY, DERIVED_PREFIXES, SNAPSHOT_PREFIXES
from peatkeep.index.index import Index, IndexRefused
from peatkeep.index.rows import DATED
from peatkeep.index.trees import TREE_PREFIXES
from peatkeep.schema.keyring import read_ring
from peatkeep.schema.signing import Signer
from peatkeep.sorted.kv import KeyValue
from peatkeep.sorted.memory import MemoryKeyValue

VECTORS = Path(__file__).parent.parent / "vectors" / "search"
SEARCH_PREFIXES = (*DERIVED_PREFIXES, *SNAPSHOT_PREFIXES, *TREE_PREFIXES)
FACT_PREFIXES = (DATED, MEDIA)
OWNER_KEY_ID = "9047E1BC1FE6768F"

Blob = tuple[Ref, bytes]
Row = tuple[bytes, bytes]


@cache
def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_bytes())


@cache
def corpus() -> tuple[Blob, ...]:
    """All blobs, each after those that it depends on."""
    with tarfile.open(VECTORS / "blobs.tar.gz") as archive:
        files = [(member, archive.extractfile(member)) for member in archive if member.isfile()]
        return tuple(
            (Ref(member.name.rpartition("/")[2]), file.read())
            for member, file in files
            if file is not None
        )


@cache
def corpus_rows() -> tuple[Row, ...]:
    return tuple(sorted((key.encode(), value.encode()) for key, value in vectors("index-rows")))


@cache
def named(name: str) -> Ref:
    """The blob with this short name."""
    return Ref(vectors("names")[name])


@cache
def signer(name: str = "owner") -> Signer:
    ring = (VECTORS / "identity" / f"TEST-ONLY-{name}-secring.gpg").read_bytes()
    return Signer(read_ring(ring)[0])


class World:
    """A store and an index over it."""

    def __init__(
        self,
        rows: KeyValue | None = None,
        blobs: Memory | None = None,
        owner_key_ids: Sequence[str] = (OWNER_KEY_ID,),
    ) -> None:
        self.kv = rows if rows is not None else MemoryKeyValue()
        self.blobs = blobs if blobs is not None else Memory()
        self.index = Index(self.kv, self.blobs, owner_key_ids, recent_bytes=0)

    def add(self, blobs: Sequence[Blob], batch: int = 1) -> dict[Ref, str]:
        """Store and index in batches of this many. Returns the refused ones."""
        refused: dict[Ref, str] = {}
        for start in range(0, len(blobs), batch):
            page = blobs[start : start + batch]
            self.blobs.receive_many(page)
            try:
                self.index.receive(page)
            except IndexRefused as error:
                refused |= error.reasons
        return refused

    def rows(self) -> list[Row]:
        """Those that Perkeep has, too."""
        return [row for row in self.kv.find() if not row[0].startswith(b"pk|")]

    def own_rows(self) -> list[Row]:
        """Those of ours that tell what waits, was refused, or is long."""
        others = (b"pk|version", b"pk|state", DERIVED_KEY, *SEARCH_PREFIXES, *FACT_PREFIXES)
        return [row for row in self.kv.prefixed(b"pk|") if not row[0].startswith(others)]

    def search_rows(self) -> list[Row]:
        """Those of ours that searches read, in step with the others."""
        self.index.settle()
        self.index.settle_sizes()
        return [row for row in self.kv.prefixed(b"pk|") if row[0].startswith(SEARCH_PREFIXES)]

    def fact_rows(self) -> list[Row]:
        """Those of ours that tell more of files than Perkeep's."""
        return [row for row in self.kv.prefixed(b"pk|") if row[0].startswith(FACT_PREFIXES)]

    def restarted(self) -> "World":
        """The same rows and blobs after the process died without a word."""
        return World(self.kv, self.blobs)


def shuffled(blobs: Iterable[Blob], seed: int) -> list[Blob]:
    order = list(blobs)
    random.Random(seed).shuffle(order)
    return order


def difference(got: Sequence[Row], wanted: Sequence[Row]) -> list[tuple[str, Row]]:
    """What is too much (+) and what is lacking (-), for a readable failure."""
    return [("+", row) for row in sorted(set(got) - set(wanted))] + [
        ("-", row) for row in sorted(set(wanted) - set(got))
    ]
