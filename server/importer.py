"""The place of the importers, which come with their own part of the program."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from .answers import plain
from .auth import Right
from .pages import framed
from .routes import ANY, READ, Route
from .status import chunked
from .world import World


class Importer:
    """Mounted at `/importer/`."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route(READ, "", Right.ALL, self.show),
            Route(ANY, "*", Right.ALL, unknown),
        )

    async def show(self, _: Request) -> Response:
        return chunked(framed(self._world, "Importers", "<p>This version has none.</p>"))


async def unknown(_: Request) -> Response:
    return plain("404 page not found", 404)
