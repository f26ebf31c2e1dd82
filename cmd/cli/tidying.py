"""`pk storage compact` and `pk packblobs`: work on packed stores that no server has open."""

import os
from collections.abc import Iterator, Mapping

import click

from ..blobserver.blobpacked import BlobPacked
from ..blobserver.diskpacked import DiskPacked
from ..blobserver.storage import Storage
from ..errors import ConfigError
from .common import Command, Session, json_flag
from .configuration import chosen_file

config_flag = click.option("--config", metavar="FILE", help="The server's configuration.")


@click.command(cls=Command)
@config_flag
@json_flag
@click.pass_obj
def compact(session: Session, config: str | None) -> None:
    """Give back the space of removed blobs in packs and zips. The server must not be running."""
    for prefix, store in stores(config, ("storage-diskpacked", "storage-blobpacked")):
        assert isinstance(store, (BlobPacked, DiskPacked))
        found = store.compact()
        freed = found if isinstance(found, int) else found.bytes_freed
        session.output.result(f"{prefix}: {freed} bytes freed", prefix=prefix, freedBytes=freed)


@click.command(cls=Command)
@config_flag
@json_flag
@click.pass_obj
def packblobs(session: Session, config: str | None) -> None:
    """Pack files that lie loose, and bundle small ones. The server must not be running."""
    for prefix, store in stores(config, ("storage-blobpacked",)):
        assert isinstance(store, BlobPacked)
        store.settle()
        packed, bundled = store.pack_loose(), store.bundle_loose()
        text = f"{prefix}: {packed} files packed, {bundled} small ones bundled"
        session.output.result(text, prefix=prefix, packed=packed, bundled=bundled)


def stores(config: str | None, kinds: tuple[str, ...]) -> Iterator[tuple[str, Storage]]:
    """The configured stores of these types, open. Raises ConfigError where there is none.

    A replica of which a backend is an index is none: that keeps no copies.
    """
    from ..server.config import load
    from ..server.topology import INDEX, Topology

    location = chosen_file(config, os.environ)
    found = load.load(location, os.environ)
    indexes = {prefix for prefix, one in found.prefixes.items() if one.handler == INDEX}
    prefixes = [
        prefix
        for prefix, one in found.prefixes.items()
        if one.handler in kinds and one.enabled and indexes.isdisjoint(backends_of(one.args))
    ]
    if not prefixes:
        raise ConfigError("open stores of", location, f"it has no {' or '.join(kinds)}")
    with Topology(found, only=prefixes) as topology:
        for prefix in prefixes:
            yield prefix, topology.storage(prefix).inner


def backends_of(args: Mapping[str, object]) -> list[object]:
    backends = args.get("backends")
    return backends if isinstance(backends, list) else []
