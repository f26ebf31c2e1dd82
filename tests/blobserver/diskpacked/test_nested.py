"""A blob that holds a whole record: what a walk finds in it must not hide the blob itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from peatkeep.blob import Ref
from peatkeep.blobserver.diskpacked import DiskPacked
from peatkeep.blobserver.diskpacked.records import header
from peatkeep.blobserver.memory import Memory
from peatkeep.blobserver.registry import open_storage
from peatkeep.errors import Corrupt

INNER = b"a record that lies whole in another blob"
OUTER = header(Ref.of(INNER), len(INNER)) + INNER + b" and its end"
OUTER_REF = Ref.of(OUTER)
LAST = b"in another pack"
HEADER = header(OUTER_REF, len(OUTER))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with OUTER in a pack that is not the last, whose end nothing mends."""
    with opened(tmp_path) as store:
        store.receive(OUTER_REF, OUTER)
        store.receive(Ref.of(LAST), LAST)
    return tmp_path


def opened(folder: Path) -> DiskPacked:
    args = {"path": str(folder), "maxFileSize": 1}
    store = open_storage("diskpacked", args, lambda _: Memory())
    assert isinstance(store, DiskPacked)
    return store


def change(folder: Path, work: Callable[[bytes], bytes]) -> None:
    pack = folder / "pack-00000.blobs"
    pack.write_bytes(work(pack.read_bytes()))


def test_it_is_named_where_its_end_is_damaged(folder: Path) -> None:
    change(folder, lambda data: data.replace(b" and its", b" and some more than its"))
    with opened(folder) as store:
        with pytest.raises(Corrupt):
            store.fetch(OUTER_REF)
        assert OUTER_REF in {found.ref for found in store.check() if not found.is_readable}


def test_it_is_streamed_where_its_header_is_damaged(folder: Path) -> None:
    change(folder, lambda data: bytes(len(HEADER)) + data[len(HEADER) :])
    with opened(folder) as store:
        assert store.fetch(OUTER_REF) == OUTER
        blob, last = store.stream()
        assert (blob.data, last.data) == (OUTER, LAST)
        assert list(store.stream(blob.token)) == [blob, last]
