"""A server as a Storage over the stream, for tests."""

import random

from peatkeep.blob import Ref
from peatkeep.blobserver.remote import FREE_LINE, Remote, Transport, discover
from peatkeep.blobserver.remote.stream import Stream

Blob = tuple[Ref, bytes]


def blobs(count: int, size: int, seed: int = 1) -> list[Blob]:
    dice = random.Random(seed)
    return [(Ref.of(data), data) for data in (dice.randbytes(size) for _ in range(count))]


def remote_to(url: str, auth: str, **settings: object) -> Remote:
    transport = Transport(url, auth, retry_waits_s=(0.01, 0.1, 0.5))
    wanted = FREE_LINE._replace(**settings)  # type: ignore[arg-type]
    return Remote.on(transport, discover(transport), line=wanted)


def stream_of(remote: Remote) -> Stream:
    stream = remote.open_stream()
    assert stream is not None
    return stream
