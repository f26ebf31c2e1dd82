"""Facts of films and music, and dates in names."""

import random
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peatkeep.index.clips import Clip, clip_row, parse_clip, read_clip
from peatkeep.index.describe import DescribeRequest, describe
from peatkeep.index.media.film import read_film
from peatkeep.index.media.names import days_named
from peatkeep.index.media.sound import sound_tags
from peatkeep.index.media.source import BytesSource
from peatkeep.schema.times import format_time, parse_time
from tests.index.clips import CLIPS, flac, mp4, vorbis, wav, webm
from tests.index.corpus import Blob, World, shuffled
from tests.index.make import blob, claim, directory, key, part, permanode, schema, static_set

TAKEN = "2024-05-03T14:22:33Z"


@pytest.mark.parametrize("apple", [False, True], ids=["udta", "meta"])
def test_a_film_tells_its_length_sides_time_and_place(apple: bool) -> None:
    film = read_film(BytesSource(mp4(apple=apple)))
    assert film is not None
    assert (film.duration_ms, film.width, film.height) == (2500, 640, 480)
    assert film.place == (48.8577, 2.295)
    assert format_time(film.taken_ns or 0) == TAKEN


def test_a_film_that_was_taken_upright_is_higher_than_wide() -> None:
    film = read_film(BytesSource(mp4(is_turned=True)))
    assert film is not None
    assert (film.width, film.height) == (480, 640)


def test_a_film_of_matroska_tells_its_length_sides_and_time() -> None:
    film = read_film(BytesSource(webm()))
    assert film is not None
    assert (film.duration_ms, film.width, film.height) == (2500, 320, 240)
    assert format_time(film.taken_ns or 0) == "2001-01-01T00:00:10Z"


@pytest.mark.parametrize("note", ["", "here", "+91.0000+002.0/", "+48.8577+190.0/"])
def test_a_place_that_is_none_is_not_told(note: str) -> None:
    film = read_film(BytesSource(mp4(note)))
    assert film is not None
    assert film.place is None


@pytest.mark.parametrize(
    ("content", "tags"),
    [
        (
            flac(),
            {
                "title": "Reel",
                "artist": "Band",
                "track": "3",
                "year": "1999",
                "durationms": "3000",
            },
        ),
        (vorbis(), {"title": "Jig", "album": "Bog", "durationms": "2000"}),
        (wav(), {"durationms": "250"}),
        (b"OggS nothing else", {}),
        (b"", {}),
    ],
    ids=["flac", "vorbis", "wav", "broken", "empty"],
)
def test_music_tells_its_tags_and_length(content: bytes, tags: dict[str, str]) -> None:
    assert sound_tags(BytesSource(content)) == tags


@pytest.mark.parametrize("content", CLIPS, ids=["mp4", "mov", "webm", "flac", "ogg", "wav"])
def test_broken_clips_break_nothing(content: bytes) -> None:
    chance = random.Random(content)
    for _ in range(300):
        broken = bytearray(content[: chance.randrange(len(content)) + 1])
        for _ in range(chance.randrange(4)):
            broken[chance.randrange(len(broken))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        clip = read_clip(BytesSource(bytes(broken)))
        assert parse_clip(clip_row("sha224-0", clip)[1]) == clip


@given(st.binary(max_size=300))
def test_any_bytes_are_read(data: bytes) -> None:
    read_clip(BytesSource(b"\0\0\0\x10ftyp" + data))
    read_clip(BytesSource(b"\x1a\x45\xdf\xa3" + data))


def test_boxes_within_each_other_without_end_are_given_up() -> None:
    empty = (8).to_bytes(4) + b"trak"
    assert read_clip(BytesSource(b"\0\0\0\x08ftyp" + empty * 20_000)) == Clip()


# -- dates in names -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "first", "end"),
    [
        ("2024-05-03-Trip", "2024-05-03", "2024-05-04"),
        ("2024-05-03", "2024-05-03", "2024-05-04"),
        ("2024-05 Rome", "2024-05-01", "2024-06-01"),
        ("2024-12", "2024-12-01", "2025-01-01"),
        ("2024_05_03_scan.png", "2024-05-03", "2024-05-04"),
        ("2024.05.03.txt", "2024-05-03", "2024-05-04"),
        ("IMG_20240503_142233.jpg", "2024-05-03", "2024-05-04"),
        ("IMG-20240503-WA0001.jpg", "2024-05-03", "2024-05-04"),
        ("20240503.txt", "2024-05-03", "2024-05-04"),
    ],
)
def test_a_name_tells_a_date(name: str, first: str, end: str) -> None:
    days = days_named(name.encode(), UTC)
    assert days is not None
    assert format_time(days.first_ns) == first + "T00:00:00Z"
    assert format_time(days.end_ns) == end + "T00:00:00Z"


@pytest.mark.parametrize(
    "name",
    [
        "2024",
        "2024-5-3",
        "2024-13-01",
        "2024-02-30",
        "Trip 2024-05-03",
        "1234-05-06",
        "120240503",
        "20240503a",
        "20241399",
        "\N{ARABIC-INDIC DIGIT TWO}024-05-03",
        "",
    ],
)
def test_a_name_without_a_date_tells_none(name: str) -> None:
    assert days_named(name.encode(), UTC) is None


def test_a_day_begins_at_midnight_where_the_server_is() -> None:
    days = days_named(b"2024-03-31", ZoneInfo("Europe/Paris"))
    assert days is not None
    assert format_time(days.first_ns) == "2024-03-30T23:00:00Z"
    assert days.end_ns - days.first_ns == 23 * 3600 * 10**9  # clocks go forward


@given(st.binary(max_size=30))
def test_any_name_is_read(name: bytes) -> None:
    days = days_named(name, timezone(timedelta(hours=-5)))
    assert days is None or days.first_ns < days.end_ns


# -- in the index -------------------------------------------------------------------------------


def named(content: bytes, name: str, modified: str = "") -> list[Blob]:
    """A file of one chunk, its file blob last."""
    chunk = blob(content)
    members: dict[str, object] = {"camliType": "file", "fileName": name, "parts": [part(chunk)]}
    return [chunk, schema(members | ({"unixMtime": modified} if modified else {}))]


def created(world: World, node: Blob) -> str:
    world.index.settle()
    rows = world.kv.prefixed(b"pk|created|")
    times = {key.rpartition(b"|")[2]: key.split(b"|")[2] for key, _ in rows}
    assert len(times) == 1
    (digits,) = times.values()
    return format_time(10**22 - 10**21 - int(digits))


@pytest.mark.parametrize(
    ("content", "name", "modified", "wanted"),
    [
        (b"x", "2019-07-01 notes.txt", "2024-01-01T00:00:00Z", "2019-07-01T00:00:00Z"),
        (b"x", "2019-07-01 notes.txt", "2019-07-01T18:30:00Z", "2019-07-01T18:30:00Z"),
        (b"x", "2019-07 notes.txt", "", "2019-07-01T00:00:00Z"),
        (b"x", "notes.txt", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        (mp4(), "2019-07-01.mp4", "2025-01-01T00:00:00Z", TAKEN),
    ],
    ids=["name", "same day", "month", "no date", "film"],
)
def test_a_date_dates_permanodes(content: bytes, name: str, modified: str, wanted: str) -> None:
    node = permanode("node")
    blobs = [*named(content, name, modified), node]
    blobs.append(claim(node[0], "camliContent", str(blobs[1][0])))
    rows = []
    for seed in range(3):
        world = World()
        world.add([key(), *shuffled(blobs, seed)])
        assert created(world, node) == wanted
        rows.append([*world.search_rows(), *world.fact_rows()])
    assert rows[0] == rows[1] == rows[2]


def test_a_folder_with_a_date_dates_its_permanode_whenever_it_comes() -> None:
    content, node = static_set(), permanode("node")
    folder = directory(content[0], "2024-05-03-Trip")
    world = World()
    world.add([key(), content, node, claim(node[0], "camliContent", str(folder[0]))])
    assert created(world, node) != "2024-05-03T00:00:00Z"
    world.add([folder])
    assert created(world, node) == "2024-05-03T00:00:00Z"
    described = describe(world.index.view, DescribeRequest((folder[0],), facts=True))
    assert described["meta"][folder[0]]["dir"]["dated"] == "2024-05-03T00:00:00Z"


def test_a_film_is_described_and_has_a_place() -> None:
    world, blobs = World(), named(mp4(), "film.mp4", "2025-01-01T00:00:00Z")
    world.add(blobs)
    film, view = blobs[1][0], world.index.view
    described = describe(view, DescribeRequest((film,), facts=True))["meta"][film]
    assert described["file"]["dated"] == TAKEN
    assert described["mediaTags"] == {"durationms": "2500", "width": "640", "height": "480"}
    assert described["location"] == {"latitude": 48.8577, "longitude": 2.295}
    as_perkeep = describe(view, DescribeRequest((film,)))["meta"][film]
    assert "mediaTags" not in as_perkeep
    assert "dated" not in as_perkeep["file"]
    assert world.index.view.image_size(blobs[1][0]) == (640, 480)
    assert (
        parse_time(TAKEN) == int(datetime(2024, 5, 3, 14, 22, 33, tzinfo=UTC).timestamp()) * 10**9
    )
