"""A configured server, put together: stores open, handlers mounted, ready for requests."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping

from ..errors import ConfigError
from .app import App
from .auth import Auth
from .blobs import Blobs
from .config.record import LowConfig, Prefix
from .discovery import Discovery
from .peers import LocalPeers
from .root import Root
from .routes import Mount
from .topology import STORAGE, Topology
from .uploads import Uploads
from .world import World

log = logging.getLogger("peatkeep.server")

Builder = Callable[["Service", str, Prefix], Iterable[Mount]]


class Service:
    """One server without its socket: `app` answers, `close` gives all back.

    Raises ConfigError for a configuration that does not hold together, and what opening raises.
    """

    def __init__(
        self,
        config: LowConfig,
        *,
        environ: Mapping[str, str] | None = None,
        address: str = "",
        reindex: bool = False,
    ) -> None:
        """environ: the environment, by default that of the process. address: `host:port`."""
        environ = os.environ if environ is None else environ
        auth = Auth([config.auth], LocalPeers(environ))
        topology = Topology(config, reindex=reindex)
        try:
            self.world = World(config, topology, auth, environ, address=address)
            mounts = [
                mount
                for prefix, conf in config.prefixes.items()
                if conf.enabled
                for mount in self._mounts(prefix, conf)
            ]
            self.app = App(mounts, auth)
        except BaseException:
            topology.close()
            raise

    def _mounts(self, prefix: str, conf: Prefix) -> Iterable[Mount]:
        kind = STORAGE if conf.handler.startswith(STORAGE) else conf.handler
        builder = BUILDERS.get(kind)
        if builder is None:
            raise ConfigError("configure", prefix, f"unknown handler {conf.handler!r}")
        return builder(self, prefix, conf)

    def start(self) -> None:
        """Begin the work in the background."""

    def close(self) -> None:
        """Stop background work and close the stores."""
        self.world.topology.close()


def _storage(service: Service, prefix: str, conf: Prefix) -> Iterable[Mount]:
    world = service.world
    storage = world.topology.storage(prefix)
    blobs = Blobs(
        storage,
        world.bridge,
        hubs=world.topology.hubs(prefix),
        uploads=Uploads(storage, world.bridge),
        deletable=conf.deletable,
    )
    yield Mount(prefix + "camli/", "storage", blobs.routes, conf.internal)


def _root(service: Service, prefix: str, conf: Prefix) -> Iterable[Mount]:
    discovery = Discovery(service.world, conf.args, None)
    root = Root(service.world, discovery)
    yield Mount(prefix, "root", root.routes, conf.internal, conf.args.get("stealth") is True)


def _none(_service: Service, _prefix: str, _conf: Prefix) -> Iterable[Mount]:
    return ()


BUILDERS: dict[str, Builder] = {
    STORAGE: _storage,
    "root": _root,
    **dict.fromkeys(
        ("search", "jsonsign", "ui", "share", "sync", "status", "help", "importer"), _none
    ),
}
