"""Small films and pieces of music, made by hand."""

import struct

CREATED_1904_S = 2_082_844_800 + 1_714_746_153  # 2024-05-03T14:22:33Z


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def mp4(note: str = "+48.8577+002.2950/", *, is_turned: bool = False, apple: bool = False) -> bytes:
    """2.5 s of 640 by 480 pixels, its facts behind its data."""
    matrix = (0, 1 << 16, 0, 1 << 16, 0, 0, 0, 0, 1 << 30)
    if not is_turned:
        matrix = (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    movie = box(b"mvhd", struct.pack(">5I", 0, CREATED_1904_S, 0, 600, 1500), bytes(80))
    sides = struct.pack(">II", 640 << 16, 480 << 16)
    sound = box(b"trak", box(b"tkhd", bytes(84)), box(b"mdia", box(b"hdlr", bytes(8) + b"soun")))
    header = box(b"tkhd", bytes(40) + struct.pack(">9I", *matrix) + sides)
    seen = box(b"trak", header, box(b"mdia", box(b"hdlr", bytes(8) + b"vide" + bytes(12))))
    text = note.encode()
    notes = box(b"udta", box(b"\xa9xyz", struct.pack(">HH", len(text), 0x15C7) + text))
    if apple:
        notes = apple_notes(note, "2024-05-03T16:22:33+0200")
    moov = box(b"moov", movie, sound, seen, notes)
    return box(b"ftyp", b"isom", bytes(4), b"isommp42") + box(b"mdat", bytes(500)) + moov


def apple_notes(place: str, date: str) -> bytes:
    texts = {"location.ISO6709": place, "creationdate": date}
    names = [b"com.apple.quicktime." + name.encode() for name in texts]
    keys = [box(b"mdta", name) for name in names]
    values = [
        box(number.to_bytes(4), box(b"data", struct.pack(">II", 1, 0), text.encode()))
        for number, text in enumerate(texts.values(), 1)
    ]
    hdlr = box(b"hdlr", bytes(8) + b"mdta" + bytes(12))
    keys_box = box(b"keys", struct.pack(">II", 0, len(keys)), *keys)
    return box(b"meta", hdlr, keys_box, box(b"ilst", *values))


def element(kind: int, body: bytes) -> bytes:
    size = (1 << 56) | len(body)
    return kind.to_bytes((kind.bit_length() + 7) // 8) + size.to_bytes(8)[:8] + body


def webm() -> bytes:
    """2.5 s of 320 by 240 pixels, of a length that is not said, taken 10 s into 2001."""
    info = [
        element(0x2AD7B1, (1_000_000).to_bytes(3)),
        element(0x4489, struct.pack(">d", 2500.0)),
        element(0x4461, (10 * 10**9).to_bytes(8)),
    ]
    video = element(0xE0, element(0xB0, b"\x01\x40") + element(0xBA, b"\xf0"))
    tracks = element(0xAE, element(0xD7, b"\1") + video)
    body = element(0x1549A966, b"".join(info)) + element(0x1654AE6B, tracks)
    segment = (0x18538067).to_bytes(4) + b"\x01" + b"\xff" * 7 + body + b"\x1f\x43\xb6\x75"
    return element(0x1A45DFA3, element(0x4282, b"webm")) + segment


def comments(**texts: str) -> bytes:
    """Of Vorbis, as FLAC and Ogg have them."""
    entries = [f"{name}={text}".encode() for name, text in texts.items()]
    body = b"".join(struct.pack("<I", len(entry)) + entry for entry in entries)
    return struct.pack("<I", 0) + struct.pack("<I", len(entries)) + body


def flac() -> bytes:
    """Three seconds at 8000 Hz, tagged."""
    packed = 8000 << 44 | 0 << 41 | 15 << 36 | 24_000
    stream = bytes(10) + packed.to_bytes(8) + bytes(16)
    told = comments(TITLE="Reel", ARTIST="Band", TRACKNUMBER="3", DATE="1999")
    blocks = b"\0" + len(stream).to_bytes(3) + stream + b"\x84" + len(told).to_bytes(3) + told
    return b"fLaC" + blocks + bytes(100)


def ogg_page(packet: bytes, number: int, granule: int, flags: int = 0) -> bytes:
    laces = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, 7, number, 0, len(laces))
    return head + laces + packet


def vorbis() -> bytes:
    """Two seconds at 8000 Hz, tagged."""
    first = b"\1vorbis" + struct.pack("<IBIiii", 0, 1, 8000, 0, 64_000, 0) + b"\xb8\1"
    second = b"\3vorbis" + comments(title="Jig", album="Bog") + b"\1"
    pages = [(first, 0, 0, 2), (second, 1, 0, 0), (bytes(40), 2, 16_000, 4)]
    return b"".join(ogg_page(*page) for page in pages)


def wav() -> bytes:
    """A quarter of a second at 8000 Hz, two bytes a sample."""
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16_000, 2, 16)
    data = b"data" + struct.pack("<I", 4000) + bytes(4000)
    return b"RIFF" + struct.pack("<I", 4 + len(form) + len(data)) + b"WAVE" + form + data


CLIPS = [mp4(), mp4(apple=True), webm(), flac(), vorbis(), wav()]
"""Of each kind one, to start from when looking for what breaks a parser."""
