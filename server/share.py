"""What the owner shares: blobs for whoever knows the ref of a share claim, without credentials."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from ..blob import Ref, parse_ref
from ..blobserver.storage import Storage
from ..schema.share import authorise
from .answers import HttpError, bad_request, http_error, unauthorized
from .auth import Right
from .bridge import Bridge
from .download import Downloads
from .forms import is_true, query_of
from .getting import serve_blob
from .routes import ANY, READ, Route

log = logging.getLogger("peatkeep.server.share")

REFUSAL_WAIT_S: Final = 0.2
"""Every refusal takes so long from its request on, so that its time tells nothing."""


class Share:
    """Mounted at `/share/`.

    is_deleted: whether the owner has deleted this share; told by the index, so it outlives a
    restart. is_owner: whether a key id is the owner's.
    """

    def __init__(
        self,
        prefix: str,
        storage: Storage,
        bridge: Bridge,
        *,
        is_deleted: Callable[[Ref], bool],
        is_owner: Callable[[str], bool],
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._prefix = prefix
        self._storage = storage
        self._bridge = bridge
        self._is_deleted = is_deleted
        self._is_owner = is_owner
        self._now_ns = now_ns
        self._downloads = Downloads(storage, bridge)

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route(READ, "*", Right.NONE, self.serve),
            Route(ANY, "*", Right.NONE, not_readable),
        )

    async def serve(self, request: Request) -> Response:
        started_s = time.monotonic()
        path = request.scope["path"].removeprefix(self._prefix)
        ref = parse_ref(path.partition("/")[0])
        if ref is None:
            raise bad_request("not a ref")
        try:
            answer = await self._allowed(request, ref)
        except HttpError as error:
            answer = http_error(request, error)
        if answer is None:
            answer = unauthorized(request)
        if answer.status_code >= 400:
            await asyncio.sleep(started_s + REFUSAL_WAIT_S - time.monotonic())
        answer.headers["Access-Control-Allow-Origin"] = "*"
        return answer

    async def _allowed(self, request: Request, ref: Ref) -> Response | None:
        """The blob or file; None when it is not shared so. HttpError for a malformed chain."""
        query = query_of(request)
        via = query.get("via", "")
        chain = [parse_ref(text) for text in via.split(",")] if via else []
        known = [link for link in chain if link is not None]
        if len(known) != len(chain):
            raise bad_request("via is no list of refs")
        assemble = is_true(query.get("assemble", ""))
        decision = await self._bridge.call(
            authorise,
            [*known, ref],
            self._storage,
            self._is_deleted,
            self._is_owner,
            self._now_ns(),
            assemble,
        )
        if not decision.allowed:
            log.info("share %s refused: %s %s", (known or [ref])[0], decision.code, decision.reason)
            return None
        if assemble:
            return await self._downloads.serve(request, ref, inline=True)
        return await serve_blob(self._bridge, self._storage, ref, request)


async def not_readable(_: Request) -> Response:
    raise bad_request("shares are read")
