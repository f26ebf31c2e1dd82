"""The ASGI application: finds the mount and the route, asks for the right, answers errors."""

import asyncio
import logging
from collections.abc import Iterable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..errors import StoreError
from .answers import HTML, HttpError, http_error, plain, redirect, store_error, typed, unauthorized
from .auth import Auth, is_foreign
from .routes import Mount, Table, cleaned, route_of

log = logging.getLogger("peatkeep.server")


class App:
    """All of HTTP. `table` is what it serves; tests read it too."""

    def __init__(self, mounts: Iterable[Mount], auth: Auth) -> None:
        self.table = Table(mounts)
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        request = Request(scope, receive)
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
        route = route_of(mount, request, path) if mount is not None else None
        if mount is None or route is None:
            return plain("404 page not found", 404)
        if mount.internal:
            return plain("Unauthorized", 401)
        try:
            if route.right:
                if not self._auth.allows(request, route.right):
                    return typed(b"", HTML) if mount.stealth else unauthorized()
                if is_foreign(request):
                    raise HttpError(403, "Cross-origin request refused.")
            return await route.handler(request)
        except HttpError as error:
            return http_error(request, error)
        except (ClientDisconnect, asyncio.CancelledError):
            raise
        except Exception as error:
            if isinstance(error, StoreError):
                log.warning("%s %s: %s", request.method, path, error)
            else:
                log.exception("%s %s", request.method, path)
            is_local = self._auth.peers.is_own(request)
            return store_error(request, error, is_local=is_local)


class BrokenOff(Exception):
    """An answer that could not be finished; its connection is closed."""


def _with_query(request: Request, path: str) -> str:
    query = request.scope["query_string"].decode("ascii", "replace")
    return f"{path}?{query}" if query else path
