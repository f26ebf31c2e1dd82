"""A high-level configuration becomes the low-level one: a pure function from dict to dict.

The rules are those of server/config/README.md, "From high to low"; prefixes and file names are
Perkeep's, so that a store made by either opens in the other.
"""

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from .apps import add_apps
from .high_keys import MIGRATION, REMOTES, refuse
from .moving import add_migration
from .remotes import add_remotes

INDEX_FILES: Final = {"sqlite": "sqlite", "kvIndexFile": "kv", "levelDB": "leveldb"}
"""Key of an index file -> type of its store, which is also the extension of files beside it."""

DATABASES: Final = ("mysql", "postgres", "mongo")
INDEX_KEYS: Final = (*DATABASES, *INDEX_FILES, "memoryIndex")


def convert(
    high: Mapping[str, object],
    find_key_id: Callable[[str, str], str],
    temporary_dir: str,
) -> dict[str, object]:
    """Return the low-level configuration that `high` stands for. `high` is not changed.

    high: checked by `high_keys.check`, expressions expanded.
    find_key_id: (path of the secret keyring, identity of 8, 16 or 40 digits) -> the 16 digits;
    raises ConfigError if the ring has no such key. temporary_dir: where a server without local
    storage caches. Raises Untransformable.
    """
    return Conversion(high, find_key_id, temporary_dir).result()


class Conversion:
    """One conversion under way: what was asked for, and the prefixes made so far."""

    def __init__(
        self,
        high: Mapping[str, object],
        find_key_id: Callable[[str, str], str],
        temporary_dir: str,
    ) -> None:
        self.high = high
        self.prefixes: dict[str, dict[str, object]] = {}
        self.temporary_dir = temporary_dir
        self.runs_index = high.get("runIndex") is not False
        self.blob_path = self.text("blobPath")
        self.in_memory = bool(high.get("memoryStorage"))
        self.packs_related = bool(high.get("packRelated"))
        self.packs_blobs = bool(high.get("packBlobs"))
        self.packs_loose = bool(high.get("packLoose"))
        self._find_key_id = find_key_id
        self.key_id = ""

    def text(self, key: str) -> str:
        value = self.high.get(key)
        return value if isinstance(value, str) else ""

    def add(self, prefix: str, handler: str, args: Mapping[str, object] | None = None) -> None:
        """Mount a handler; `args` None leaves `handlerArgs` out."""
        entry: dict[str, object] = {"handler": handler}
        if args is not None:
            entry["handlerArgs"] = dict(args)
        self.prefixes[prefix] = entry

    def like(self, storage: Mapping[str, object]) -> "Conversion":
        """Another one with everything but where the blobs are, which is what `storage` says."""
        others = self.high.keys() - REMOTES - MIGRATION
        high = {key: self.high[key] for key in others} | dict(storage)
        one = Conversion(high, self._find_key_id, self.temporary_dir)
        one.key_id = self.key_id
        return one

    def result(self) -> dict[str, object]:
        self._check_index()
        self.check_storage()
        top = self._top()
        self.key_id = self._identity()
        if self.high.get("migration"):
            add_migration(self)
        else:
            self.add_storage()
        self._add_cache()
        add_remotes(self)
        if self.runs_index:
            self._add_index()
        self._add_handlers()
        add_apps(self)
        self._apply_own_tables(top)
        return top | {"prefixes": self.prefixes}

    # -- checks ------------------------------------------------------------------------------------

    def _check_index(self) -> None:
        if not self.runs_index:
            return
        count = sum(bool(self.high.get(key)) for key in INDEX_KEYS)
        if not count:
            refuse(
                "Unless runIndex is set to false, you must specify an index option"
                " (kvIndexFile, leveldb, mongo, mysql, postgres, sqlite, memoryIndex)."
            )
        if count > 1:
            refuse(
                "With runIndex set true, you can only pick exactly one indexer"
                " (mongo, mysql, postgres, sqlite, kvIndexFile, leveldb, memoryIndex)."
            )

    def check_storage(self) -> None:
        if self.in_memory and self.blob_path:
            refuse("memoryStorage and blobPath are mutually exclusive.")
        if self.in_memory and self.packs_related:
            refuse("memoryStorage doesn't support packRelated.")
        if self.packs_blobs and self.packs_related:
            refuse("can't use both packBlobs (for 'diskpacked') and packRelated (for 'blobpacked')")
        if self.packs_loose and not (self.packs_related and self.blob_path):
            refuse("packLoose needs packRelated and blobPath")
        if self.blob_path or self.in_memory:
            return
        if not any(self.text(key) for key in ("s3", "b2", "googlecloudstorage")):
            refuse(
                "Unless memoryStorage is set, you must specify at least one storage option for"
                " your blobserver (blobPath (for localdisk), s3, b2, googlecloudstorage)."
            )
        if self.text("s3") and self.text("googlecloudstorage"):
            refuse(
                "Using S3 as a primary storage and Google Cloud Storage as a mirror is not"
                " supported for now."
            )

    def _identity(self) -> str:
        identity, ring = self.text("identity"), self.text("identitySecretRing")
        if not identity or (self.runs_index and not ring):
            refuse("no owner")
        if identity != identity.upper():
            refuse(f'identity "{identity}" is not all upper-case')
        if not re.fullmatch(r"[0-9A-F]{8}|[0-9A-F]{16}|[0-9A-F]{40}", identity):
            refuse(f'identity "{identity}" is not a key id of 8, 16 or 40 hexadecimal digits')
        return self._find_key_id(ring, identity) if ring else identity[-16:]

    # -- top level ---------------------------------------------------------------------------------

    def _top(self) -> dict[str, object]:
        if not self.text("auth"):
            refuse("auth is missing")
        https = bool(self.high.get("https"))
        files = {key: self.text(key) for key in ("httpsCert", "httpsKey") if self.text(key)}
        if len(files) == 1:
            refuse(
                "Must set both httpsCert and httpsKey (or neither to generate a self-signed cert)"
            )
        if files and not https:
            refuse("httpsCert and httpsKey need https = true")
        top: dict[str, object] = {
            "auth": self.text("auth"),
            "handlerConfig": True,
            "https": https,
            **files,
        }
        if self.text("listen"):
            top["listen"] = self.text("listen")
        if self.base_url():
            top["baseURL"] = self.base_url()
        return top

    def base_url(self) -> str:
        url = self.text("baseURL")
        if not url:
            return ""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            refuse("baseURL must begin with http:// or https:// and a host")
        if parts.path.strip("/") or parts.query or parts.fragment:
            refuse("baseURL can't have a path, only a scheme, host, and optional port")
        return f"{parts.scheme}://{parts.netloc}"

    def _apply_own_tables(self, top: dict[str, object]) -> None:
        """Put in what peatkeep has beyond Perkeep's keys: `limits`, and settings of prefixes."""
        if self.high.get("limits"):
            top["limits"] = self.high["limits"]
        settings = self.high.get("prefixes") or {}
        assert isinstance(settings, Mapping)
        for prefix, members in settings.items():
            if prefix not in self.prefixes:
                refuse(f'no prefix "{prefix}" follows from this configuration')
            if not isinstance(members, Mapping) or members.keys() - {"deletable", "internal"}:
                refuse(f'prefixes."{prefix}" may hold only "deletable" and "internal"')
            entry = self.prefixes[prefix]
            entry |= members
            args = entry.get("handlerArgs")
            if entry["handler"] == "storage-cond" and members.get("deletable"):
                assert isinstance(args, dict)
                args["remove"] = args["read"]

    # -- sorted stores -----------------------------------------------------------------------------

    def index_dir(self) -> str:
        """Return the folder of the index file; "" for an index that is no file."""
        names = (self.text(key) for key in INDEX_FILES)
        return next((posixpath.dirname(name) or "." for name in names if name), "")

    def queue_dir(self) -> str:
        return self.blob_path or self.index_dir()

    def file_type(self) -> str:
        """Return the type of sorted stores that have to be files."""
        return next((kind for key, kind in INDEX_FILES.items() if self.text(key)), "leveldb")

    def file_store(self, stem: str) -> dict[str, object]:
        """Return the settings of a sorted store in a file; its extension is added to `stem`."""
        kind = self.file_type()
        return {"type": kind, "file": f"{stem}.{kind}"}

    def sorted_store(self, database: str, stem: str) -> dict[str, object] | None:
        """Return the settings of a sorted store of the kind that the index has.

        database: the last part of its name in a database server. stem: its file without the
        extension; "" when there is no folder for one, and then None is returned for files.
        """
        for kind in DATABASES:
            if self.text(kind):
                return database_settings(kind, self.text(kind)) | {
                    "database": self._database_name(database)
                }
        if self.high.get("memoryIndex"):
            return {"type": "memory"}
        return self.file_store(stem) if stem else None

    def _database_name(self, last: str) -> str:
        if last == "index" and self.text("dbname"):
            return self.text("dbname")
        return f"pk_{self.text('dbUnique') or self.key_id.lower()}_{last}"

    def queue(self, destination: str) -> dict[str, object]:
        """Return the arguments that say where a sync handler keeps what it has yet to copy."""
        if self.in_memory:
            return {"queue": {"type": "memory"}}
        folder = self.queue_dir()
        stem = posixpath.join(folder, f"sync-to-{destination}-queue") if folder else ""
        store = self.sorted_store(f"syncto_{destination}", stem)
        return {"queue": store} if store else {"idle": True}

    # -- prefixes ----------------------------------------------------------------------------------

    def add_storage(self) -> None:
        path = self.blob_path
        if self.in_memory:
            self.add("/bs/", "storage-memory")
        elif path and self.packs_related:
            packed = posixpath.join(path, "packed")
            self._add_local("/bs-loose/", path, in_packs=self.packs_loose)
            self._add_local("/bs-packed/", packed, in_packs=False)
            self.add_blobpacked("/bs/", "/bs-loose/", "/bs-packed/", packed)
        elif path:
            self._add_local("/bs/", path, in_packs=self.packs_blobs)

    def _add_local(self, prefix: str, path: str, *, in_packs: bool) -> None:
        if in_packs:
            store = self.sorted_store("diskpacked", posixpath.join(path, "diskpacked-index"))
            self.add(prefix, "storage-diskpacked", {"path": path, "metaIndex": store})
        else:
            self.add(prefix, "storage-filesystem", {"path": path})

    def add_blobpacked(self, prefix: str, loose: str, packed: str, folder: str) -> None:
        store = self.sorted_store("blobpacked", posixpath.join(folder, "packindex"))
        args = {"smallBlobs": loose, "largeBlobs": packed, "metaIndex": store}
        self.add(prefix, "storage-blobpacked", args)

    def _add_cache(self) -> None:
        if self.in_memory:
            self.add("/cache/", "storage-memory")
            return
        if not self.blob_path:
            path = posixpath.join(self.temporary_dir, "camli-cache")
            self.add("/cache/", "storage-filesystem", {"path": path})
            return
        path = posixpath.join(self.blob_path, "cache")
        if self.packs_blobs:
            store = self.file_store(posixpath.join(path, "index"))
            self.add("/cache/", "storage-diskpacked", {"path": path, "metaIndex": store})
        else:
            self.add("/cache/", "storage-filesystem", {"path": path})

    def _add_index(self) -> None:
        files = {key: self.text(key) for key in INDEX_FILES if self.text(key)}
        store = self.sorted_store("index", "")
        for key, path in files.items():
            store = {"type": INDEX_FILES[key], "file": path}
        self.add("/index/", "storage-index", {"blobSource": "/bs/", "storage": store})
        self.add("/bs-and-index/", "storage-replica", {"backends": ["/bs/", "/index/"]})
        write = {"if": "isSchema", "then": "/bs-and-index/", "else": "/bs/"}
        self.add("/bs-and-maybe-also-index/", "storage-cond", {"write": write, "read": "/bs/"})
        self.add("/sync/", "sync", {"from": "/bs/", "to": "/index/", **self.queue("index")})

        owner = {"identity": self.key_id, "secringFile": self.text("identitySecretRing")}
        search: dict[str, object] = {"index": "/index/", "owner": owner}
        if self.high.get("copyIndexToMemory") is not False:
            search["slurpToMemory"] = True
        self.add("/my-search/", "search", search)
        self._add_ui()
        self._add_importer()

    def _add_ui(self) -> None:
        args: dict[str, object] = {"cache": "/cache/"}
        if self.text("sourceRoot"):
            args["sourceRoot"] = self.text("sourceRoot")
        if self.blob_path:
            args["scaledImage"] = self.file_store(posixpath.join(self.blob_path, "thumbmeta"))
        else:
            store = self.sorted_store("uithumbmeta", "")
            args |= {"scaledImage": store} if store else {}
        self.add("/ui/", "ui", args)

    def _add_importer(self) -> None:
        names = [name for name in ("flickr", "picasa", "instapaper") if self.text(name)]
        self.add("/importer/", "importer", {n: {"clientSecret": self.text(n)} for n in names})

    def _add_handlers(self) -> None:
        root: dict[str, object] = {
            "stealth": False,
            "blobRoot": "/bs-and-maybe-also-index/" if self.runs_index else "/bs/",
            "helpRoot": "/help/",
            "statusRoot": "/status/",
            "jsonSignRoot": "/sighelper/",
        }
        if self.runs_index:
            root["searchRoot"] = "/my-search/"
        if self.text("ownerName"):
            root["ownerName"] = self.text("ownerName")
        share = self.text("shareHandlerPath") or (
            "/share/" if self.high.get("shareHandler") else ""
        )
        if share:
            root["shareRoot"] = share
            self.add(share, "share", {"blobRoot": "/bs/", "index": "/index/"})
        self.add("/", "root", root)
        self.add("/help/", "help")
        self.add("/status/", "status")
        signing = {
            "keyId": self.key_id,
            "publicKeyDest": "/bs-and-index/" if self.runs_index else "/bs/",
        }
        if self.text("identitySecretRing"):
            signing["secretRing"] = self.text("identitySecretRing")
        self.add("/sighelper/", "jsonsign", signing)


def database_settings(kind: str, text: str) -> dict[str, object]:
    """Take apart `user@host[:port]:password`, or for mongo `user:password@host`."""
    if kind == "mongo":
        login, _, host = text.rpartition("@")
        user, colon, password = login.partition(":")
        if not (user and colon and host):
            refuse('Malformed mongo config string; want form: "user:password@host"')
    else:
        found = re.fullmatch(r"([^@]+)@([^:]+(?::\d+(?=:))?):(.*)", text, re.DOTALL)
        if not found:
            refuse(f'Malformed {kind} config string; want form: "user@host:password"')
        user, host, password = found.groups()
    return {"type": kind, "user": user, "host": host, "password": password}
