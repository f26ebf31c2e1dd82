"""A client of one server: what `pk-put` and `pk-get` do, as a library.

    with Client.from_environment(os.environ) as client:
        ref = client.put(b"/home/me/photos")
        client.restore(ref, b"/tmp/photos")

Nothing is sent before it is needed, and discovery is asked for once.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from .. import places
from ..blob import Ref, SizedRef
from ..blobserver.framing import Found
from ..blobserver.remote import FREE_LINE, Discovery, Line, Remote, Transport, Uploaded, discover
from ..errors import ConfigError
from .config import ClientConfig, ServerEntry, choose_server, read_config
from .ignore import Ignored
from .progress import Progress

if TYPE_CHECKING:
    from ..schema.signing import Signer
    from .authoring import Author
    from .backup import Backup, Hooks
    from .blobcache import CachedSource
    from .caches import UploadCache
    from .files import FileOptions, ServerCopies
    from .uploader import AnyUploader

Note = Callable[[str], None]


class Place(Protocol):
    """Where blobs are put and got."""

    def fetch(self, ref: Ref) -> bytes: ...

    def fetch_many(self, refs: Iterable[Ref]) -> Iterator[tuple[Ref, Found]]: ...

    def stat(self, refs: Iterable[Ref]) -> Iterator[SizedRef]: ...

    def receive_many(self, blobs: Iterable[tuple[Ref, bytes]]) -> list[SizedRef]: ...

    def upload(self, batch: Sequence[tuple[Ref, bytes]], vivify: bool = False) -> Uploaded: ...

    def remove(self, refs: Iterable[Ref]) -> None: ...


class Client:
    """One server, and what this machine remembers of it. Safe to use from many threads.

    config: who signs, and what is left out. cache_dir: None to remember for this object's life
    only. line: how bytes travel; with `PK_STREAM` set to 0 in `environ`, by plain requests alone.
    note: told in a sentence of what a person should know.
    """

    def __init__(
        self,
        server: ServerEntry,
        config: ClientConfig,
        *,
        cache_dir: Path | None = None,
        environ: Mapping[str, str] | None = None,
        insecure: bool = False,
        line: Line = FREE_LINE,
        note: Note = lambda _: None,
    ) -> None:
        self.server = server
        over_stream = line.over_stream and places.wants_stream(environ or {})
        self._line = line._replace(over_stream=over_stream)
        self.config = config
        self._cache_dir = cache_dir
        self._environ = environ or {}
        self._note = note
        self._lock = threading.RLock()
        self.transport = Transport(
            server.url,
            server.auth,
            trusted_certs=server.trusted_certs,
            insecure=insecure,
            proxies=self._environ,
            line=line,
        )

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str],
        wanted: str = "",
        *,
        secret_ring: str = "",
        insecure: bool = False,
        line: Line = FREE_LINE,
        note: Note = lambda _: None,
    ) -> Self:
        """The client that these variables and the configuration file lead to.

        wanted: a server as named on the command line. secret_ring: a key ring in place of the
        configured one. Raises ConfigError.
        """
        config = read_config(environ)
        if secret_ring:
            config = config.with_secret_ring(Path(secret_ring))
        return cls(
            choose_server(config, environ, wanted),
            config,
            cache_dir=places.cache_dir(environ),
            environ=environ,
            insecure=insecure,
            line=line,
            note=note,
        )

    # -- what the server is ---------------------------------------------------------------------

    @cached_property
    def discovery(self) -> Discovery:
        with self._lock:
            return discover(self.transport)

    @cached_property
    def storage(self) -> Remote:
        """The blobs below the path of the server's URL, if it has one, else its blobRoot."""
        return Remote.on(self.transport, self.discovery, line=self._line)

    @property
    def place(self) -> Place:
        """Where blobs are put and got: `storage`, unless a subclass has another."""
        return self.storage

    @cached_property
    def cached_place(self) -> "CachedSource":
        """Where blobs are got, through the cache of fetched blobs on this machine's disk."""
        from .blobcache import BlobCache, CachedSource

        folder = self._cache_dir or Path(os.devnull)  # below which nothing can be kept
        return CachedSource(BlobCache(folder / "blobs"), lambda: self.place)

    @cached_property
    def cache(self) -> "UploadCache":
        """What is known to be on the server. Without a storage generation, nothing is kept."""
        from .caches import UploadCache, open_upload_cache  # bring SQLite along

        with self._lock:
            generation = self.storage.generation()
            if generation is None or self._cache_dir is None:
                if self._cache_dir is not None:
                    self._note("the server names no storage generation: working without caches")
                return UploadCache(None)
            return open_upload_cache(self._cache_dir, str(self.storage), generation.token)

    @cached_property
    def author(self) -> "Author":
        """Signs as the configured identity, and stores what was signed. Raises ConfigError."""
        from .authoring import Author

        self._compare_keys(self.signer)
        return Author(self.place, self.cache, self.signer)

    @cached_property
    def signer(self) -> "Signer":
        """Signs as the configured identity. The passphrase of a locked key is asked for."""
        from .authoring import load_signer
        from .passphrase import Passphrases

        return load_signer(self.config, Passphrases(self._environ))

    def _compare_keys(self, signer: "Signer") -> None:
        theirs = self.discovery.signing.get("publicKeyId")
        if not theirs:
            self._note("the server has no identity of its own: it will not index these claims")
        elif theirs != signer.key_id:
            self._note(
                f"this client signs as {signer.key_id}, but the server's identity is {theirs}:"
                " it will not count these claims as its owner's"
            )

    # -- putting --------------------------------------------------------------------------------

    @contextmanager
    def backup(
        self,
        options: "FileOptions | None" = None,
        progress: Progress | None = None,
        hooks: "Hooks | None" = None,
    ) -> Iterator["Backup"]:
        """Give a Backup that puts trees to this server. What it learned is kept at the end."""
        from .backup import Backup, Hooks
        from .files import FileOptions, FileStorer

        progress = progress or Progress()
        options = options or FileOptions()
        uploader = self._uploader(options, progress)
        files = FileStorer(uploader, options, self._copies())
        hooks = hooks or Hooks(is_ignored=self.ignored)
        backup = Backup(uploader, self.cache, files, progress, hooks)
        try:
            yield backup
        finally:
            backup.close()
            uploader.stop()
            self.cache.flush()

    def _uploader(self, options: "FileOptions", progress: Progress) -> "AnyUploader":
        from .uploader import Uploader

        def plain() -> Uploader:
            return Uploader(self.place, self.cache, progress.sent)

        place = self.place
        if not isinstance(place, Remote) or not place.has_stream or options.vivify:
            return plain()
        from .streaming import StreamUploader

        return StreamUploader(place.open_stream, plain, self.cache, progress.sent)

    @cached_property
    def ignored(self) -> Ignored:
        return Ignored(self.config.ignored_files, self._environ)

    def _copies(self) -> "ServerCopies | None":
        from .files import ServerCopies

        found = self.discovery
        switched_off = places.switch(
            self._environ, "PK_NO_FILE_DUP_SEARCH", "CAMLI_NO_FILE_DUP_SEARCH"
        )
        if switched_off or not found.search_root or not found.download_helper:
            return None
        return ServerCopies(
            self.storage, found.search_root, found.download_helper, sha1=found.has_sha1_index
        )

    def put(
        self,
        path: bytes,
        options: "FileOptions | None" = None,
        *,
        begun: Callable[["Backup"], None] = lambda _: None,
    ) -> Ref:
        """Put a file or directory; the ref of its schema blob. Raises the first problem met.

        All else is stored then, too. begun: given the Backup, which other threads may `stop`.
        """
        progress = Progress()
        with self.backup(options, progress) as backup:
            begun(backup)
            ref = backup.put(path)
        if progress.problems:
            raise progress.problems[0]
        if ref is None:
            raise ConfigError("put", path, "it is among the ignored files")
        return ref

    def put_blob(self, data: bytes, hash_name: str = "sha224") -> Ref:
        """Put bytes as a blob, unless the server has it."""
        import hashlib

        digest = hashlib.new(hash_name, data, usedforsecurity=False).digest()
        ref = Ref.from_digest(hash_name, digest)
        self.put_blobs([(ref, data)])
        return ref

    def put_blobs(self, blobs: Sequence[tuple[Ref, bytes]]) -> None:
        """Put the blobs that the server lacks. Raises the error of the first refused one."""
        unknown = [(ref, data) for ref, data in blobs if not self.cache.has(ref)]
        if not unknown:
            return
        there = {found.ref for found in self.place.stat(ref for ref, _ in unknown)}
        self.place.receive_many([(ref, data) for ref, data in unknown if ref not in there])
        self.cache.remember_blobs(ref for ref, _ in unknown)

    # -- getting --------------------------------------------------------------------------------

    def restore(self, ref: Ref, target: bytes, progress: Progress | None = None) -> None:
        """Restore a tree below a directory. Raises the first problem met, after all else."""
        from .restore import Restore

        own = progress or Progress()
        Restore(self.place, target, own).restore(ref)
        if progress is None and own.problems:
            raise own.problems[0]

    # -- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Keep what was learned; close connections."""
        if "cache" in self.__dict__:
            self.cache.close()
        if "storage" in self.__dict__:
            self.storage.close()
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
