"""The search handler: lookups in the index, and queries."""

import time
from collections.abc import Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from ..index.index import Index
from ..search.endpoint import answer as answer_search
from .answers import HttpError, json_answer, json_error
from .auth import Right
from .bridge import Bridge
from .forms import body_of, query_pairs
from .livesearch import LiveSearches
from .routes import ANY, GET, Route
from .sockets import NO_HANDSHAKE, VERSION_HEADER

BODY_BYTES: Final = 1024 * 1024

FOREIGN: Final = HttpError(403, f"Forbidden\n{NO_HANDSHAKE}", headers=VERSION_HEADER)


class Search:
    """Mounted at `/my-search/`; the part `camli/search/` of a path may be missing."""

    def __init__(self, prefix: str, index: Index, bridge: Bridge, live: LiveSearches) -> None:
        self._prefix = prefix
        self._index = index
        self._bridge = bridge
        self._live = live

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route(GET, "camli/search/ws", Right.ALL, self.converse, foreign=FOREIGN),
            Route(GET, "ws", Right.ALL, self.converse, foreign=FOREIGN),
            Route(ANY, "*", Right.ALL, self.answer),
        )

    async def converse(self, request: Request) -> Response:
        """A live search; whoever gets here without a socket sent no sound handshake."""
        if not request.scope.get("is_socket"):
            headers = VERSION_HEADER if "upgrade" in request.headers else None
            raise HttpError(400, f"Bad Request\n{NO_HANDSHAKE}", headers=headers)
        if self._live.is_full:
            raise HttpError(503, "too many live searches")
        return self._live.answer()

    async def answer(self, request: Request) -> Response:
        path = request.scope["path"].removeprefix(self._prefix)
        name = path.removeprefix("camli/search/")
        body = await body_of(request, BODY_BYTES) if request.method == "POST" else b""
        try:
            pairs = query_pairs(request)
        except HttpError as error:
            return json_error(error.message, error.status)
        found = await self._bridge.call(
            answer_search, self._index, request.method, name, pairs, body, time.time_ns()
        )
        return json_answer(found.body, found.status)
