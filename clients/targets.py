"""A client without a server: what it puts goes to a folder, or nowhere."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from .. import places
from ..blob import Ref, SizedRef
from ..blobserver.receive import receive_many
from ..blobserver.remote import Discovery, Uploaded
from ..blobserver.storage import Storage
from ..errors import NotFound, Unsupported
from .caches import UploadCache
from .client import Client
from .config import ClientConfig, ServerEntry, read_config

Blob = tuple[Ref, bytes]
DISCARD = "discard"


class StorageTarget:
    """A store of this process as a client sees a server."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.fetch = storage.fetch
        self.fetch_many = storage.fetch_many
        self.stat = storage.stat
        self.remove = storage.remove

    def upload(self, batch: Sequence[Blob], vivify: bool = False) -> Uploaded:
        if vivify:
            raise Unsupported("vivify", "files", "only a server can")
        return Uploaded(self.receive_many(batch), [])

    def receive_many(self, blobs: Iterable[Blob]) -> list[SizedRef]:
        return receive_many(self._storage, blobs)


class Nowhere(Storage):
    """Keeps nothing: for refs alone, and for measuring."""

    def fetch(self, ref: Ref) -> bytes:
        raise NotFound("fetch", ref)

    def write_many(self, blobs: Iterable[Blob]) -> list[SizedRef]:
        return [SizedRef(ref, len(data)) for ref, data in blobs]

    def sync(self) -> None:
        pass

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]:  # noqa: ARG002
        return iter(())

    def enumerate(self, after: str = "") -> Iterator[SizedRef]:  # noqa: ARG002
        return iter(())

    def remove(self, refs: Iterable[Ref]) -> None:
        pass


class Measuring(Nowhere):
    """Keeps only the sizes of the blobs that it was given."""

    def __init__(self) -> None:
        self.sizes: dict[Ref, int] = {}

    def write_many(self, blobs: Iterable[Blob]) -> list[SizedRef]:
        found = super().write_many(blobs)
        self.sizes.update(found)
        return found


class LocalClient(Client):
    """A client that stores here. It has no discovery, and no memory of what it stored."""

    def __init__(
        self, storage: Storage, config: ClientConfig, environ: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(ServerEntry("http://localhost"), config, environ=environ)
        self._storage = storage

    @cached_property
    def discovery(self) -> Discovery:
        return Discovery({})

    @cached_property
    def place(self) -> StorageTarget:
        return StorageTarget(self._storage)

    @cached_property
    def cache(self) -> UploadCache:
        return UploadCache(None)

    def close(self) -> None:
        super().close()
        self._storage.close()


def local_client(environ: Mapping[str, str], folder: str, secret_ring: str = "") -> LocalClient:
    """A client that stores in a folder, a new one in packs; `discard` keeps nothing.

    Without a configuration file nothing is left out, and nothing can be signed.
    """
    if folder == DISCARD:
        return client_of(Nowhere(), environ, secret_ring)
    from ..blobserver.folder import open_folder

    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return client_of(open_folder(path, packs_if_new=True), environ, secret_ring)


def client_of(storage: Storage, environ: Mapping[str, str], secret_ring: str = "") -> LocalClient:
    """A client that stores in a store of this process."""
    config = ClientConfig()
    if places.client_config_file(environ).exists():
        config = read_config(environ)
    if secret_ring:
        config = config.with_secret_ring(Path(secret_ring))
    return LocalClient(storage, config, environ)
