"""The encrypted store over diskpacked beside bare pyrage, in alternating rounds of one run.

By wall time, since a batch is sealed in several processes: a busy machine spoils the figures.
"""

import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pyrage

from peatkeep.blob import Ref
from peatkeep.blobserver.diskpacked import DiskPacked
from peatkeep.blobserver.encrypt.sealing import Sealer
from peatkeep.blobserver.encrypt.store import Encrypt
from peatkeep.sorted.leveldb import LevelDBKeyValue

SIZE_BYTES: Final = 65_536
GROUP: Final = 256
"""Blobs made durable together, as of the other stores: 16 MiB."""

ROUNDS: Final = 16
TARGETS_MB_S: Final = {"receive": 200, "fetch": 120}


def encrypt(folder: Path, rounds: int = ROUNDS) -> list[str]:
    """Measure in an empty folder; a line each for receiving and fetching."""
    identity = pyrage.x25519.Identity.generate()
    recipient = identity.to_public()
    took: dict[str, list[float]] = {}

    def measure(name: str, work: Callable[[], object]) -> None:
        began = time.perf_counter()
        work()
        took.setdefault(name, []).append(time.perf_counter() - began)

    with ExitStack() as stack:
        blobs_below, metas_below = (
            stack.enter_context(_diskpacked(folder / name)) for name in ("blobs", "metas")
        )
        index, memory = (LevelDBKeyValue(folder / name) for name in ("index", "memory"))
        store = stack.enter_context(
            Encrypt(Sealer(str(identity)), blobs_below, metas_below, index, memory)
        )
        for _ in range(rounds):
            datas = [os.urandom(SIZE_BYTES) for _ in range(GROUP)]
            blobs = {Ref.of(data): data for data in datas}
            sealed: list[bytes] = []
            measure("receive", lambda blobs=blobs: store.receive_many(blobs.items()))  # type: ignore[misc]
            measure(
                "receive alone",
                lambda datas=datas, sealed=sealed: sealed.extend(  # type: ignore[misc]
                    pyrage.encrypt(data, [recipient]) for data in datas
                ),
            )
            measure("fetch", lambda blobs=blobs: dict(store.fetch_many(blobs)))  # type: ignore[misc]
            measure(
                "fetch alone",
                lambda sealed=sealed: [pyrage.decrypt(data, [identity]) for data in sealed],  # type: ignore[misc]
            )
    amount = GROUP * SIZE_BYTES / 1e6
    speed = {name: amount / statistics.median(times) for name, times in took.items()}
    return [
        f"encrypt {work:8} 64 KiB blobs, over diskpacked: {speed[work]:4.0f} MB/s,"
        f" pyrage alone {speed[f'{work} alone']:4.0f} MB/s (wanted {target})"
        for work, target in TARGETS_MB_S.items()
    ]


def _diskpacked(folder: Path) -> DiskPacked:
    folder.mkdir()
    return DiskPacked(folder, LevelDBKeyValue(folder / "index.leveldb"))
