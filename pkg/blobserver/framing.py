"""Many blobs in one answer: the body format of `fetch-blobs`, ours (pkg/blobserver/README.md).

The request body is text: one ref per line, at most MAX_REFS. The answer holds, for each ref in
the order asked, a header line and, where the blob is there, its bytes with nothing between:

    <ref> <size>\n<size bytes>      the blob
    <ref> -\n                       absent
    <ref> !\n                       damaged: the bytes that the store holds do not match the ref

The format says nothing of the end: an answer is whole when every ref asked has come.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from ..blob import MAX_BLOB_SIZE, Ref
from ..errors import Corrupt, Invalid, NotFound, TooLarge

MEDIA_TYPE: Final = "application/x-peatkeep-blobs"
MAX_REFS: Final = 1000
MAX_LINE_BYTES: Final = 512  # a ref has at most 256 hex digits and a short hash name

ABSENT: Final = b"-"
DAMAGED: Final = b"!"

Found = bytes | NotFound | Corrupt


class Reader(Protocol):
    """What frames are read from: a buffered binary file."""

    def readline(self, limit: int = -1, /) -> bytes: ...

    def read(self, length: int = -1, /) -> bytes: ...


def request_body(refs: Iterable[Ref]) -> bytes:
    """The body that asks for these refs, in this order."""
    return b"".join(ref.encode() + b"\n" for ref in refs)


def parse_request(body: bytes) -> list[Ref]:
    """The refs that a request body asks for. Raises Invalid (not refs), TooLarge (too many)."""
    try:
        lines = body.decode("ascii").splitlines()
    except UnicodeDecodeError:
        raise Invalid("parse", "list of refs", "not ASCII text") from None
    if len(lines) > MAX_REFS:
        raise TooLarge("parse", "list of refs", f"{len(lines)} refs, at most {MAX_REFS}")
    return [Ref(line) for line in lines]


def header(ref: Ref, found: Found) -> bytes:
    """The header line of one frame; the bytes of the blob, if any, follow it."""
    if isinstance(found, NotFound):
        word = ABSENT
    elif isinstance(found, Corrupt):
        word = DAMAGED
    else:
        word = b"%d" % len(found)
    return b"%s %s\n" % (ref.encode(), word)


def frames(found: Iterable[tuple[Ref, Found]]) -> Iterator[bytes]:
    """The answer's body in pieces: header lines, and blobs as they are, not copied."""
    for ref, outcome in found:
        yield header(ref, outcome)
        if isinstance(outcome, bytes) and outcome:
            yield outcome


def read_frames(reader: Reader, asked: Iterable[Ref]) -> Iterator[tuple[Ref, Found]]:
    """Read the answer for these refs, verifying every blob against its ref.

    A blob whose bytes do not match comes as Corrupt, like one that the server calls damaged.
    Raises EOFError when the answer ends early, Invalid when it breaks the format.
    """
    for ref in asked:
        line = reader.readline(MAX_LINE_BYTES)
        if not line.endswith(b"\n"):
            raise EOFError if len(line) < MAX_LINE_BYTES else _broken(line)
        name, _, word = line[:-1].partition(b" ")
        if name != ref.encode():
            raise _broken(line)
        yield ref, _outcome(reader, ref, word)


def _outcome(reader: Reader, ref: Ref, word: bytes) -> Found:
    if word == ABSENT:
        return NotFound("fetch", ref)
    if word == DAMAGED:
        return Corrupt("fetch", ref, "the server's copy does not match the ref")
    if not word.isdigit() or len(word) > 8 or int(word) > MAX_BLOB_SIZE:
        raise _broken(word)
    size = int(word)
    data = reader.read(size)
    if len(data) < size:
        raise EOFError
    if not ref.matches(data):
        return Corrupt("fetch", ref, "the bytes received do not match the ref")
    return data


def _broken(line: bytes) -> Invalid:
    return Invalid("read", MEDIA_TYPE, f"unexpected {line[:80]!r}")
