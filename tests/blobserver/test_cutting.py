"""Frames of a websocket, cut out of what comes in pieces of any length."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.blobserver.cutting import Cutter

LIMIT = 70_000
WHOLE, FIRST, NEXT, LAST, TEXT, PING = 0x82, 0x02, 0x00, 0x80, 0x81, 0x89


KEY = b"\x01\x80\xff\x2a"


def masked(payload: bytes | bytearray | memoryview, key: bytes = KEY) -> bytes:
    return bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


def frame(first: int, payload: bytes, *, is_masked: bool = False) -> bytes:
    size = len(payload)
    mark, behind = (0x80, KEY + masked(payload)) if is_masked else (0, payload)
    if size < 126:
        return bytes((first, mark | size)) + behind
    if size < 65536:
        return bytes((first, mark | 126)) + struct.pack(">H", size) + behind
    return bytes((first, mark | 127)) + struct.pack(">Q", size) + behind


def cut(
    pieces: list[bytes], *, is_masked: bool = False, uses_room: bool = False
) -> tuple[list[bytes], bytes]:
    """The messages, and all other bytes."""
    cutter = Cutter(LIMIT, masked if is_masked else None)
    messages: list[bytes | bytearray | memoryview] = []
    others = b""
    for piece in pieces:
        rest = piece
        while uses_room and rest and (room := cutter.room) is not None:
            size = min(len(rest), len(room))
            room[:size], rest = rest[:size], rest[size:]
            message = cutter.filled(size)
            if message is not None:
                messages.append(message)
        scratch = bytearray(rest)
        for is_message, data in cutter.cut(memoryview(scratch)):
            if is_message:
                messages.append(data)
            else:
                others += data
        scratch[:] = bytes(len(scratch))  # as a buffer that is used again
    return [bytes(message) for message in messages], others


payloads = st.one_of(
    st.binary(max_size=300),
    st.builds(lambda size: bytes(range(256)) * (size // 256 + 1), st.sampled_from([300, 66_000])),
)


@given(
    frames=st.lists(st.tuples(st.sampled_from([WHOLE, WHOLE, TEXT, PING]), payloads), max_size=8),
    cuts=st.lists(st.integers(0, 200_000), max_size=12),
    is_masked=st.booleans(),
    uses_room=st.booleans(),
)
def test_frames_that_are_cut_anywhere_come_out_whole(
    frames: list[tuple[int, bytes]], cuts: list[int], is_masked: bool, uses_room: bool
) -> None:
    wire = b"".join(frame(first, payload, is_masked=is_masked) for first, payload in frames)
    borders = [0, *sorted(min(at, len(wire)) for at in cuts), len(wire)]
    pieces = [wire[a:b] for a, b in pairwise(borders)]
    messages, others = cut(pieces, is_masked=is_masked, uses_room=uses_room)
    is_taken = [first == WHOLE and payload != b"" for first, payload in frames]
    assert messages == [p for (_, p), taken in zip(frames, is_taken, strict=True) if taken]
    assert others == b"".join(
        frame(*each, is_masked=is_masked)
        for each, taken in zip(frames, is_taken, strict=True)
        if not taken
    )


def test_a_large_message_may_be_read_to_where_it_stays() -> None:
    wire = frame(WHOLE, bytes(LIMIT))
    cutter = Cutter(LIMIT)
    assert list(cutter.cut(wire[:100])) == []
    room = cutter.room
    assert room is not None
    assert len(room) == len(wire) - 100
    room[:] = b"x" * len(room)
    assert cutter.filled(len(room) - 1) is None
    assert cutter.filled(1) == bytes(LIMIT - len(room)) + b"x" * len(room)
    assert cutter.room is None


def test_what_is_masked_or_small_has_no_room_of_its_own() -> None:
    for wire, unmask in ((frame(WHOLE, bytes(LIMIT), is_masked=True), masked), (b"\x82\x7d", None)):
        cutter = Cutter(LIMIT, unmask)
        assert list(cutter.cut(wire[:100])) == []
        assert cutter.room is None


def test_a_message_in_fragments_is_left_to_the_parser() -> None:
    wire = frame(FIRST, b"a") + frame(PING, b"?") + frame(NEXT, b"b") + frame(LAST, b"c")
    assert cut([wire + frame(WHOLE, b"d")]) == ([b"d"], wire)


def test_a_message_among_fragments_is_left_to_the_parser() -> None:
    wire = frame(FIRST, b"a") + frame(WHOLE, b"b")
    assert cut([wire]) == ([], wire)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(struct.pack(">BBQ", WHOLE, 127, LIMIT + 1), id="too-long"),
        pytest.param(struct.pack(">BBQ", WHOLE, 127, 2**64 - 1), id="longest"),
        pytest.param(bytes((WHOLE, 0x83)), id="masked"),
        pytest.param(bytes((0xC2, 3)), id="reserved"),
    ],
)
def test_a_frame_that_is_wrong_is_left_to_the_parser_at_once(head: bytes) -> None:
    assert cut([head]) == ([], head)
    assert cut([bytes([byte]) for byte in head + b"abc"]) == ([], head + b"abc")


@pytest.mark.parametrize("is_masked", [True, False])
def test_a_message_that_is_masked_by_the_wrong_end_is_left_to_the_parser(is_masked: bool) -> None:
    wire = frame(WHOLE, b"a message", is_masked=not is_masked)
    assert cut([wire], is_masked=is_masked) == ([], wire)
