"""The ASGI application: finds the mount and the route, asks for the right, answers errors."""

import logging
from collections.abc import Callable, Iterable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import StoreError
from .answers import HTML, HttpError, http_error, redirect, store_error, typed, unauthorized
from .auth import Auth, is_foreign
from .routes import Mount, Table, cleaned, route_of

log = logging.getLogger("peatkeep.server")


class App:
    """All of HTTP. `table` is what it serves; tests read it too.

    on_error: told what a request met in a store or index; must be quick.
    """

    def __init__(
        self,
        mounts: Iterable[Mount],
        auth: Auth,
        on_error: Callable[[StoreError], None] = lambda _: None,
    ) -> None:
        self.table = Table(mounts)
        self._auth = auth
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(_as_request(scope), receive)
        try:
            answer = await self._answer(request)
        except ClientDisconnect:
            return
        try:
            await answer(scope, receive, send)
        except StoreError as error:
            # Part of the body is out: all that can be done is to break it off, which the client
            # sees by its length.
            log.error("%s %s broken off: %s", request.method, scope["path"], error)
            raise BrokenOff from None

    async def _answer(self, request: Request) -> Response:
        path = request.scope["path"]
        if "//" in path or "/." in path:
            clean = cleaned(path)
            if clean != path:
                return redirect(request, _with_query(request, clean), 307)
        if self.table.lacks_only_the_slash(path):
            return redirect(request, _with_query(request, path + "/"), 307)
        mount = self.table.mount_of(path)
        if mount is None:
            return http_error(request, HttpError(404, "404 page not found"))
        if mount.internal:
            return http_error(request, HttpError(401, "Unauthorized"))
        answer = await self._below(mount, request, path)
        for name, value in mount.headers.items():
            answer.headers[name] = value
        return answer

    async def _below(self, mount: Mount, request: Request, path: str) -> Response:
        """The answer of the mount's route. Errors of all kinds become answers here."""
        try:
            route = route_of(mount, request, path)
            if route is None:
                raise HttpError(404, "404 page not found")
            if route.right:
                if not self._auth.allows(request, route.right):
                    return typed(b"", HTML) if mount.stealth else unauthorized(request)
                if is_foreign(request):
                    raise route.foreign or HttpError(403, "Cross-origin request refused.")
            return await route.handler(request)
        except HttpError as error:
            return http_error(request, error)
        except StoreError as error:
            log.warning("%s %s: %s", request.method, path, error)
            self._on_error(error)
            return store_error(request, error, is_local=self._auth.peers.is_own(request))
        except ClientDisconnect:
            raise
        except Exception as error:
            log.exception("%s %s", request.method, path)
            return store_error(request, error, is_local=self._auth.peers.is_own(request))


class BrokenOff(Exception):
    """An answer that could not be finished; its connection is closed."""


def _as_request(scope: Scope) -> Scope:
    """The handshake of a websocket as the request that it is."""
    if scope["type"] != "websocket":
        return scope
    return {**scope, "type": "http", "method": "GET", "connection": {}, "is_socket": True}


def _with_query(request: Request, path: str) -> str:
    query = request.scope["query_string"].decode("ascii", "replace")
    return f"{path}?{query}" if query else path
