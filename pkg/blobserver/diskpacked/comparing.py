"""The index of a store that nobody has open, against its packs (README.md, "Comparing")."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple, Self

from ...blob import Ref, parse_ref
from ...errors import ConfigError, StoreError
from ...sorted.kv import Batch
from ...sorted.registry import open_kv
from .files import PackFileSystem
from .lock import PackLock
from .packs import Packs
from .records import Place, pack_name
from .rowstore import index_args
from .walk import Damaged, Kind, Walker

INDEX_NAMES: Final = {
    "index.leveldb": "leveldb",
    "diskpacked-index.leveldb": "leveldb",
    "diskpacked-index.sqlite": "sqlite",
    "diskpacked-index.kv": "kv",  # in whose place there is LevelDB, once we used it
}
"""Where configurations keep the index of a folder, within it, and of what type it is."""


class Difference(NamedTuple):
    """A row that should be another. None: there is no row, or there should be none."""

    key: bytes
    there: bytes | None
    right: bytes | None


def find_index(root: Path) -> dict[str, object]:
    """The configuration of the index that lies in a folder of packs; the usual one if none does.

    Raises ConfigError where there are several: only a server's configuration says which is used.
    """
    found = [name for name in INDEX_NAMES if (root / name).exists()]
    if "diskpacked-index.leveldb" in found and "diskpacked-index.kv" in found:
        found.remove("diskpacked-index.kv")
    if len(found) > 1:
        raise ConfigError("choose index", root, f"it holds {' and '.join(found)}")
    return {"type": INDEX_NAMES[found[0]], "file": str(root / found[0])} if found else {}


class Comparison:
    """Reads every blob, and says which rows lead to none. Packs are never written.

    damaged: what was found unreadable, once `differences` has come to its end.
    """

    def __init__(self, root: Path, index: Mapping[str, object]) -> None:
        """index: as a configuration has it. Raises ConfigError, Unavailable (in use), Corrupt."""
        files = PackFileSystem()
        with ExitStack() as undo:
            self._packs = Packs(str(root), files)
            undo.callback(self._packs.close)
            self._refuse_gaps()
            lock = PackLock(str(root), self._packs.numbers[-1], files)
            undo.callback(lock.release)
            self._rows = open_kv(index_args(root, index))
            undo.callback(self._rows.close)
            self._stack = undo.pop_all()
        self.damaged: list[Damaged] = []

    def _refuse_gaps(self) -> None:
        """Without a pack that is only not mounted, say, its blobs would lose their rows."""
        numbers = self._packs.numbers
        missing = set(range(max(numbers, default=0) + 1)) - set(numbers)
        if missing:
            raise ConfigError("reindex", self._packs.root, f"{pack_name(min(missing))} is missing")

    def differences(self) -> Iterator[Difference]:
        """Yield the rows to be changed: those that are there in order, then those that lack.

        A row is right if it leads to its blob. One that can't be read stays.
        """
        places: dict[Ref, dict[bytes, None]] = {}
        for number in self._packs.numbers:
            self._walk(number, places)
        for key, there in self._rows.find():
            ref = parse_ref(key.decode("utf-8", "replace"))
            if ref is None:
                continue
            fitting = places.pop(ref, {})
            if there not in fitting and not self._may_fit(ref, there):
                yield Difference(key, there, _last(fitting))
        for ref in sorted(places):
            yield Difference(ref.encode(), None, _last(places[ref]))

    def _walk(self, number: int, places: dict[Ref, dict[bytes, None]]) -> None:
        path = self._packs.path(number)
        try:
            for found in Walker(self._packs.reader(number)).walk():
                ref = found.ref if found.kind is Kind.LIVE else None
                if found.is_misnamed:
                    ref = found.actual
                if ref is not None:
                    place = Place(number, found.offset, found.size)
                    places.setdefault(ref, {})[place.row()] = None
                if found.kind not in (Kind.LIVE, Kind.REMOVED):
                    reason = f"{found.end - found.begin} damaged bytes at {found.begin}"
                    self.damaged.append(Damaged(found.ref, path, reason))
        except StoreError as error:
            self.damaged.append(Damaged(None, path, error.reason))

    def _may_fit(self, ref: Ref, row: bytes) -> bool:
        """Whether a row leads to its blob, behind a damaged header; True where nobody can say."""
        place = self._packs.usable(row)
        try:
            return place is not None and ref.matches(self._packs.read(place))
        except StoreError:
            return True

    def write(self, differences: list[Difference]) -> None:
        """Set the rows right."""
        batch = Batch()
        for key, _, right in differences:
            if right is None:
                batch.delete(key)
            else:
                batch.set(key, right)
        self._rows.commit(batch)

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _last(rows: dict[bytes, None]) -> bytes | None:
    return next(reversed(rows), None)
