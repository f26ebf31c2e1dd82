"""One function per parser: it takes bytes from a stranger, and may raise only what is promised.

A target is imported inside its process alone, with the parser's code instrumented. Each comes
with a few well-formed inputs to start from.
"""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyrage

from tests.index.clips import CLIPS

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "schema"
KEYS = VECTORS / "keys"

Target = Callable[[bytes], None]


class Parser(NamedTuple):
    """make: imports the parser and returns the function to feed. seeds: inputs to start from."""

    make: Callable[[], Target]
    seeds: list[bytes]


REF = b"sha224-d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f"
TAIL = b"}"


def make_ref() -> Target:
    from peatkeep.blob import Ref, parse_ref
    from peatkeep.errors import Invalid

    def target(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        found = parse_ref(text)
        try:
            ref = Ref(text)
        except Invalid:
            assert found is None
            return
        assert found == ref == text
        assert ref.hash_name + "-" + ref.hex_digest == text
        ref.matches(data)

    return target


MODIFIED = "Thu, 10 Jun 2010 23:42:15 GMT"


def make_range() -> Target:
    from peatkeep.server.ranges import BadRange, precondition, range_counts, spans

    def target(data: bytes) -> None:
        size, text = int.from_bytes(data[:3]), data[3:].decode("latin-1")
        for name in ("if-modified-since", "if-unmodified-since", "if-range"):
            precondition({name: text}, MODIFIED)
            range_counts({name: text}, MODIFIED)
        try:
            found = spans(text, size)
        except BadRange:
            return
        for span in found:
            assert span.start >= 0
            assert 0 < span.length <= size - span.start

    return target


def make_schema() -> Target:
    from peatkeep.errors import Corrupt
    from peatkeep.schema.parse import is_schema, parse_object

    def target(data: bytes) -> None:
        schema = parse_object(data)
        assert schema is not None or not is_schema(data)
        if schema is None:
            return
        assert b"/" not in schema.file_name
        assert isinstance(schema.symlink_target, bytes)
        for name in ("unixMtime", "claimDate", "expires"):
            schema.time_ns(name)
        schema.refs("members")
        try:
            parts = schema.parts
        except Corrupt:
            assert schema.has_null_part
            return
        assert all(part.size >= 0 and part.offset >= 0 for part in parts)

    return target


def make_framing() -> Target:
    from peatkeep.blob import Ref
    from peatkeep.blobserver import framing
    from peatkeep.errors import Invalid

    def target(data: bytes) -> None:
        try:
            asked = framing.parse_request(data)
        except Invalid:
            asked = [Ref(REF.decode())]
        try:
            found = list(framing.read_frames(io.BytesIO(data), asked))
        except (EOFError, Invalid):
            return
        assert [ref for ref, _ in found] == asked
        assert all(not isinstance(got, bytes) or ref.matches(got) for ref, got in found)

    return target


def make_frames() -> Target:
    from peatkeep.blob import Ref
    from peatkeep.blobserver.wire import ClientMachine, Hello, ProtocolViolation, ServerMachine

    def target(data: bytes) -> None:
        """The first byte says which end hears the rest, in two messages."""
        server, client = ServerMachine(Hello(), 0.0), ClientMachine(0.0)
        for one, other in ((client, server), (server, client)):
            other.receive(one.next_message() or b"", 0.0)
        end = server if data[:1] < b"\x80" else client
        client.stat([Ref(REF.decode())])
        client.fetch([Ref(REF.decode())])
        cut = int.from_bytes(data[1:3])
        with contextlib.suppress(ProtocolViolation):
            for piece in (data[3 : 3 + cut], data[3 + cut :]):
                end.receive(piece, 0.0)
        while (message := end.next_message()) is not None:
            assert len(message) <= end.peer.message_bytes

    return target


def make_openpgp() -> Target:
    from peatkeep.errors import Invalid, Unsupported
    from peatkeep.schema import armor
    from peatkeep.schema.keyring import read_ring

    def target(data: bytes) -> None:
        with contextlib.suppress(Invalid):
            list(armor.blocks(data))
        try:
            keys = read_ring(data)
        except (Invalid, Unsupported):
            return
        assert all(len(key.key_id) == 16 and key.public_ref for key in keys)

    return target


def make_claims() -> Target:
    from peatkeep.blob import Ref
    from peatkeep.blobserver.memory import Memory
    from peatkeep.errors import Invalid, NotFound
    from peatkeep.schema.claims import read_claim
    from peatkeep.schema.parse import parse
    from peatkeep.schema.signing import verify

    blobs = Memory()
    for path in sorted(KEYS.glob("*.public.asc")):
        blobs.receive(Ref.of(path.read_bytes()), path.read_bytes())

    def target(data: bytes) -> None:
        try:
            signed = verify(data, blobs)
        except (Invalid, NotFound):
            return
        schema = parse(data)
        if schema is not None:
            read_claim(Ref.of(data), schema, signed)

    return target


def make_multipart() -> Target:
    from peatkeep.blobserver.memory import Memory
    from peatkeep.server.uploads import Batch

    def target(data: bytes) -> None:
        """The first byte says where the body is cut in two."""
        cut = data[0] if data else 0
        storage = Memory()
        batch = Batch(storage, "cut")
        if all(batch.feed([piece]) for piece in (data[1 : 1 + cut], data[1 + cut :]) if piece):
            batch.end()
        assert {blob.ref for blob in batch.received} == {blob.ref for blob in storage.enumerate()}

    return target


def make_media() -> Target:
    from datetime import UTC

    from peatkeep.index.clips import clip_row, parse_clip, read_clip
    from peatkeep.index.media import exif_time_ns
    from peatkeep.index.media.audio import media_tags
    from peatkeep.index.media.exif import coordinates, read_exif
    from peatkeep.index.media.names import days_named
    from peatkeep.index.media.sizes import picture_size
    from peatkeep.index.media.source import BytesSource
    from peatkeep.index.mime import sniff

    def target(data: bytes) -> None:
        source = BytesSource(data)
        sniff(data, data[-8:])
        size = picture_size(source)
        assert size is None or min(size) >= 0
        media_tags(source)
        clip = read_clip(source)
        assert parse_clip(clip_row("", clip)[1]) == clip
        days_named(data[:60], UTC)
        exif = read_exif(source)
        if exif is not None:
            exif.tags()
            exif.orientation()
            if coordinates(exif) is None:  # a place needs a table that takes seconds to load
                exif_time_ns(data, UTC)

    return target


def make_planted() -> Target:
    """A parser with a bug, which the fuzzer must find: a suffix range without a number."""

    def target(data: bytes) -> None:
        unit, _, text = data.decode("latin-1").partition("=")
        if unit == "bytes" and text.startswith("-"):
            int(text.removeprefix("-"))

    return target


# -- well-formed inputs ----------------------------------------------------------------------------


FILE = (
    b'{"camliVersion": 1,\n  "camliType": "file",\n  "fileName": "a",\n  "parts": [\n'
    b'    {"blobRef": "' + REF + b'", "size": 10, "offset": 3}\n  ],\n'
    b'  "unixMtime": "2020-01-02T03:04:05.6Z"\n}'
)
CLAIM = (
    b'{"camliVersion": 1, "camliType": "claim", "camliSigner": "' + REF + b'", "claimDate":'
    b' "2020-01-02T03:04:05Z", "claimType": "set-attribute", "permaNode": "' + REF + b'",'
    b' "attribute": "tag", "value": "x"'
)
ODD_NAME = b'{"camliVersion":1,"camliType":"symlink","symlinkTargetBytes":["a",255,"b\\ud800"]}'

PART = (
    b'--cut\r\nContent-Disposition: form-data; name="' + REF + b'"; filename="x"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\nbytes\r\n"
)

AGE_IDENTITY = "AGE-SECRET-KEY-1FDF2NAWKFWP506AQM0KVZF2UF549G0KMGQZWVXUXAQENERGLHKJSYG5AQH"


def make_age() -> Target:
    from peatkeep.blobserver.encrypt.age import Identity
    from peatkeep.errors import Corrupt

    identity = Identity(AGE_IDENTITY)

    def target(data: bytes) -> None:
        with contextlib.suppress(Corrupt):
            identity.open(data)

    return target


def age_files() -> list[bytes]:
    key = pyrage.x25519.Identity.from_str(AGE_IDENTITY).to_public()
    return [pyrage.encrypt(content, [key] * 2) for content in (b"", b"some content")]


IFD = b"\3\0" + b"".join(
    tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + count.to_bytes(4, "little") + value
    for tag, kind, count, value in [
        (0x0112, 3, 1, b"\6\0\0\0"),  # orientation
        (0x0132, 2, 20, b"\x3e\0\0\0"),  # date, at 62
        (0x8825, 4, 1, b"\x52\0\0\0"),  # the GPS directory, at 82
    ]
)
GPS = b"\1\0" + b"\1\0\2\0\2\0\0\0N\0\0\0" + bytes(4)
TIFF = b"II*\0\x08\0\0\0" + IFD + bytes(4) + b"\0" * 12 + b"2020:01:02 03:04:05\0" + GPS
JPEG = b"\xff\xd8\xff\xe1" + (len(TIFF) + 8).to_bytes(2) + b"Exif\0\0" + TIFF
JPEG += b"\xff\xc0\0\x11\x08\0\x10\0\x20\3\1\x22\0\2\x11\1\3\x11\1\xff\xd9"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10\0\0\0\x20\x08\2\0\0\0"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x20meta\0\0\0\0\0\0\0\x10iprp\0\0\0\x08ipco"
ID3 = b"ID3\3\0\0\0\0\0\x20TIT2\0\0\0\6\0\0\3title" + b"\0" * 12 + b"\xff\xfb\x90\0" + bytes(40)
PICTURES = [TIFF, JPEG, PNG, b"GIF89a\x10\0\x20\0", HEIC, ID3]
PICTURES += [
    *CLIPS,
    b"<svg width='3cm' viewBox='0 0 4 5'>",
    b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0" + bytes(10),
]


def signed_texts() -> list[bytes]:
    valid = json.loads((VECTORS / "signing.json").read_text())["valid"]
    return [one["signed"].encode() for one in valid]


def golden_messages() -> list[bytes]:
    """Frames of the stream, in two messages: an upload and its last piece, or one alone."""
    golden = json.loads((VECTORS.parent / "stream" / "frames.json").read_text())
    raw = {one["name"]: bytes.fromhex(one["hex"]) for one in golden}
    ends = {one["name"]: b"\0" if one["from"] == "client" else b"\xff" for one in golden}
    first, last = raw["put without rush, first piece"], raw["last piece"]
    upload = b"\0" + len(first).to_bytes(2) + first + last
    return [upload, *[ends[name] + len(one).to_bytes(2) + one for name, one in raw.items()]]


def key_files() -> list[bytes]:
    return [path.read_bytes() for path in sorted(KEYS.iterdir())]


PARSERS: dict[str, Parser] = {
    "ref": Parser(make_ref, [REF, b"sha1-0123", b"sha256-" + b"a" * 64, b"x9-abc"]),
    "range": Parser(make_range, [b"\0\1\0bytes=0-5,7-", b"\0\1\0bytes=-3", b"\0\0\0bytes=1-1"]),
    "schema": Parser(make_schema, [FILE, CLAIM + TAIL, ODD_NAME]),
    "framing": Parser(
        make_framing, [REF + b"\n", REF + b" 0\n", REF + b" -\n" + REF + b" !\n" + REF + b" 3\nabc"]
    ),
}
PARSERS |= {
    "claims": Parser(make_claims, signed_texts()),
    "openpgp": Parser(make_openpgp, key_files()),
    "multipart": Parser(make_multipart, [b"\x20" + PART + PART + b"--cut--\r\n", b"\0--cut--"]),
    "media": Parser(make_media, PICTURES),
    "frames": Parser(make_frames, golden_messages()),
    "age": Parser(make_age, age_files()),
}
PLANTED = Parser(make_planted, [b"bytes=-3", b"bytes=1-2"])
