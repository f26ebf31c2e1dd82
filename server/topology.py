"""The stores of a configuration, opened in the order in which they need each other."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Self

from ..blob import Ref, SizedRef
from ..blobserver.hub import Hub
from ..blobserver.registry import open_storage
from ..blobserver.storage import Recoverable, Storage
from ..errors import ConfigError, NotFound
from ..index.index import Index, IndexRefused
from ..index.places import Place
from ..index.textkeeper import TextKeeper, texts_beside
from ..index.upkeep import Upkeep
from ..sorted.kv import KeyValue
from .config.record import LowConfig, Prefix
from .watched import Watched

if TYPE_CHECKING:
    from .checkpoints import Checkpoints

log = logging.getLogger("peatkeep.server")

STORAGE = "storage-"
INDEX = "storage-index"

FORGETFUL: Final = 2
"""The recovery that drops what is missing."""

MOST_LOGGED: Final = 20
"""How many damaged or refused things of one store are named at opening."""

REQUESTED: Final = "as requested"

COMPLETED_WITHIN_S: Final = 3
"""How long opening waits for an index that is not whole; the rest goes on in the background."""


class IndexDoor(Watched):
    """An index as clients reach it: it takes only blobs that are really stored.

    Perkeep's says "received" to blobs that it keeps nowhere.
    """

    def __init__(self, index: Watched, blobs: Storage) -> None:
        super().__init__(index)
        self._blobs = blobs

    def fetch(self, ref: Ref) -> bytes:
        raise NotFound("fetch", ref, "an index keeps no blobs")

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]:
        batch = list(blobs)
        stored = {found.ref for found in self._blobs.stat([ref for ref, _ in batch])}
        refused = {
            ref: "the index keeps no blobs: upload it to the blob root"
            for ref, _ in batch
            if ref not in stored
        }
        received = super().receive_many([blob for blob in batch if blob[0] in stored])
        if refused:
            raise IndexRefused(refused)
        return received


class Topology:
    """Every storage prefix, open, each with the hub that tells of its arrivals.

    Raises ConfigError for cycles and for references to prefixes that are none.
    """

    def __init__(
        self,
        config: LowConfig,
        *,
        reindex: bool = False,
        recovery: int = 0,
        only: Sequence[str] | None = None,
    ) -> None:
        """reindex: make the rows of every index anew in the background, while the old ones serve.

        recovery: 1 to make the rows of packed stores anew from what they hold, 2 to forget what
        they hold no more as well. only: open these prefixes, and what they need; None: all.
        """
        self._config = config
        self._reindex = reindex
        self._recovery = recovery
        self._open: dict[str, Watched] = {}
        self._needs: dict[str, list[str]] = {}
        self._opening: list[str] = []
        self._stack = ExitStack()
        self.indexes: dict[str, Index] = {}
        self.upkeeps: dict[str, Upkeep] = {}
        try:
            for prefix, conf in config.prefixes.items():
                if only is not None and prefix not in only:
                    continue
                if conf.enabled and conf.handler.startswith(STORAGE):
                    self.storage(prefix)
        except BaseException:
            self.close()
            raise

    def storage(self, prefix: str) -> Watched:
        """The store at this prefix, opened if it is not yet. Raises ConfigError."""
        if self._opening:
            self._needs.setdefault(self._opening[-1], []).append(prefix)
        if prefix in self._open:
            return self._open[prefix]
        if prefix in self._opening:
            circle = " → ".join([*self._opening[self._opening.index(prefix) :], prefix])
            raise ConfigError("open", prefix, f"the stores need each other in a circle: {circle}")
        conf = self._config.prefixes.get(prefix)
        if conf is None or not conf.enabled or not conf.handler.startswith(STORAGE):
            wanted_by = f", which {self._opening[-1]} names" if self._opening else ""
            raise ConfigError("open", prefix + wanted_by, "there is no storage at this prefix")
        self._opening.append(prefix)
        try:
            watched = Watched(self._open_one(prefix, conf))
        finally:
            self._opening.pop()
        self._stack.callback(watched.close)
        self._open[prefix] = watched
        return watched

    def _open_one(self, prefix: str, conf: Prefix) -> Storage:
        if conf.handler == INDEX:
            return self._open_index(prefix, conf.args)
        store = open_storage(conf.handler, conf.args, self.storage)
        try:
            _log_remarks(prefix, store.remarks)
            if self._recovery and isinstance(store, Recoverable):
                log.info("recovering %s", prefix)
                store.recover(forget_missing=self._recovery == FORGETFUL)
        except BaseException:
            store.close()
            raise
        return store

    def _open_index(self, prefix: str, args: Mapping[str, object]) -> Storage:
        source, rows_args = args.get("blobSource"), args.get("storage")
        if not isinstance(source, str) or not isinstance(rows_args, Mapping):
            raise ConfigError("configure", prefix, "an index needs blobSource and storage")
        blobs = self.storage(source)
        reindex = self._reindex or bool(args.get("reindex"))
        owners = self._owner_key_ids(prefix)
        place = Place(rows_args)
        rows, reason = place.open()
        checkpoints = self._checkpoints(rows, source)
        if checkpoints is not None and not reindex:
            checkpoints.restore()
        index = Index(rows, blobs, owners, catch_up=False)
        self._stack.callback(place.closed)
        self._stack.callback(index.close)
        if checkpoints is not None:
            self._stack.callback(checkpoints.close)
            checkpoints.start()
        self.indexes[prefix] = index
        upkeep = self.upkeeps[prefix] = Upkeep(index, rows, place, REQUESTED if reindex else reason)
        self._stack.callback(upkeep.close)
        upkeep.start()
        upkeep.wait(COMPLETED_WITHIN_S)
        return index.storage

    def _checkpoints(self, rows: KeyValue, source: str) -> "Checkpoints | None":
        """Of an index whose blobs lie in a bucket, or in several: in the first of them."""
        hubs = self.hubs(source)
        for prefix in self._below(source):
            bucket = getattr(self._open[prefix].inner, "bucket", None)  # as object stores have it
            if bucket is not None:
                from .checkpoints import Checkpoints  # needs an extra

                return Checkpoints(rows, bucket, lambda: sum(hub.arrivals for hub in hubs))
        return None

    def _owner_key_ids(self, prefix: str) -> Sequence[str]:
        """The keys of the owner, by the search handler over this index, else the signing one."""
        for conf in self._config.prefixes.values():
            if conf.handler == "search" and conf.args.get("index") == prefix:
                owner = conf.args.get("owner")
                if isinstance(owner, Mapping):
                    return [str(owner.get("identity", ""))]
        return [
            str(conf.args["keyId"])
            for conf in self._config.prefixes.values()
            if conf.handler == "jsonsign" and "keyId" in conf.args
        ]

    def text_keepers(self, used_at: Callable[[], float]) -> list[TextKeeper]:
        """One for each index beside whose rows texts can be kept. used_at: see there."""
        keepers = []
        for prefix, index in self.indexes.items():
            rows = self._config.prefixes[prefix].args.get("storage")
            texts = texts_beside(rows) if isinstance(rows, Mapping) else None
            if texts is not None:
                keepers.append(TextKeeper(index, texts, used_at))
        return keepers

    def hubs(self, prefix: str) -> list[Hub]:
        """The hubs of this store and of all below it: a blob may come in by any of them."""
        return [self._open[each].hub for each in self._below(prefix)]

    def _below(self, prefix: str) -> list[str]:
        """This prefix and those of all stores that it needs, each once."""
        found: dict[str, None] = {}
        todo = [prefix]
        while todo:
            here = todo.pop()
            if here not in found:
                found[here] = None
                todo += self._needs.get(here, [])
        return list(found)

    @property
    def prefixes(self) -> list[str]:
        return list(self._open)

    def close(self) -> None:
        """Close the stores, those that need others first."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _log_remarks(prefix: str, remarks: Sequence[str]) -> None:
    """Log what opening a store found."""
    for remark in remarks[:MOST_LOGGED]:
        log.warning("%s: %s", prefix, remark)
    if len(remarks) > MOST_LOGGED:
        log.warning("%s: and %d more of such findings", prefix, len(remarks) - MOST_LOGGED)
