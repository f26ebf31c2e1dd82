"""What a client remembers: kept, shared, and never in the way."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.clients.caches import (
    KEPT_S,
    Remembered,
    UploadCache,
    is_settled,
    open_upload_cache,
    state_of,
)

A, B = Ref.of(b"a"), Ref.of(b"b")


def test_what_was_remembered_is_known_later(tmp_path: Path) -> None:
    remembered = Remembered("state", B, "whole")
    cache = UploadCache(tmp_path / "c")
    cache.remember_blobs([A])
    cache.remember_file(b"/d/f", "plain", remembered)
    for _ in range(2):
        assert cache.has(A)
        assert not cache.has(B)
        assert cache.folder(b"/d", "plain") == {b"f": remembered}
        assert cache.folder(b"/d", "") == {}
        cache.close()
        cache = UploadCache(tmp_path / "c")
    cache.close()


def test_generations_and_servers_do_not_share(tmp_path: Path) -> None:
    first = open_upload_cache(tmp_path, "http://a", "g1")
    first.remember_blobs([A])
    first.flush()
    assert open_upload_cache(tmp_path, "http://a", "g1").has(A)
    assert not open_upload_cache(tmp_path, "http://a", "g2").has(A)
    assert not open_upload_cache(tmp_path, "http://b", "g1").has(A)


@pytest.mark.parametrize(
    "damage", [b"not a database at all" * 100, b"SQLite format 3\0" + b"x" * 8]
)
def test_a_damaged_file_is_begun_anew(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "c"
    path.write_bytes(damage)
    cache = UploadCache(path)
    assert not cache.has(A)
    cache.remember_blobs([A])
    cache.close()
    assert UploadCache(path).has(A)


def test_damage_inside_is_noticed_and_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "c"
    cache = UploadCache(path)
    cache.remember_blobs(Ref.of(b"%d" % n) for n in range(5000))
    cache.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    cache = UploadCache(path)
    assert not cache.has(A)
    cache.remember_blobs([A])
    cache.close()
    assert UploadCache(path).has(A)


def test_a_file_of_another_version_is_begun_anew(tmp_path: Path) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "c") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    cache = UploadCache(tmp_path / "c")
    cache.remember_blobs([A])
    cache.close()
    assert UploadCache(tmp_path / "c").has(A)


def test_a_place_that_can_not_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = UploadCache(tmp_path / "file" / "c")
    cache.remember_blobs([A])
    assert cache.has(A)
    cache.close()


def test_two_programs_may_use_it_at_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from peatkeep.blob import Ref;"
        "from peatkeep.clients.caches import UploadCache;"
        "c = UploadCache(Path(sys.argv[1]));"
        "[(c.remember_blobs([Ref.of(f'{sys.argv[2]} {n}'.encode())]), c.flush())"
        " for n in range(200)]; c.close()"
    )
    programs = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path / "c", name]) for name in "xy"
    ]
    assert [program.wait(60) for program in programs] == [0, 0]
    cache = UploadCache(tmp_path / "c")
    assert all(cache.has(Ref.of(f"{name} {n}".encode())) for name in "xy" for n in range(200))
    cache.close()


def test_forgetting_forgets_all(tmp_path: Path) -> None:
    cache = UploadCache(tmp_path / "c")
    cache.remember_blobs([A])
    cache.remember_file(b"/d/f", "", Remembered("s", B, ""))
    cache.flush()
    cache.forget()
    assert not cache.has(A)
    assert cache.folder(b"/d", "") == {}
    cache.close()


def test_old_caches_are_dropped_beyond_a_few(tmp_path: Path) -> None:
    for number in range(8):
        open_upload_cache(tmp_path, "http://a", f"g{number}").close()
        path = max(tmp_path.glob("*.sqlite3"), key=lambda p: p.stat().st_ctime_ns)
        age_s = KEPT_S * (2 if number < 6 else 0)
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age_s - 8 + number))
    open_upload_cache(tmp_path, "http://a", "new").close()
    assert len(list(tmp_path.glob("*.sqlite3"))) == 6


def test_every_change_of_a_file_shows_in_its_state(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    before = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert state_of(path.stat()) != state_of(before)


def test_a_file_is_settled_two_seconds_after_its_last_change(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.touch()
    os.utime(path, (0, 0))  # the mtime alone proves nothing
    stat = path.stat()
    assert not is_settled(stat, stat.st_ctime_ns + 2_000_000_000)
    assert is_settled(stat, stat.st_ctime_ns + 2_000_000_001)
