"""The help page, and a client configuration for who sets a client up against this server."""

import html
import re
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from .answers import HttpError, json_answer
from .auth import Right, basic_credentials
from .forms import is_true, query_of
from .pages import USUAL, commands, framed
from .routes import ANY, READ, Route
from .world import World

EXAMPLE_RING = "/home/you/.config/perkeep/identity-secring.gpg"

_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}", re.ASCII)


class Help:
    """Mounted at `/help/`. key_id: the server's identity, or ""."""

    def __init__(self, world: World, key_id: str) -> None:
        self._world = world
        self._key_id = key_id

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route(READ, "", Right.ALL, self.show),
            Route(READ, "*", Right.ALL, illegal_path),
            Route(ANY, "*", Right.ALL, illegal_method),
        )

    async def show(self, request: Request) -> Response:
        if is_true(query_of(request).get("clientConfig", "")):
            return json_answer(self.client_config(request))
        usual = commands(
            ("Set a client up", "pk-put -server URL init -userpass NAME:PASSWORD"),
            *USUAL,
            ("Give somebody a link", "pk-put share --transitive REF"),
            ("Check every blob", "pk verify"),
            ("Learn what can be done", "pk --help"),
        )
        version = html.escape(self._world.version)
        return framed(self._world, "Help", f"<p>This is {version}.</p>{usual}")

    def client_config(self, request: Request) -> dict[str, object]:
        server = {"server": self._url(request), "auth": self._auth(request), "default": True}
        return {
            "servers": {"default": server},
            "identity": self._key_id,
            "identitySecretRing": EXAMPLE_RING,
            "ignoredFiles": [".DS_Store", "*~"],
        }

    def _url(self, request: Request) -> str:
        """Where the client should come: the public URL, else the address it came by."""
        config = self._world.config
        host = request.headers.get("host", "")
        if not config.base_url and is_wildcard(config.listen) and _HOST.fullmatch(host):
            return f"{'https' if config.https else 'http'}://{host}"
        return self._world.base_url

    def _auth(self, request: Request) -> str:
        """What the client showed to get here, and nothing that it may not have known."""
        credentials = basic_credentials(request)
        if credentials is not None and self._world.auth.is_password(request):
            return ":".join(("userpass", *credentials))
        kind = self._world.config.auth
        return kind if kind in ("none", "localhost") else ""


def is_wildcard(listen: str) -> bool:
    """Whether `host:port` means every address of the machine."""
    return listen.rpartition(":")[0] in ("", "0.0.0.0", "[::]")  # noqa: S104 - compared only


async def illegal_path(_: Request) -> Response:
    raise HttpError(404, "Illegal help path.")


async def illegal_method(_: Request) -> Response:
    raise HttpError(405, "Illegal help method.")
