"""Facts in media files: golden ones, made ones, and no trouble with any bytes."""

import base64
import json
import random
import struct
import sys
from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.index.media import exif_time_ns
from peatkeep.index.media.audio import media_tags
from peatkeep.index.media.exif import coordinates, read_exif
from peatkeep.index.media.mpeg import duration_ms
from peatkeep.index.media.sizes import picture_size
from peatkeep.index.media.source import BytesSource, Section
from peatkeep.index.media.zones import instant_ns, zone_at
from peatkeep.schema.times import format_time, parse_time
from tests.index.corpus import VECTORS, corpus, vectors

SCHEMA_VECTORS = VECTORS.parent / "schema"


def exif_cases() -> list[Any]:
    cases = json.loads((SCHEMA_VECTORS / "uploads.json").read_bytes())["exifTime"]
    return [pytest.param(case, id=f"{case['name']} {case['tz']}") for case in cases]


@pytest.mark.vectors("schema")
@pytest.mark.parametrize("case", exif_cases())
def test_a_picture_tells_when_it_was_taken(case: dict[str, str]) -> None:
    taken_ns = exif_time_ns(base64.b64decode(case["data_b64"]), ZoneInfo(case["tz"]))
    wanted = case["unixMtime"]
    assert (case["fileMtime"] if taken_ns is None else format_time(taken_ns)) == wanted


# -- made pictures ------------------------------------------------------------------------------


def tiff(entries: list[tuple[int, int, int, bytes]], big_endian: bool = False) -> bytes:
    """A TIFF structure with one directory; values over 4 bytes follow it."""
    order = ">" if big_endian else "<"
    head = (b"MM\0*" if big_endian else b"II*\0") + struct.pack(order + "I", 8)
    end = 8 + 2 + 12 * len(entries) + 4
    directory, data = struct.pack(order + "H", len(entries)), b""
    for tag, kind, count, value in entries:
        field = value.ljust(4, b"\0")
        if len(value) > 4:
            field = struct.pack(order + "I", end + len(data))
            data += value
        directory += struct.pack(order + "HHI", tag, kind, count) + field
    return head + directory + bytes(4) + data


def jpeg(exif: bytes = b"", width: int = 3, height: int = 2) -> bytes:
    app1 = b"Exif\0\0" + exif
    segment = b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 if exif else b""
    frame = struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + segment + b"\xff\xc0" + frame + b"\xff\xd9"


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize(("orientation", "size"), [(1, (3, 2)), (4, (3, 2)), (5, (2, 3))])
def test_a_turned_picture_swaps_its_sides(
    orientation: int, size: tuple[int, int], big_endian: bool
) -> None:
    value = struct.pack(">H" if big_endian else "<H", orientation)
    exif = tiff([(0x0112, 3, 1, value)], big_endian)
    assert picture_size(BytesSource(jpeg(exif))) == size


@pytest.mark.parametrize(
    ("svg", "size"),
    [
        (b'<svg width="120px" height="60.9mm">', (120, 60)),
        (b"<?xml version='1.0'?><!-- x --><svg width='1e2' height='7'/>", (1, 7)),
        (b'<svg viewBox="0 0 24.5 48">', (24, 48)),
        (b'<svg viewBox="0,0,24,48" width="100%" height="auto">', (24, 48)),
        (b'<svg width="70000" height="1">', None),
        (b'<svg width="-1" height="1">', None),
        (b'<svg width="1">', None),
        (b"<svgx width='1' height='1'>", None),
    ],
)
def test_the_size_of_an_svg_picture(svg: bytes, size: tuple[int, int] | None) -> None:
    assert picture_size(BytesSource(svg)) == size


@pytest.mark.parametrize(
    ("webp", "size"),
    [
        (b"VP8 " + bytes(4) + b"\x10\x02\x00\x9d\x01\x2a\x28\x00\x78\x40", (40, 120)),
        (b"VP8L" + bytes(4) + b"\x2f\x27\xc0\x1d\x00\x00", (40, 120)),
        (b"VP8X" + bytes(4) + bytes(4) + b"\x27\0\0\x77\0\0", (40, 120)),
        (b"VP8Y" + bytes(14), None),
    ],
)
def test_the_size_of_a_webp_picture(webp: bytes, size: tuple[int, int] | None) -> None:
    assert picture_size(BytesSource(b"RIFF\0\0\0\0WEBP" + webp)) == size


def test_a_png_header_that_is_damaged_has_no_size() -> None:
    data = dict(corpus())
    whole = next(data[ref] for ref in data if data[ref].startswith(b"\x89PNG"))
    assert picture_size(BytesSource(whole)) is not None
    assert picture_size(BytesSource(whole[:20] + b"\x07" + whole[21:])) is None


def degrees(*parts: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<II", *part) for part in parts)


def placed(
    latitude: bytes,
    longitude: bytes,
    south: bytes = b"S",
    west: bytes = b"W",
    as_text: bool = False,
) -> bytes:
    main = tiff([(0x8825, 4, 1, struct.pack("<I", 26))])
    entries = [
        (1, 2, 2, south + b"\0"),
        (2, 2, len(latitude), latitude) if as_text else (2, 5, 3, latitude),
        (3, 2, 2, west + b"\0"),
        (4, 2, len(longitude), longitude) if as_text else (4, 5, 3, longitude),
    ]
    gps = struct.pack("<H", 4)
    at, data = 26 + 2 + 48 + 4, b""
    for tag, kind, count, value in entries:
        field = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", at + len(data))
        data += value if len(value) > 4 else b""
        gps += struct.pack("<HHI", tag, kind, count) + field
    return main + gps + bytes(4) + data


def place(exif_data: bytes) -> tuple[float, float] | None:
    exif = read_exif(BytesSource(jpeg(exif_data)))
    assert exif is not None
    return coordinates(exif)


def test_a_place_is_degrees_minutes_and_seconds() -> None:
    south, west = degrees((10, 1), (30, 1), (36, 1)), degrees((20, 1), (0, 1), (72, 2))
    assert place(placed(south, west)) == pytest.approx((-10.51, -20.01))
    assert place(placed(south, west, b"N", b"E")) == pytest.approx((10.51, 20.01))


@pytest.mark.parametrize("latitude", [b"52,30,36\0", b"52;30;36.0", b"52,0,30,00000,36,0\0"])
def test_a_place_may_be_written_as_text(latitude: bytes) -> None:
    longitude = b"20,0,30,0,36,5\0"
    wanted = (52.51, -20.510138888)
    assert place(placed(latitude, longitude, b"N", as_text=True)) == pytest.approx(wanted)


@pytest.mark.parametrize("latitude", [b"52,30", b"52,30,x", b"nan,1,1", b"1,2,3,4", b"99,30,36"])
def test_a_place_that_is_no_numbers_is_none(latitude: bytes) -> None:
    assert place(placed(latitude.ljust(5), b"20,30,36", as_text=True)) is None


def test_of_a_tag_that_stands_twice_the_last_counts() -> None:
    upright, turned = struct.pack("<H", 1), struct.pack("<H", 6)
    exif = tiff([(0x0112, 3, 1, upright), (0x0112, 3, 1, turned)])
    assert picture_size(BytesSource(jpeg(exif))) == (2, 3)


@pytest.mark.parametrize(
    "latitude", [degrees((91, 1), (0, 1), (0, 1)), degrees((1, 0), (0, 1), (0, 1))]
)
def test_a_place_that_is_none_is_dropped(latitude: bytes) -> None:
    assert place(placed(latitude, degrees((1, 1), (0, 1), (0, 1)))) is None


# -- zones --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "zone", "instant"),
    [
        ("2010-07-10T12:00:00", "UTC", "2010-07-10T12:00:00Z"),
        ("2010-07-10T12:00:00", "America/New_York", "2010-07-10T16:00:00Z"),
        ("2010-01-10T12:00:00", "America/New_York", "2010-01-10T17:00:00Z"),
        ("2010-03-14T02:30:00", "America/New_York", "2010-03-14T06:30:00Z"),  # never shown
        ("2010-11-07T01:30:00", "America/New_York", "2010-11-07T05:30:00Z"),  # shown twice
        ("2010-10-31T02:30:00", "Europe/Paris", "2010-10-31T01:30:00Z"),
    ],
)
def test_the_instant_of_a_local_time(local: str, zone: str, instant: str) -> None:
    shown = datetime.fromisoformat(local).replace(tzinfo=UTC)
    assert instant_ns(shown, ZoneInfo(zone)) == parse_time(instant)


def test_a_place_has_a_zone_and_the_open_sea_has_none() -> None:
    assert str(zone_at(48.85, 2.35)) == "Europe/Paris"
    assert zone_at(0.0, -30.0) is None


def test_without_the_extra_the_zone_of_the_configuration_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from peatkeep.index.media import zones

    zones._finder.cache_clear()
    monkeypatch.setitem(sys.modules, "timezonefinder", None)
    try:
        assert zone_at(48.85, 2.35) is None
    finally:
        zones._finder.cache_clear()


# -- sound --------------------------------------------------------------------------------------


def id3(version: int, *frames: tuple[bytes, bytes]) -> bytes:
    body = b""
    for kind, text in frames:
        size = len(text)
        seven = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
        body += kind + (size.to_bytes(4, "big") if version == 3 else seven) + b"\0\0" + text
    size = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([version, 0, 0]) + size + body


def tags(data: bytes) -> dict[str, str]:
    found = media_tags(BytesSource(data))
    found.pop("mediaref", None)
    return found


@pytest.mark.parametrize("version", [3, 4])
def test_frames_of_any_length_are_read(version: int) -> None:
    title = "long " * 60
    data = id3(version, (b"TIT2", b"\0" + title.encode()), (b"TPE1", b"\3\xc3\xa9"))
    assert tags(data) == {"title": title, "artist": "é"}


def test_texts_come_in_four_encodings_and_nul_reads_as_a_blank() -> None:
    assert tags(id3(3, (b"TIT2", b"\0caf\xe9")))["title"] == "café"
    assert tags(id3(3, (b"TIT2", b"\1\xff\xfe" + "é\0b".encode("utf-16-le"))))["title"] == "é b"
    assert tags(id3(4, (b"TIT2", b"\2" + "日".encode("utf-16-be"))))["title"] == "日"
    assert tags(id3(4, (b"TIT2", b"\3x\0")))["title"] == "x "


def test_numbers_and_years_are_checked() -> None:
    data = id3(3, (b"TRCK", b"\0003/12"), (b"TPOS", b"\0000"), (b"TYER", b"\00019x9"))
    assert tags(data) == {"track": "3"}
    assert tags(id3(4, (b"TDRC", b"\0002003-04-05"))) == {"year": "2003"}
    assert tags(id3(3, (b"TYER", b"\0002003-04"))) == {}


def test_the_first_frame_of_a_kind_wins() -> None:
    assert tags(id3(4, (b"TIT2", b"\0a"), (b"TIT2", b"\0b"))) == {"title": "a"}


def test_the_ref_of_the_sound_does_not_depend_on_tags() -> None:
    sound = b"\xff\xfb\x90\x64" + bytes(500)
    first = media_tags(BytesSource(id3(3, (b"TIT2", b"\0a")) + sound))
    second = media_tags(BytesSource(id3(4, (b"TALB", b"\0other")) + sound + b"TAG" + bytes(125)))
    assert first["mediaref"] == second["mediaref"]


def test_a_frame_count_tells_the_duration_better_than_the_bit_rate() -> None:
    header = b"\xff\xfb\x90\x64"  # MPEG 1, layer 3, 128 kbit/s, 44,100 Hz
    assert duration_ms(BytesSource(header + bytes(16_000 - 4))) == 1000
    xing = header + bytes(32) + b"Xing" + struct.pack(">II", 1, 1000)
    assert duration_ms(BytesSource(xing + bytes(1000))) == 1152 * 1000 * 1000 // 44_100
    assert duration_ms(BytesSource(b"no sound at all")) is None


# -- any bytes ----------------------------------------------------------------------------------


@cache
def media_blobs() -> list[bytes]:
    data = dict(corpus())
    rows = [value.split("|") for key, value in vectors("index-rows") if key.startswith("fileinfo")]
    kinds = ("image%2F", "audio%2F")
    refs = [row[3] for row in rows if row[2].startswith(kinds)]
    return [blob for ref, blob in data.items() if ref in refs]


def read_all(data: bytes) -> None:
    source = BytesSource(data)
    size = picture_size(source)
    assert size is None or all(0 <= side <= 65_535 for side in size)
    exif = read_exif(source)
    if exif is not None:
        where = coordinates(exif)
        assert where is None or (abs(where[0]) <= 90 and abs(where[1]) <= 180)
    exif_time_ns(data, UTC)
    for text in media_tags(source).values():
        assert text


@pytest.mark.parametrize("seed", range(4))
def test_damaged_media_files_are_no_trouble(seed: int) -> None:
    chance = random.Random(seed)
    for blob in media_blobs():
        for _ in range(25):
            data = bytearray(blob)
            for _ in range(chance.choice((1, 3, 20))):
                data[chance.randrange(min(len(data), 1500))] = chance.choice((0, 255, 1, 127))
            end = len(data) if chance.random() < 0.6 else chance.randrange(len(data))
            read_all(bytes(data[:end]))


STARTS = (
    *(b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0*", b"<svg "),
    *(b"ID3\3\0\0", b"ID3\4\0\xff", b"RIFF\0\0\0\0WEBPVP8X", b"\0\0\0\x18ftypheic"),
)


@given(st.sampled_from(STARTS), st.binary(max_size=400))
def test_any_bytes_are_no_trouble(start: bytes, rest: bytes) -> None:
    read_all(start + rest)


@given(st.binary(max_size=20), *[st.integers(0, 30)] * 4)
def test_a_section_reads_as_the_slice_that_it_is(
    data: bytes, offset: int, size: int, start: int, length: int
) -> None:
    section = Section(BytesSource(data), offset, size)
    piece = data[offset : offset + size]
    assert section.size == len(piece)
    assert section.read(start, length) == piece[start : start + length]


@pytest.mark.parametrize(
    "data",
    [
        b"<svg " + b"a" * 500_000,
        b"<svg " + b"a =" * 160_000,
        b"\xff\xd8" + b"\xff\xd0" * 3_000_000,
        b"\xff\xd8" + b"\xff" * 6_000_000,
        id3(3, *[(b"TXXX", b"\1" + bytes(60_000))] * 34),
        tiff([(0x8769, 4, 15_000, bytes(60_000))] * 1000)[:70_000],
    ],
    ids=["name", "names", "markers", "fill bytes", "texts", "tags"],
)
def test_data_made_to_take_long_is_done_soon(data: bytes) -> None:
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    sys.setprofile(count)
    try:
        read_all(data)
    finally:
        sys.setprofile(None)
    assert steps < 200_000
