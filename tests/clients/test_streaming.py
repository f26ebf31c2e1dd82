"""Uploads over the stream: in which order blobs leave, and who is told of what."""

from collections.abc import Callable, Iterable
from typing import cast

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.remote.dialogue import Upload
from peatkeep.blobserver.remote.stream import Stream
from peatkeep.clients.caches import UploadCache
from peatkeep.clients.streaming import HELD_BYTES, StreamUploader
from peatkeep.clients.uploader import AnyUploader, Blob
from peatkeep.errors import StoreError, Unavailable

Sent = tuple[Ref, bool]


def blob(text: str) -> tuple[Ref, bytes]:
    return Ref.of(text.encode()), text.encode()


class Answering:
    """A stream whose server stores at once; it ends when it is sent a blob of `last`."""

    def __init__(self, last: Ref | None = None) -> None:
        self.sent: list[Sent] = []
        self._last = last

    def put(
        self,
        blobs: Iterable[Blob],
        done: Callable[[Upload], None],
        *,
        no_rush: bool = False,
    ) -> None:
        blobs = list(blobs)
        if self._last in dict(blobs):
            raise Unavailable("use", "stream", "it ended")
        for ref, data in blobs:
            self.sent.append((ref, no_rush))
            Upload(ref, data, done).end(None)


def nothing_else() -> AnyUploader:
    raise AssertionError("requests, though there is a stream")


def over(stream: Answering) -> StreamUploader:
    return StreamUploader(lambda: cast("Stream", stream), nothing_else, UploadCache(None))


def test_all_blobs_but_the_last_leave_without_hurry_and_in_order() -> None:
    stream, told = Answering(), list[Exception | None]()
    uploader = over(stream)
    for name in ("one", "two"):
        group = uploader.group()
        group.add(*blob(f"chunk of {name}"))
        group.finish([blob(f"file {name}")], told.append)
    uploader.drain()
    names = ["chunk of one", "file one", "chunk of two", "file two"]
    assert stream.sent == [(blob(name)[0], name != "file two") for name in names]
    assert told == [None, None]
    uploader.drain()
    assert len(stream.sent) == 4


def test_blobs_leave_when_enough_of_them_have_gathered() -> None:
    stream = Answering()
    uploader = over(stream)
    group = uploader.group()
    data = [bytes([number]) * (HELD_BYTES // 2) for number in range(4)]
    for piece, sent in zip(data, (0, 1, 2, 3), strict=True):
        group.add(Ref.of(piece), piece)
        assert len(stream.sent) == sent
    group.finish([], lambda _: None)
    uploader.drain()
    assert [ref for ref, _ in stream.sent] == [Ref.of(piece) for piece in data]


def test_a_blob_of_two_files_leaves_once() -> None:
    stream, told = Answering(), list[Exception | None]()
    uploader = over(stream)
    for name in ("one", "two"):
        group = uploader.group()
        group.add(*blob("chunk"))
        group.finish([blob(name)], told.append)
    uploader.drain()
    assert [ref for ref, _ in stream.sent] == [blob(name)[0] for name in ("chunk", "one", "two")]
    assert told == [None, None]


@pytest.mark.parametrize("name", ["chunk", "file"])
def test_a_stream_that_ends_is_told_to_who_waits_and_who_drains(name: str) -> None:
    told: list[Exception | None] = []
    uploader = over(Answering(last=blob(name)[0]))
    group = uploader.group()
    group.add(*blob("chunk"))
    group.finish([blob("file")], told.append)
    with pytest.raises(StoreError):
        uploader.drain()
    with pytest.raises(StoreError):
        uploader.drain()
    assert isinstance(uploader.failure, Unavailable)
