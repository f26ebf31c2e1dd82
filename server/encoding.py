"""`Accept-Encoding: zstd`, ours: blobs travel compressed where that makes them smaller."""

from collections.abc import Iterable, Iterator

from starlette.requests import Request

from ..blobserver.wire import pack
from .streamcodes import codec

LEAST_BYTES = 512
"""Smaller blobs stay as they are: headers would outweigh what is gained."""

HEADERS = [(b"content-encoding", b"zstd"), (b"vary", b"Accept-Encoding")]


def takes_zstd(request: Request) -> bool:
    """Whether the client names zstd. A `*` does not count: who sends it may not know of it."""
    for part in request.headers.get("accept-encoding", "").split(","):
        name, _, parameters = part.partition(";")
        if name.strip().lower() == "zstd":
            weight = parameters.replace(" ", "").lower()
            return weight.rstrip("0.") != "q="
    return False


def shrunk(data: bytes) -> bytes | None:
    """The blob compressed, or None where that is not worth it. Blocks."""
    if len(data) < LEAST_BYTES:
        return None
    packed = pack(codec(), data)
    return packed.data if packed.packed else None


def compressed(windows: Iterable[bytes]) -> Iterator[bytes]:
    """Each window as a zstd frame of its own; one after the other they are one zstd stream.

    Of what does not shrink zstd makes blocks that are stored: 3 bytes more for each 128 KiB.
    """
    for window in windows:
        yield codec().compress(window)
