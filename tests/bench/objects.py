"""S3 beside obstore alone, on the same bucket with the same objects: `objects(url, bucket, …)`.

Objects of 8 MiB, up and down, in alternating rounds so that a busy machine slows both. The server
may be any; tests/blobserver/objects/radosgw.py starts one.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import obstore
from obstore.store import S3Store

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage

SIZE_BYTES: Final = 8 * 1024 * 1024
TARGET: Final = 0.8
"""Of the speed of obstore alone."""


class Line(NamedTuple):
    """Bytes a second of one work, ours and that of obstore alone; medians over the rounds.

    share: of the speed of obstore alone, the median over pairs of rounds.
    """

    work: str
    ours: float
    alone: float
    share: float

    def __str__(self) -> str:
        return (
            f"s3 {self.work:5} 8 MiB objects: {self.ours / 1e6:6.0f} MB/s,"
            f" obstore alone {self.alone / 1e6:6.0f} MB/s, {self.share:4.0%} (wanted {TARGET:.0%})"
        )


def objects(
    args: Mapping[str, object], count: int = 12, rounds: int = 5, at_once: int = 8
) -> list[Line]:
    """Measure on the bucket that the arguments of a storage-s3 name.

    obstore alone works in as many threads, with the same settings of requests and parts.
    """
    bucket, _, prefix = str(args["bucket"]).partition("/")
    alone = S3Store(
        bucket,
        access_key_id=str(args["aws_access_key"]),
        secret_access_key=str(args["aws_secret_access_key"]),
        endpoint=str(args["endpoint"]),
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    blobs = [(Ref.of(data), data) for data in (os.urandom(SIZE_BYTES) for _ in range(count))]
    ours = open_storage("s3", dict(args) | {"maxRequests": at_once}, lambda _: Memory())
    times: dict[str, list[float]] = {name: [] for name in ("up", "up alone", "down", "down alone")}

    def up(blob: tuple[Ref, bytes]) -> None:
        obstore.put(alone, f"{prefix}/alone/{blob[0]}", blob[1], use_multipart=False)

    def down(blob: tuple[Ref, bytes]) -> None:
        obstore.get(alone, f"{prefix}/alone/{blob[0]}").bytes()

    with ours, ThreadPoolExecutor(at_once) as threads:
        works: dict[str, Callable[[], object]] = {
            "up": lambda: ours.receive_many(blobs),
            "up alone": lambda: list(threads.map(up, blobs)),
            "down": lambda: [None for _ in ours.fetch_many(ref for ref, _ in blobs)],
            "down alone": lambda: list(threads.map(down, blobs)),
        }
        for _ in range(rounds):
            for name, work in works.items():
                began = time.perf_counter()
                work()
                times[name].append(time.perf_counter() - began)
    amount = count * SIZE_BYTES
    return [
        Line(
            work,
            amount / statistics.median(times[work]),
            amount / statistics.median(times[f"{work} alone"]),
            statistics.median(
                alone_s / ours_s
                for ours_s, alone_s in zip(times[work], times[f"{work} alone"], strict=True)
            ),
        )
        for work in ("up", "down")
    ]


def against_ceph() -> list[Line]:
    """Start the server of the tests, and measure on it."""
    from tests.blobserver.objects.radosgw import gateway

    with gateway() as server:
        return objects(server.args())


def main(words: list[str]) -> int:
    lines = against_ceph()
    print(*lines, sep="\n")
    return 0 if all(line.share >= TARGET for line in lines) else 1
