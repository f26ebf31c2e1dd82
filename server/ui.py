"""The helpers of the web app below `/ui/`: upload, download, zip, tree; and a place for the app."""

import re
from collections.abc import Sequence
from itertools import islice
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from ..blob import Ref, parse_ref
from ..blobserver.storage import Storage
from ..errors import StoreError
from ..schema.directory import directory_members
from ..schema.parse import parse_object
from .answers import HttpError, json_answer, plain
from .auth import Right
from .discovery import Discovery, asks_discovery
from .download import Downloads
from .forms import form_of, query_of
from .pages import USUAL, commands, framed
from .routes import ANY, POST, READ, Route
from .uploadhelper import UploadHelper
from .world import World
from .zips import Zips

MAX_CHILDREN: Final = 200_000
MEMBER_BATCH: Final = 500

_STATIC = re.compile(r".*\.(html|js|css|png|jpg|gif|svg)")

_FRONT = (
    "<p>The web app is not part of this version. These commands do what it will do:</p>"
    + commands(*USUAL)
)


def uploads_by_form(request: Request) -> bool:
    return query_of(request).get("camli.mode") == "uploadhelper"


class Ui:
    """Mounted at `/ui/`. storage: the primary one: also what is verified is read from it alone."""

    def __init__(
        self,
        world: World,
        prefix: str,
        storage: Storage,
        discovery: Discovery | None,
    ) -> None:
        bridge = world.bridge
        self._world = world
        self._prefix = prefix
        self._storage = storage
        self._bridge = bridge
        self._discovery = discovery
        self._downloads = Downloads(storage, bridge)
        self._zips = Zips(storage, bridge)
        self._uploads = UploadHelper(storage, world.forms)

    @property
    def routes(self) -> Sequence[Route]:
        discovery = (
            [Route(READ, "*", Right.ALL, self._discovery.answer, asks_discovery)]
            if self._discovery
            else []
        )
        return (
            *discovery,
            Route(POST, "*", Right.ALL, self._uploads.upload, uploads_by_form),
            Route(READ, "download/", Right.ALL, wired_wrong),
            Route(POST, "download/", Right.ALL, self._zips.serve),
            Route(READ, "download/*", Right.ALL, self.download),
            Route(ANY, "download/*", Right.ALL, invalid_download),
            Route(READ, "tree/", Right.ALL, wired_wrong),
            Route(READ, "tree/*", Right.ALL, self.tree),
            Route(ANY, "tree/*", Right.ALL, invalid_method),
            Route(READ, "importshare", Right.ALL, import_progress),
            Route(READ, "importshare/", Right.ALL, import_progress),
            Route(POST, "importshare", Right.ALL, import_share),
            Route(POST, "importshare/", Right.ALL, import_share),
            Route(ANY, "importshare*", Right.ALL, not_a_post),
            Route(READ, "*", Right.ALL, self.front),
            Route(ANY, "*", Right.ALL, invalid_method),
        )

    def _ref_in(self, request: Request, place: str) -> Ref:
        """The first element of the path below `place`. HttpError 400."""
        below = request.scope["path"].removeprefix(self._prefix + place)
        ref = parse_ref(below.partition("/")[0])
        if ref is None:
            raise HttpError(400, "Invalid blobref")
        return ref

    async def download(self, request: Request) -> Response:
        return await self._downloads.serve(request, self._ref_in(request, "download/"))

    async def tree(self, request: Request) -> Response:
        ref = self._ref_in(request, "tree/")
        try:
            children = await self._bridge.call(children_of, self._storage, ref)
        except StoreError:
            raise HttpError(500, "Error reading directory") from None
        return json_answer({"children": children})

    async def front(self, request: Request) -> Response:
        """The page of the app; other paths are its files, of which there are none yet."""
        below = request.scope["path"].removeprefix(self._prefix)
        if (below == "" and "b" not in query_of(request)) or parse_ref(below) is not None:
            answer = framed(self._world, "peatkeep", _FRONT)
            answer.headers["Accept-Ranges"] = "bytes"
            return answer
        is_static = below == "" or _STATIC.fullmatch(below) is not None
        return plain("404 page not found" if is_static else "Illegal URL.", 404)


def children_of(storage: Storage, ref: Ref) -> list[dict[str, str]]:
    """Name, type and ref of what a directory holds, in its order. Raises StoreError."""
    schema = parse_object(storage.fetch(ref))
    if schema is None or schema.type != "directory":
        raise HttpError(500, "Error reading directory")
    members = islice(directory_members(storage, schema), MAX_CHILDREN)
    children = []
    while batch := list(islice(members, MEMBER_BATCH)):
        for member, data in storage.fetch_many(batch):
            if not isinstance(data, bytes):
                raise data
            child = parse_object(data)
            if child is None:
                raise HttpError(500, "Error reading directory")
            name = child.file_name.decode("utf-8", "replace")
            children.append({"name": name, "type": child.type, "blobRef": member})
    return children


async def wired_wrong(_: Request) -> Response:
    raise HttpError(500, "Handlers wired up wrong; this path shouldn't be hit")


async def invalid_download(_: Request) -> Response:
    raise HttpError(400, "Invalid download method")


async def invalid_method(_: Request) -> Response:
    raise HttpError(400, "Invalid method")


async def not_a_post(_: Request) -> Response:
    raise HttpError(400, "Not a POST")


async def import_progress(_: Request) -> Response:
    return json_answer(
        {"Assembled": False, "Running": False, "FilesSeen": 0, "FilesCopied": 0, "BlobRef": None}
    )


async def import_share(request: Request) -> Response:
    if not (await form_of(request)).get("shareurl"):
        raise HttpError(400, "No shareurl parameter")
    raise HttpError(501, "This server does not fetch shares yet: use pk-get -shared URL.")
