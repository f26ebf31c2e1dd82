"""A configured server, put together: stores open, handlers mounted, ready for requests."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping

from ..blob import Ref
from ..blobserver.blobpacked import BlobPacked
from ..blobserver.migrating import Migrating
from ..errors import ConfigError, Corrupt, Invalid, NotFound, StoreError
from ..index.index import Index
from ..index.rows import DamagedRow
from ..schema.signing import verify
from .app import App
from .auth import Auth
from .blobs import Blobs
from .config.record import LowConfig, Prefix
from .debug import Debug, RecentLog
from .discovery import Discovery
from .help import Help
from .importer import Importer
from .livesearch import LiveSearches
from .migration import Migration, finisher
from .packing import Packing
from .peers import LocalPeers
from .root import Root
from .routes import Mount
from .search import Search
from .share import Share
from .sighelper import SigHelper, key_of
from .status import Restart, Status, Work
from .stream import Streams
from .streamlog import Logs
from .syncing import Sync, SyncPage
from .topology import INDEX, STORAGE, IndexDoor, Topology
from .ui import Ui
from .uploads import Uploads
from .vivify import Vivifier
from .world import World, text_arg

Builder = Callable[["Service", str, Prefix], Iterable[Mount]]

VARY = {"Vary": "Accept"}


class Service:
    """One server without its socket: `app` answers, `close` gives all back.

    restart: set by whoever can start the program anew.
    """

    def __init__(
        self,
        config: LowConfig,
        *,
        environ: Mapping[str, str] | None = None,
        address: str = "",
        reindex: bool = False,
        recovery: int = 0,
    ) -> None:
        """environ: the environment, by default that of the process. address: `host:port`.

        reindex, recovery: as of the topology.
        Raises ConfigError for a configuration that does not hold together, and what opening the
        stores raises.
        """
        self.restart: Restart | None = None
        self.syncs: dict[str, Sync] = {}
        self.migrations: dict[str, Migration] = {}
        self.packings: dict[str, Packing] = {}
        self.status_pages: list[Status] = []
        environ = os.environ if environ is None else environ
        auth = Auth([config.auth], LocalPeers(environ))
        topology = Topology(config, reindex=reindex, recovery=recovery)
        try:
            self.world = World(config, topology, auth, environ, address=address)
            self.sighelpers = self._sighelpers()
            self._log = RecentLog()
            mounts = [mount for prefix in config.prefixes for mount in self._mounts(prefix)]
            self._text_keepers = topology.text_keepers(self.world.budget.used_at)
            mounts += Debug(self.world, self._log).mounts()
            self.app = App(mounts, auth, self._notice)
        except BaseException:
            topology.close()
            raise

    def _sighelpers(self) -> dict[str, SigHelper]:
        """First of all handlers: others want to sign, or to say who signs."""
        world = self.world
        made = {}
        for prefix, conf in world.enabled("jsonsign"):
            ring, key_id = text_arg(prefix, conf, "secretRing"), text_arg(prefix, conf, "keyId")
            key = key_of(prefix, ring, key_id)
            place = text_arg(prefix, conf, "publicKeyDest")
            destination = world.topology.storage(place) if place else None
            made[prefix] = SigHelper(prefix, key, world.bridge, destination)
        return made

    def _mounts(self, prefix: str) -> Iterable[Mount]:
        conf = self.world.config.prefixes[prefix]
        if not conf.enabled:
            return ()
        kind = STORAGE if conf.handler.startswith(STORAGE) else conf.handler
        builder = BUILDERS.get(kind)
        if builder is None:
            raise ConfigError("configure", prefix, f"unknown handler {conf.handler!r}")
        return builder(self, prefix, conf)

    @property
    def sighelper(self) -> SigHelper | None:
        return next(iter(self.sighelpers.values()), None)

    def _notice(self, error: StoreError) -> None:
        """Rows that can't be what was written: who asks for them must not be the last to know."""
        if isinstance(error, DamagedRow):
            for upkeep in self.world.topology.upkeeps.values():
                upkeep.notice(str(error))

    def status(self) -> dict[str, object] | None:
        """What the status page says; None where there is none."""
        return self.status_pages[0].document() if self.status_pages else None

    def index(self, prefix: str, conf: Prefix) -> Index:
        """The index that a handler names in its argument `index`. Raises ConfigError."""
        place = text_arg(prefix, conf, "index")
        if place not in self.world.topology.indexes:
            raise ConfigError("configure", f"{prefix} ({conf.handler})", f"no index at {place!r}")
        return self.world.topology.indexes[place]

    def start(self) -> None:
        """Store the public key and begin the work in the background."""
        logging.getLogger("peatkeep").addHandler(self._log)
        for helper in self.sighelpers.values():
            helper.store_public_key()
        for sync in self.syncs.values():
            sync.start()
        for migration in self.migrations.values():
            migration.start()
        for packing in self.packings.values():
            packing.start()
        for keeper in self._text_keepers:
            keeper.start()

    def close(self) -> None:
        """Stop the background work and close the stores."""
        for packing in self.packings.values():
            packing.stop()
        for migration in self.migrations.values():
            migration.stop()
        for sync in self.syncs.values():
            sync.stop()
        for keeper in self._text_keepers:
            keeper.stop()
        logging.getLogger("peatkeep").removeHandler(self._log)
        self.world.bridge.close()
        self.world.forms.close()
        self.world.topology.close()


def _storage(service: Service, prefix: str, conf: Prefix) -> Iterable[Mount]:
    world = service.world
    storage = world.topology.storage(prefix)
    if isinstance(storage.inner, Migrating):
        finish = finisher(world.config.path)
        service.migrations[prefix] = Migration(prefix, storage.inner, finish)
    if isinstance(storage.inner, BlobPacked):
        service.packings[prefix] = Packing(prefix, storage.inner)
    if conf.handler == INDEX:
        storage = IndexDoor(storage, world.topology.storage(text_arg(prefix, conf, "blobSource")))
    helper = service.sighelper
    vivifier = Vivifier(storage, world.bridge, helper.signer) if helper else None
    blobs = Blobs(
        storage,
        world.bridge,
        world.budget,
        hubs=world.topology.hubs(prefix),
        uploads=Uploads(storage, world.bridge, vivifier.vivify if vivifier else None),
        deletable=conf.deletable,
    )
    index = next(iter(world.topology.indexes.values()), None)
    logs = Logs(world.topology.hubs(prefix), index)
    streams = Streams(storage, world.bridge, world.budget, world.auth, logs)
    yield Mount(prefix + "camli/", "storage", [*streams.routes, *blobs.routes], conf.internal)


def _discovery(service: Service) -> Discovery | None:
    """By the arguments of the root handler, without which nobody would know them."""
    for _, conf in service.world.enabled("root"):
        helper = service.sighelpers.get(str(conf.args.get("jsonSignRoot")))
        return Discovery(service.world, conf.args, helper.document if helper else None)
    return None


def _root(service: Service, prefix: str, conf: Prefix) -> Iterable[Mount]:
    discovery = _discovery(service)
    assert discovery is not None
    root = Root(service.world, discovery)
    yield Mount(prefix, "root", root.routes, conf.internal, conf.args.get("stealth") is True)


def _jsonsign(service: Service, prefix: str, conf: Prefix) -> Iterable[Mount]:
    yield Mount(prefix, "jsonsign", service.sighelpers[prefix].routes, conf.internal)


def _ui(service: Service, prefix: str, conf: Prefix) -> Iterable[Mount]:
    world = service.world
    roots = [text_arg(place, root, "blobRoot") for place, root in world.enabled("root")]
    if not roots or not roots[0]:
        raise ConfigError("configure", f"{prefix} (ui)", "the root handler names no blobRoot")
    storage = world.topology.storage(roots[0])
    ui = Ui(world, prefix, storage, _discovery(service))
    yield Mount(prefix, "ui", ui.routes, conf.internal, headers=VARY)


def _share(service: Service, prefix: str, conf: Prefix) -> Iterable[Mount]:
    world = service.world
    view = service.index(prefix, conf).view
    storage = world.topology.storage(text_arg(prefix, conf, "blobRoot"))

    def is_made_by_owner(claim: str) -> bool:
        signed = verify(storage.fetch(Ref.trusted(claim)), storage)
        return signed.key_id in view.owner_key_ids

    def is_deleted(ref: Ref) -> bool:
        try:
            # Whoever may upload may delete the owner's delete claim: that brings no share back.
            return view.is_deleted(ref, is_made_by_owner)
        except (Invalid, NotFound, Corrupt):
            # Nor does a claim that got lost.
            return True

    share = Share(
        prefix,
        storage,
        world.bridge,
        is_deleted=is_deleted,
        is_owner=view.owner_key_ids.__contains__,
    )
    yield Mount(prefix, "share", share.routes, conf.internal)


def _search(service: Service, prefix: str, conf: Prefix) -> Iterable[Mount]:
    index, bridge = service.index(prefix, conf), service.world.bridge
    search = Search(prefix, index, bridge, LiveSearches(index, bridge, service.status))
    yield Mount(prefix, "search", search.routes, conf.internal)


def _sync(service: Service, prefix: str, conf: Prefix) -> Iterable[Mount]:
    source, target = text_arg(prefix, conf, "from"), text_arg(prefix, conf, "to")
    world = service.world
    topology = world.topology
    sync = Sync(topology.storage(source), topology.storage(target))
    service.syncs[prefix] = sync
    page = SyncPage(world, prefix, source, target, sync)
    yield Mount(prefix, "sync", page.routes, conf.internal)


def _status(service: Service, prefix: str, conf: Prefix) -> Iterable[Mount]:
    works: Mapping[str, Mapping[str, Work]]
    works = {
        "migration": service.migrations,
        "packing": service.packings,
        "index": service.world.topology.upkeeps,
    }
    status = Status(prefix, service.world, service.syncs, lambda: service.restart, works)
    service.status_pages.append(status)
    yield Mount(prefix, "status", status.routes, conf.internal)


def _help(service: Service, prefix: str, conf: Prefix) -> Iterable[Mount]:
    helper = service.sighelper
    page = Help(service.world, helper.signer.key_id if helper else "")
    yield Mount(prefix, "help", page.routes, conf.internal)


def _importer(service: Service, prefix: str, conf: Prefix) -> Iterable[Mount]:
    yield Mount(prefix, "importer", Importer(service.world).routes, conf.internal)


BUILDERS: dict[str, Builder] = {
    STORAGE: _storage,
    "root": _root,
    "jsonsign": _jsonsign,
    "ui": _ui,
    "share": _share,
    "search": _search,
    "sync": _sync,
    "status": _status,
    "help": _help,
    "importer": _importer,
}
