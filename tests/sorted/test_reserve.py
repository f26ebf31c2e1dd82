"""Rows can be deleted though the disk is full."""

from pathlib import Path

import pytest

from peatkeep.errors import Unavailable
from peatkeep.sorted import reserve
from peatkeep.sorted.kv import Batch
from peatkeep.sorted.memory import MemoryKeyValue
from peatkeep.sorted.reserve import Reserved

DISK_BYTES = 16 << 20
SIZE_BYTES = DISK_BYTES // 16


class FullDisk(MemoryKeyValue):
    """Rows that need 10,000 bytes of room for each commit."""

    def __init__(self, room: list[int]) -> None:
        super().__init__()
        self._room = room

    def commit(self, batch: Batch, durable: bool = True) -> None:
        if self._room[0] < 10_000:
            raise Unavailable("write", "rows", "No space left on device")
        super().commit(batch, durable)


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes free on a disk of 16 MiB, besides what the reserve takes."""
    free = [4 << 20]

    def free_bytes(folder: Path) -> int:
        return free[0]

    monkeypatch.setattr(reserve, "free_bytes", free_bytes)
    monkeypatch.setattr(reserve, "size_bytes", lambda _: DISK_BYTES)
    unlink = Path.unlink

    def counted_unlink(path: Path, missing_ok: bool = False) -> None:
        free[0] += path.stat().st_size if path.exists() else 0
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", counted_unlink)
    return free


def removal(key: bytes) -> Batch:
    batch = Batch(frees_room=True)
    batch.delete(key)
    return batch


def test_a_removal_is_done_with_the_room_of_the_reserve(tmp_path: Path, room: list[int]) -> None:
    path = tmp_path / "reserve"
    with Reserved(lambda: FullDisk(room), path) as rows:
        rows.set(b"a", b"1")
        assert path.stat().st_size == SIZE_BYTES
        room[0] = 0
        with pytest.raises(Unavailable):
            rows.set(b"b", b"2")
        assert path.exists()
        rows.commit(removal(b"a"))
        assert rows.get(b"a") is None
        assert not path.exists()


def test_the_reserve_is_laid_again_when_there_is_room(tmp_path: Path, room: list[int]) -> None:
    path = tmp_path / "reserve"
    with Reserved(lambda: FullDisk(room), path) as rows:
        room[0] = 0
        rows.commit(removal(b"a"))
        assert not path.exists()
        room[0] = 4 << 20
        rows.set(b"b", b"2")
        assert path.stat().st_size == SIZE_BYTES


def test_opening_may_use_the_reserve(tmp_path: Path, room: list[int]) -> None:
    path = tmp_path / "reserve"
    Reserved(lambda: FullDisk(room), path).close()
    assert path.exists()
    room[0] = 0

    def opened() -> FullDisk:
        rows = FullDisk(room)
        rows.set(b"opened", b"1")
        return rows

    with Reserved(opened, path) as rows:
        assert rows.get(b"opened") == b"1"


def test_where_there_is_plenty_of_room_nothing_is_reserved(tmp_path: Path, room: list[int]) -> None:
    room[0] = DISK_BYTES
    with Reserved(lambda: FullDisk(room), tmp_path / "reserve") as rows:
        rows.set(b"a", b"1")
        assert not (tmp_path / "reserve").exists()
