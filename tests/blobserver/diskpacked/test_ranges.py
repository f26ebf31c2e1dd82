"""Reading parts of blobs without verifying them."""

from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import Corrupt, Invalid, NotFound
from peatkeep.server.watched import Watched

DATA = b"0123456789"
REF = Ref.of(DATA)


def opened(folder: Path) -> Storage:
    return open_storage("diskpacked", {"path": str(folder)}, lambda _: Memory())


def change(folder: Path, old: bytes, new: bytes) -> None:
    pack = folder / "pack-00000.blobs"
    pack.write_bytes(pack.read_bytes().replace(old, new))


def test_what_is_left_of_a_damaged_blob_can_be_read(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.receive(REF, DATA)
        change(tmp_path, DATA, b"x123456789")
        with pytest.raises(Corrupt):
            store.fetch_range(REF, 1, 3)
        assert store.read_range(REF, 1, 3) == b"123"
        assert store.read_range(REF, 8, 100) == b"89"
        assert store.read_range(REF, 10, 1) == b""


def test_a_store_of_a_server_reads_unverified_too(tmp_path: Path) -> None:
    with Watched(opened(tmp_path)) as store:
        store.receive(REF, DATA)
        change(tmp_path, DATA, b"x123456789")
        assert store.read_range(REF, 1, 3) == b"123"


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, -1), (11, 0)])
def test_a_range_that_is_none_is_refused(tmp_path: Path, offset: int, length: int) -> None:
    with opened(tmp_path) as store:
        store.receive(REF, DATA)
        with pytest.raises(Invalid):
            store.read_range(REF, offset, length)


def test_nothing_is_read_of_a_removed_blob(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        store.receive(REF, DATA)
        store.remove([REF])
        with pytest.raises(NotFound):
            store.read_range(REF, 0, 5)


def test_nothing_is_read_where_a_crash_cut_a_removal_short(tmp_path: Path) -> None:
    name, digest = REF.split("-")
    with opened(tmp_path) as store:
        store.receive(REF, DATA)
        gone = "x" * len(name) + "-" + "0" * len(digest)
        change(tmp_path, f"[{REF} 10]".encode() + DATA, f"[{gone} 10]".encode() + bytes(10))
        with pytest.raises(NotFound, match="removed"):
            store.read_range(REF, 2, 5)
