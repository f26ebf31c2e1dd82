"""The place of the importers, which come with their own part of the program."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from .answers import page, plain
from .auth import Right
from .routes import ANY, READ, Route
from .status import chunked


class Importer:
    """Mounted at `/importer/`."""

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route(READ, "", Right.ALL, show),
            Route(ANY, "*", Right.ALL, unknown),
        )


async def show(_: Request) -> Response:
    return chunked(
        page(
            "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>Importers</title>"
            "</head><body><h1>Importers</h1><p>This version has none.</p></body></html>"
        )
    )


async def unknown(_: Request) -> Response:
    return plain("404 page not found", 404)
