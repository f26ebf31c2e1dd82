"""Which storage backends and combinators there are, by the name that a configuration uses."""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Final, Protocol

from ..errors import ConfigError, Unsupported
from ..sorted.registry import needs
from .storage import Storage

BUILTIN: Final = {
    "azure": "peatkeep.blobserver.objects:Azure",
    "blobpacked": "peatkeep.blobserver.blobpacked:BlobPacked",
    "cond": "peatkeep.blobserver.cond:Cond",
    "diskpacked": "peatkeep.blobserver.diskpacked:DiskPacked",
    "encrypt": "peatkeep.blobserver.encrypt.store:Encrypt",
    "faulty": "peatkeep.blobserver.faulty:Faulty",
    "googlecloudstorage": "peatkeep.blobserver.objects:GoogleCloudStorage",
    "limited": "peatkeep.blobserver.limited:Limited",
    "localdisk": "peatkeep.blobserver.localdisk:LocalDisk",
    "memory": "peatkeep.blobserver.memory:Memory",
    "migrate": "peatkeep.blobserver.migrating:Migrating",
    "namespace": "peatkeep.blobserver.namespace:Namespace",
    "overlay": "peatkeep.blobserver.overlay:Overlay",
    "placed": "peatkeep.blobserver.placed:Placed",
    "proxycache": "peatkeep.blobserver.proxycache:ProxyCache",
    "readonly": "peatkeep.blobserver.readonly:Readonly",
    "remote": "peatkeep.blobserver.remote:Remote",
    "replica": "peatkeep.blobserver.replica:Replica",
    "retry": "peatkeep.blobserver.retry:Retry",
    "s3": "peatkeep.blobserver.objects:S3",
    "shard": "peatkeep.blobserver.shard:Shard",
    "union": "peatkeep.blobserver.union:Union",
}
"""Type name -> "module:class". Modules are imported when they are asked for."""

ALIASES: Final = {"azurestorage": "azure", "b2": "s3", "filesystem": "localdisk"}
"""Names that Perkeep's configurations use where ours is another."""

EXTRAS: Final = dict.fromkeys(("azure", "googlecloudstorage", "s3"), ("s3", "obstore"))
"""Type name -> the extra that it needs, and a module which that brings."""

ENTRY_POINTS: Final = "peatkeep.storage"
"""The entry point group by which other distributions add types; each names such a class."""

Resolve = Callable[[str], Storage]
"""Gives the store that a configuration names by its prefix (`"/bs/"`)."""


class StorageClass(Protocol):
    """What a registered class offers."""

    def from_config(self, args: Mapping[str, object], resolve: Resolve, /) -> Storage:
        """Open by the arguments of the configuration. Raises ConfigError."""
        ...


def open_storage(kind: str, args: Mapping[str, object], resolve: Resolve) -> Storage:
    """Open a store by its type, with or without `storage-` before it, and its handlerArgs.

    Raises ConfigError for an unknown type or arguments that do not fit it, Unsupported when an
    extra is not installed, and what opening raises.
    """
    name = kind.removeprefix("storage-")
    return _class_of(ALIASES.get(name, name)).from_config(args, resolve)


def missing_extra(kind: str) -> str:
    """The extra of peatkeep that the type needs and that is not installed; "" if none."""
    extra, module = EXTRAS.get(ALIASES.get(kind, kind), ("", ""))
    return extra if extra and find_spec(module) is None else ""


def _class_of(name: str) -> StorageClass:
    found: StorageClass
    if name in BUILTIN:
        extra = missing_extra(name)
        if extra:
            raise Unsupported("open", f"storage of type {name!r}", needs(extra))
        module, _, class_name = BUILTIN[name].partition(":")
        found = getattr(import_module(module), class_name)
        return found
    from importlib.metadata import entry_points  # costs 10 ms: only where needed

    for point in entry_points(group=ENTRY_POINTS, name=name):
        found = point.load()
        return found
    raise ConfigError("open", f"storage of type {name!r}", "unknown type")
