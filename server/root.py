"""The root handler: discovery, a small page, redirects; it has every path that nobody else has."""

import html
import struct
from collections.abc import Sequence
from functools import cache

from starlette.requests import Request
from starlette.responses import Response

from .answers import HttpError, page, redirect, typed
from .auth import Right
from .discovery import Discovery, asks_discovery
from .routes import ANY, READ, Route
from .world import World


class Root:
    """Mounted at `/`."""

    def __init__(self, world: World, discovery: Discovery) -> None:
        self._world = world
        self._discovery = discovery

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route(READ, "*", Right.DISCOVERY, self._discovery.answer, asks_discovery),
            Route(ANY, "", Right.NONE, self.front),
            Route(ANY, "favicon.ico", Right.NONE, favicon),
            Route(ANY, "mobile-setup", Right.NONE, self.mobile_setup),
            Route(ANY, "*", Right.NONE, nothing_here),
        )

    async def front(self, request: Request) -> Response:
        ui = self._world.first("ui")
        if ui and request.method in READ and not request.scope["query_string"]:
            return redirect(request, ui, 301)
        return page(self._page())

    def _page(self) -> str:
        """The page of the reference, word for word: monitors look for it."""
        version = html.escape(self._world.version)
        perkeep = "<a href='http://perkeep.org'>Perkeep</a>"
        parts = [f"<p>This is perkeepd ({version}), a {perkeep} server.</p>"]
        for handler, words in (
            ("ui", "To manage your content, access the"),
            ("status", "To view status, see"),
            ("help", "To view more information on accessing the server, see"),
        ):
            if place := html.escape(self._world.first(handler)):
                parts.append(f"<p>{words} <a href='{place}'>{place}</a>.</p>")
        return f"<html><body>{''.join(parts)}</body></html>"

    async def mobile_setup(self, request: Request) -> Response:
        ui = self._world.first("ui")
        return redirect(request, ui + "mobile.html", 302) if ui else await nothing_here(request)


async def favicon(_: Request) -> Response:
    answer = typed(icon(), "image/vnd.microsoft.icon")
    answer.headers["Accept-Ranges"] = "bytes"
    return answer


@cache
def icon(side: int = 16) -> bytes:
    """A block of peat: an .ico of one bitmap with 32 bits a pixel, brown in a darker frame."""
    frame, inside = bytes((24, 34, 48, 255)), bytes((46, 74, 110, 255))  # blue, green, red, opaque
    dots = b"".join(
        inside if 2 < row < side - 3 and 2 < column < side - 3 else frame
        for row in range(side)
        for column in range(side)
    )
    mask = bytes(side * 4)
    bitmap = struct.pack(
        "<IiiHHIIiiII", 40, side, side * 2, 1, 32, 0, len(dots) + len(mask), 0, 0, 0, 0
    )
    image = bitmap + dots + mask
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, side, side, 0, 0, 1, 32, len(image), 22) + image


async def nothing_here(_: Request) -> Response:
    raise HttpError(404, "404 page not found")
