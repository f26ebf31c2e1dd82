"""The search handler: lookups in the index, and queries."""

import time
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from ..index.index import Index
from ..search.endpoint import answer as answer_search
from .answers import json_answer, json_error, plain
from .auth import Right
from .bridge import Bridge
from .forms import body_of
from .routes import ANY, Route

BODY_BYTES: Final = 1024 * 1024
MAX_PARAMETERS: Final = 2000

_WEBSOCKET = ("GET", "ws")


class Search:
    """Mounted at `/my-search/`; the part `camli/search/` of a path may be missing."""

    def __init__(self, prefix: str, index: Index, bridge: Bridge) -> None:
        self._prefix = prefix
        self._index = index
        self._bridge = bridge

    @property
    def routes(self) -> Sequence[Route]:
        return (Route(ANY, "*", Right.ALL, self.answer),)

    async def answer(self, request: Request) -> Response:
        path = request.scope["path"].removeprefix(self._prefix)
        name = path.removeprefix("camli/search/")
        if (request.method, name) == _WEBSOCKET:
            if "upgrade" not in request.headers:
                return plain("Bad Request\nNot a websocket handshake", 400)
            return json_error("ws: live searches are not part of this version", 501)
        body = await body_of(request, BODY_BYTES) if request.method == "POST" else b""
        try:
            pairs = parse_qsl(
                request.scope["query_string"].decode("utf-8", "replace"),
                keep_blank_values=True,
                max_num_fields=MAX_PARAMETERS,
            )
        except ValueError:
            return json_error(f"more than {MAX_PARAMETERS} parameters", 400)
        found = await self._bridge.call(
            answer_search, self._index, request.method, name, pairs, body, time.time_ns()
        )
        return json_answer(found.body, found.status)
