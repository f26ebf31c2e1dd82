"""Bytes from a stranger: a violation or a meaning, in bounds."""

import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from peatkeep.blobserver.wire import Hello, ProtocolViolation, ServerMachine, frames
from peatkeep.errors import Invalid
from tests.blobserver.wire.meanings import meanings
from tests.blobserver.wire.simulation import Line

GOOD = [
    frames.put_head(1, frames.END, "sha1-" + "a" * 40, 3, 3) + b"abc",
    frames.frame(frames.STAT, 0, 2, b"sha1-" + b"a" * 40),
    frames.frame(frames.FETCH, 1, 3, b"sha1-" + b"a" * 40 + b" 1 2"),
    frames.frame(frames.CREDIT, 1, 0, frames.number_body(1 << 40)),
    frames.frame(frames.STOP, 0, 0),
    frames.frame(frames.SUBSCRIBE, 0, 4, b"\3cursor"),
    frames.frame(frames.GOODBYE, 0, 0, frames.goodbye_body(1, "end")),
]
MESSAGE = b"".join(GOOD)


def greeted() -> ServerMachine:
    line = Line()
    line.settle()
    return line.server


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(MESSAGE)), st.binary(max_size=12), st.integers(0, len(MESSAGE)))
@example(0, b"", 0)
def test_a_message_with_bytes_changed_is_a_violation_or_means_something(
    at: int, new: bytes, skip: int
) -> None:
    message = MESSAGE[:at] + new + MESSAGE[at + skip :]
    for read in (meanings, lambda raw: greeted().receive(raw, 0.0)):
        with contextlib.suppress(ProtocolViolation):
            read(message)


@pytest.mark.parametrize("cut", range(1, len(MESSAGE)))
def test_a_message_cut_anywhere_is_a_violation_unless_between_frames(cut: int) -> None:
    ends = [sum(map(len, GOOD[:n])) for n in range(1, len(GOOD) + 1)]
    if cut in ends:
        greeted().receive(MESSAGE[:cut], 0.0)
        return
    with pytest.raises(ProtocolViolation):
        greeted().receive(MESSAGE[:cut], 0.0)


def test_a_message_over_the_limit_is_a_violation() -> None:
    with pytest.raises(ProtocolViolation):
        greeted().receive(bytes(1024 * 1024 + 1), 0.0)


def test_an_upload_beyond_the_window_is_a_violation() -> None:
    server = greeted()
    data = bytes(500_000)
    ref = "sha1-" + "a" * 40
    uploads = [frames.put_head(n, 4, ref, len(data), len(data)) + data for n in (1, 2, 3)]
    server.receive(uploads[0], 0.0)
    server.receive(uploads[1], 0.0)
    with pytest.raises(ProtocolViolation) as caught:
        server.receive(uploads[2], 0.0)
    assert caught.value.close_code == 4413


def test_a_request_number_that_runs_is_not_taken_twice() -> None:
    server = greeted()
    server.receive(GOOD[1], 0.0)
    with pytest.raises(ProtocolViolation):
        server.receive(GOOD[1], 0.0)


def test_a_version_that_is_unknown_is_refused() -> None:
    server = ServerMachine(Hello(), 0.0)
    hello = frames.hello_body(Hello(lowest=2, highest=3))
    with pytest.raises(ProtocolViolation) as caught:
        server.receive(frames.frame(frames.HELLO, 0, 0, hello), 0.0)
    assert caught.value.close_code == 4426


def test_a_hello_of_a_later_version_may_be_longer() -> None:
    server = ServerMachine(Hello(), 0.0)
    hello = frames.hello_body(Hello(highest=2)) + b"more"
    server.receive(frames.frame(frames.HELLO, 0, 0, hello), 0.0)
    assert server.is_welcome


def test_a_hello_below_the_least_is_refused_at_both_ends() -> None:
    with pytest.raises(Invalid):
        ServerMachine(Hello(window=1000), 0.0)
    server = ServerMachine(Hello(), 0.0)
    with pytest.raises(ProtocolViolation):
        server.receive(frames.frame(frames.HELLO, 0, 0, frames.hello_body(Hello(items=1))), 0.0)


@given(st.text(max_size=2000))
def test_texts_are_cut_to_whole_characters(text: str) -> None:
    raw = frames.clipped(text)
    assert len(raw) <= frames.MAX_TEXT_BYTES
    raw.decode()
