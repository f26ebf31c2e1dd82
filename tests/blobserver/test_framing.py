"""The body format of fetch-blobs."""

import io
import random

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver import framing
from peatkeep.errors import Corrupt, Invalid, NotFound, TooLarge

A, B, EMPTY = Ref.of(b"a\nb"), Ref.of(b"b"), Ref.of(b"")


def _read(body: bytes, asked: list[Ref]) -> list[tuple[Ref, framing.Found]]:
    return list(framing.read_frames(io.BufferedReader(io.BytesIO(body)), asked))  # type: ignore[arg-type]


def test_frames_come_back_as_they_were_sent() -> None:
    rng = random.Random(1)
    blobs = [b"", *(rng.randbytes(rng.randrange(100_000)) for _ in range(30))]
    sent = [(Ref.of(data), data) for data in blobs]
    body = b"".join(framing.frames(sent))
    assert _read(body, [ref for ref, _ in sent]) == sent


def test_absent_and_damaged_blobs_come_as_errors_in_their_place() -> None:
    sent: list[tuple[Ref, framing.Found]] = [
        (A, NotFound("fetch", A)),
        (B, Corrupt("fetch", B)),
        (EMPTY, b""),
    ]
    body = b"".join(framing.frames(sent))
    assert body == b"%s -\n%s !\n%s 0\n" % (A.encode(), B.encode(), EMPTY.encode())
    outcomes = [outcome for _, outcome in _read(body, [A, B, EMPTY])]
    assert isinstance(outcomes[0], NotFound)
    assert isinstance(outcomes[1], Corrupt)
    assert outcomes[2] == b""


def test_bytes_that_do_not_match_their_ref_are_corrupt() -> None:
    ((_, outcome),) = _read(b"%s 1\nx" % B.encode(), [B])
    assert isinstance(outcome, Corrupt)


@pytest.mark.parametrize("cut", [0, 5, 66, 67, 69])
def test_an_answer_that_ends_early_is_noticed(cut: int) -> None:
    body = b"".join(framing.frames([(A, b"a\nb")]))
    assert len(body) == 69
    if cut == len(body):
        assert _read(body, [A]) == [(A, b"a\nb")]
    with pytest.raises(EOFError):
        _read(body[:cut], [A, B])


@pytest.mark.parametrize(
    "line",
    [
        b"%s 1\nb" % A.encode(),
        b"%s -1\nb" % B.encode(),
        b"%s 16777217\nb" % B.encode(),
        b"%s 99999999999999999999\nb" % B.encode(),
        b"%s \nb" % B.encode(),
        b"x" * 1000,
        b"\n",
    ],
)
def test_what_is_no_frame_is_refused(line: bytes) -> None:
    with pytest.raises(Invalid):
        _read(line, [B])


def test_a_request_lists_refs_in_order() -> None:
    assert framing.parse_request(framing.request_body([B, A])) == [B, A]
    assert framing.parse_request(b"") == []


def test_a_request_of_too_many_or_of_no_refs_is_refused() -> None:
    with pytest.raises(TooLarge):
        framing.parse_request(framing.request_body([A] * 1001))
    for body in (b"x\n", b"\xff\n", A.encode() + b" \n"):
        with pytest.raises(Invalid):
            framing.parse_request(body)
