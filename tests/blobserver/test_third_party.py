"""A backend of another distribution: installed beside ours, named in its entry points."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from peatkeep.blobserver.conformance import StorageSuite
from peatkeep.blobserver.registry import ENTRY_POINTS, open_storage
from peatkeep.blobserver.storage import Storage

MODULE = '''
import threading

from peatkeep.blob import SizedRef
from peatkeep.blobserver.storage import Storage
from peatkeep.errors import Corrupt, NotFound


class Shelf(Storage):
    """The six primitives, and nothing else."""

    @classmethod
    def from_config(cls, args, resolve):
        return cls(args["title"])

    def __init__(self, title):
        self.title = title
        self.lock = threading.Lock()
        self.blobs, self.waiting = {}, {}

    def fetch(self, ref):
        try:
            data = self.blobs[ref]
        except KeyError:
            raise NotFound("fetch", ref, self.title) from None
        if not ref.matches(data):
            raise Corrupt("fetch", ref, self.title)
        return data

    def write_many(self, blobs):
        batch = list(blobs)
        with self.lock:
            self.waiting.update(batch)
        return [SizedRef(ref, len(data)) for ref, data in batch]

    def sync(self):
        with self.lock:
            self.blobs = {**self.blobs, **self.waiting}
            self.waiting = {}

    def stat(self, refs):
        blobs = self.blobs
        return (SizedRef(ref, len(blobs[ref])) for ref in dict.fromkeys(refs) if ref in blobs)

    def enumerate(self, after=""):
        blobs = self.blobs
        return (SizedRef(ref, len(blobs[ref])) for ref in sorted(blobs) if ref > after)

    def remove(self, refs):
        gone = set(refs)
        with self.lock:
            self.blobs = {ref: data for ref, data in self.blobs.items() if ref not in gone}
            self.waiting = {ref: data for ref, data in self.waiting.items() if ref not in gone}
'''


class TestShelf(StorageSuite):
    @pytest.fixture
    def storage(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
        (tmp_path / "shelf_of_others.py").write_text(MODULE)
        metadata = tmp_path / "shelf_of_others-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(
            f"[{ENTRY_POINTS}]\nshelf = shelf_of_others:Shelf\n"
        )
        monkeypatch.syspath_prepend(tmp_path)

        def resolve(prefix: str) -> Storage:
            return open_storage("storage-shelf", {"title": prefix}, resolve)

        # As a part of one of ours: combinators take whatever keeps the contract.
        with open_storage("shard", {"backends": ["/a/", "/b/"]}, resolve) as store:
            yield store
