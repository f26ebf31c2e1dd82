"""The discovery document: what a client needs to find its way."""

import os
import pwd
import re
from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response

from ..errors import StoreError
from ..schema.times import format_time
from .answers import JSON, json_text, typed
from .forms import query_of
from .stream import WORD as STREAM
from .topology import INDEX
from .world import World

ACCEPT = "text/x-camli-configuration"
THUMBNAIL_VERSION = "2"
FEATURES = f"fetch-blobs, {STREAM}"

_IDENTIFIER = re.compile(r"[a-zA-Z_]+(\.[a-zA-Z_]+)*")

_GO_NAMES = {"storage-memory": "*memory.Storage"}
"""How the reference names a store without a generation: its clients show the sentence."""


def asks_discovery(request: Request) -> bool:
    """Whether the client wants this document: the exact Accept header, or the query."""
    return (
        request.headers.get("accept") == ACCEPT or query_of(request).get("camli.mode") == "config"
    )


class Discovery:
    """Makes the document. `signing` is the object of the signing helper, if there is one."""

    def __init__(
        self, world: World, roots: Mapping[str, object], signing: Callable[[], object] | None
    ) -> None:
        """roots: the arguments of the root handler."""
        self._world = world
        self._roots = roots
        self._signing = signing

    async def answer(self, request: Request) -> Response:
        world = self._world
        generation = await world.bridge.call(self._generation)
        document: dict[str, object] = {
            "blobRoot": self._root("blobRoot"),
            "jsonSignRoot": self._root("jsonSignRoot"),
            "helpRoot": self._root("helpRoot"),
            "importerRoot": world.first("importer"),
            "searchRoot": self._root("searchRoot"),
            "statusRoot": self._root("statusRoot"),
            "shareRoot": self._root("shareRoot"),
            "ownerName": self._root("ownerName") or full_name(world.environ),
            "userName": world.environ.get("USER", ""),
            **generation,
            "thumbVersion": THUMBNAIL_VERSION,
            "authToken": world.auth.token_for(request),
            "hasLegacySHA1Index": False,
            **self._sync_handlers(),
            **({"signing": self._signing()} if self._signing else {}),
            **self._ui(),
        }
        answer = typed(_wrapped(json_text(document), request).encode(), JSON)
        # Ours: many blobs in one request, and over one websocket (pkg/blobserver/README.md).
        answer.headers["X-Peatkeep"] = FEATURES
        # It holds a token.
        answer.headers["Cache-Control"] = "no-store"
        return answer

    def _root(self, name: str) -> str:
        value = self._roots.get(name, "")
        return value if isinstance(value, str) else ""

    def _generation(self) -> dict[str, object]:
        """storageGeneration and storageInitTime of the primary storage."""
        root = self._root("blobRoot")
        if not root:
            return {"storageInitTime": None}
        try:
            generation = self._world.topology.storage(root).generation()
        except StoreError as error:
            return {"storageGenerationError": str(error), "storageInitTime": None}
        if generation is not None:
            since_ns = int(generation.initialised.timestamp() * 1_000_000) * 1000
            return {
                "storageGeneration": generation.token,
                "storageInitTime": format_time(since_ns),
            }
        conf = self._world.config.prefixes[root]
        read = conf.args.get("read")
        if conf.handler == "storage-cond" and isinstance(read, str):
            kind = self._world.config.prefixes[read].handler
            name = _GO_NAMES.get(kind, kind.removeprefix("storage-"))
            return {
                "storageGenerationError": f"blobserver.Generationer not implemented on {name}",
                "storageInitTime": None,
            }
        return {"storageInitTime": None}

    def _sync_handlers(self) -> dict[str, object]:
        prefixes = self._world.config.prefixes
        handlers = []
        for _, conf in self._world.enabled("sync"):
            source, target = conf.args.get("from"), conf.args.get("to")
            if source and target:
                to_index = str(target) in prefixes and prefixes[str(target)].handler == INDEX
                handlers.append({"from": source, "to": target, "toIndex": to_index})
        return {"syncHandlers": handlers} if handlers else {}

    def _ui(self) -> dict[str, object]:
        root = self._world.first("ui")
        if not root:
            # All or none of them: a client that sees one goes by the others.
            return {}
        return {
            "uiRoot": root,
            "uploadHelper": root + "?camli.mode=uploadhelper",
            "directoryHelper": root + "tree/",
            "downloadHelper": root + "download/",
            "publishRoots": {},
            "mapClustering": False,
            "importShare": root + "importshare/",
        }


def _wrapped(text: str, request: Request) -> str:
    """The document, as a call or an assignment where the query asks for one."""
    document = text.removesuffix("\n")
    query = query_of(request)
    callback, variable = query.get("cb", ""), query.get("var", "")
    if _IDENTIFIER.fullmatch(callback):
        return f"{callback}({document});\n"
    if _IDENTIFIER.fullmatch(variable):
        return f"{variable} = {document};\n"
    return document


def full_name(environ: Mapping[str, str]) -> str:
    """The full name of the user who runs the server, else the login name."""
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        return environ.get("USER", "")
    return entry.pw_gecos.partition(",")[0] or entry.pw_name
