"""The batch upload, apart from HTTP: windows, order, partial success, bounded memory."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from peatkeep.blob import Ref, SizedRef
from peatkeep.blobserver.memory import Memory
from peatkeep.errors import Unavailable
from peatkeep.index.index import IndexRefused
from peatkeep.server.bridge import Bridge
from peatkeep.server.uploads import WINDOW_BLOBS, WINDOW_BYTES, Uploads

from .running import BOUNDARY, multipart_body


class Counting(Memory):
    """Notes the batches, and refuses what it is told to."""

    def __init__(self, refused: Iterable[Ref] = ()) -> None:
        super().__init__()
        self.batches: list[list[Ref]] = []
        self.refused = set(refused)

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = list(blobs)
        self.batches.append([ref for ref, _ in batch])
        stored = super().receive_many(batch)
        reasons = {ref: "no good" for ref, _ in batch if ref in self.refused}
        if reasons:
            raise IndexRefused(reasons)
        return stored


def upload(storage: Memory, chunks: Iterable[bytes], boundary: str = BOUNDARY) -> dict[str, object]:
    """Send a body in these chunks; the answer's JSON."""
    queue: Iterator[bytes] = iter(chunks)

    async def receive() -> Message:
        chunk = next(queue, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def run() -> bytes:
        kind = f"multipart/form-data; boundary={boundary}".encode()
        scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind)]}
        bridge = Bridge(4)
        try:
            answer = await Uploads(storage, bridge).upload(Request(scope, receive))
        finally:
            bridge.close()
        assert answer.status_code == 200
        return bytes(answer.body)

    answer: dict[str, object] = json.loads(asyncio.run(run()))
    return answer


def named(blobs: Iterable[bytes]) -> list[tuple[str, bytes]]:
    return [(Ref.of(data), data) for data in blobs]


def received(answer: dict[str, object]) -> list[str]:
    entries = answer["received"]
    assert isinstance(entries, list)
    return [entry["blobRef"] for entry in entries]


def test_many_small_blobs_cost_few_syncs() -> None:
    blobs = [str(number).encode() for number in range(3 * WINDOW_BLOBS + 1)]
    storage = Counting()
    answer = upload(storage, [multipart_body(named(blobs))])
    assert received(answer) == [Ref.of(data) for data in blobs]
    assert [len(batch) for batch in storage.batches] == [WINDOW_BLOBS] * 3 + [1]


def test_a_window_is_bounded_in_bytes() -> None:
    blobs = [bytes([number]) * (3 * 1024 * 1024) for number in range(8)]
    storage = Counting()
    upload(storage, [multipart_body(named(blobs))])
    limit = WINDOW_BYTES + 3 * 1024 * 1024
    assert all(len(batch) * 3 * 1024 * 1024 <= limit for batch in storage.batches)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=5), st.data())
def test_the_cuts_between_chunks_do_not_matter(blobs: list[bytes], data: st.DataObject) -> None:
    body = multipart_body(named(blobs))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    edges = [0, *cuts, len(body)]
    chunks = [body[a:b] for a, b in pairwise(edges) if a < b]
    storage = Memory()
    assert received(upload(storage, chunks)) == [Ref.of(blob) for blob in blobs]
    assert {found.ref for found in storage.enumerate()} == {Ref.of(blob) for blob in blobs}


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_any_body_gets_an_answer(noise: bytes, is_inside: bool) -> None:
    body = multipart_body(named([b"good"]))
    if is_inside:
        body = body.replace(b"good", noise, 1)
        body = body[: len(body) // 2] + noise + body[len(body) // 2 :]
    else:
        body = noise
    storage = Memory()
    answer = upload(storage, [body])
    assert set(received(answer)) <= {found.ref for found in storage.enumerate()}


def test_nothing_after_a_wrong_digest_is_stored() -> None:
    parts = [*named([b"good"]), (Ref.of(b"other"), b"not it"), *named([b"later"])]
    storage = Memory()
    answer = upload(storage, [multipart_body(parts)])
    assert received(answer) == [Ref.of(b"good")]
    assert "digest doesn't match" in str(answer["errorText"])
    assert [found.ref for found in storage.enumerate()] == [Ref.of(b"good")]


def test_nothing_of_the_next_window_is_stored_after_a_wrong_digest() -> None:
    parts = named(str(number).encode() for number in range(WINDOW_BLOBS))
    parts[3] = (parts[3][0], b"not it")
    later = named(f"later {number}".encode() for number in range(3 * WINDOW_BLOBS))
    storage = Memory()
    answer = upload(storage, [multipart_body([*parts, *later])])
    assert received(answer) == [ref for ref, _ in parts[:3]]
    assert len(list(storage.enumerate())) == 3


def test_a_blob_that_the_index_refuses_is_stored_but_not_received() -> None:
    blobs = [b"a", b"refused", b"c"]
    storage = Counting(refused=[Ref.of(b"refused")])
    answer = upload(storage, [multipart_body(named(blobs))])
    assert received(answer) == [Ref.of(b"a")]
    assert answer["errorText"] == f"Error receiving blob {Ref.of(b'refused')}: no good\n"
    assert storage.fetch(Ref.of(b"refused")) == b"refused"


def test_a_file_name_in_another_encoding_stops_nothing() -> None:
    storage = Memory()
    body = multipart_body([(str(Ref.of(b"a")), b"a")])
    head, name, tail = body.partition(b'filename="')
    answer = upload(storage, [head, name, b"caf\xe9", tail])
    assert answer == {"received": [{"blobRef": str(Ref.of(b"a")), "size": 1}]}


def test_an_upload_that_breaks_off_keeps_what_was_whole() -> None:
    body = multipart_body(named([b"whole", b"broken off"]))
    storage = Memory()
    answer = upload(storage, [body[: body.index(b"broken off") + 4]])
    assert received(answer) == [Ref.of(b"whole")]
    assert answer["errorText"] == f"Error receiving blob {Ref.of(b'broken off')}: unexpected EOF\n"


def test_a_client_that_vanishes_loses_no_whole_blob() -> None:
    body = multipart_body(named([b"whole", b"broken off"]))
    messages: list[Message] = [
        {"type": "http.request", "body": body[:-40], "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def run() -> None:
        kind = f"multipart/form-data; boundary={BOUNDARY}".encode()
        scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind)]}
        await Uploads(storage, Bridge(1)).upload(Request(scope, receive))

    storage = Memory()
    asyncio.run(run())
    assert [found.ref for found in storage.enumerate()] == [Ref.of(b"whole")]


def test_a_store_that_fails_is_told_and_nothing_is_received() -> None:
    class Full(Memory):
        def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
            raise Unavailable("receive", "blobs", "no space left on device")

    answer = upload(Full(), [multipart_body(named([b"x"]))])
    assert answer == {
        "received": [],
        "errorText": f"Error receiving blob {Ref.of(b'x')}: no space left on device\n",
    }


@pytest.mark.parametrize("size", [10, 200])
def test_a_long_upload_never_holds_more_than_two_windows(size: int) -> None:
    """The sender is ahead of the store by at most the window in flight and the one being filled."""
    blob = bytes(1024 * 1024)
    taken = 0
    stored = 0
    most_ahead = 0
    lock = threading.Lock()

    class Watching(Memory):
        def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
            nonlocal stored
            batch = list(blobs)
            with lock:
                stored += len(batch)
            return [SizedRef(ref, len(data)) for ref, data in batch]

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal taken, most_ahead
        for number in range(size):
            data = number.to_bytes(4) + blob[4:]
            body = multipart_body(named([data]))
            taken += 1
            with lock:
                most_ahead = max(most_ahead, taken - stored)
            yield body if number == size - 1 else body[: -len(f"--{BOUNDARY}--\r\n")]

    stream = chunks()

    async def receive() -> Message:
        chunk = await anext(stream, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    async def run() -> None:
        kind = f"multipart/form-data; boundary={BOUNDARY}".encode()
        scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind)]}
        await Uploads(Watching(), Bridge(4)).upload(Request(scope, receive))

    asyncio.run(run())
    assert stored == size
    assert most_ahead * len(blob) <= 2 * WINDOW_BYTES + 2 * len(blob)
