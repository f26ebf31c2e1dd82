"""How the server is doing: a page and its JSON; and the button that starts it anew."""

import html
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from .answers import HttpError, json_answer
from .auth import Right
from .forms import form_of
from .pages import framed
from .routes import ANY, POST, READ, Route
from .syncing import Sync
from .topology import INDEX, STORAGE
from .world import World

Restart = Callable[[Sequence[str]], None]
"""Starts the program anew, with these arguments added to its own."""


class Work(Protocol):
    """Something that goes on in the background."""

    def document(self) -> Mapping[str, object]: ...


class Status:
    """Mounted at `/status/`. restart: None where nobody can.

    syncs: by prefix. works: by kind ("migration", "packing"), then by prefix.
    """

    def __init__(
        self,
        prefix: str,
        world: World,
        syncs: Mapping[str, Sync],
        restart: Callable[[], Restart | None],
        works: Mapping[str, Mapping[str, Work]] = MappingProxyType({}),
    ) -> None:
        self._prefix = prefix
        self._world = world
        self._syncs = syncs
        self._restart = restart
        self._works = works

    @property
    def routes(self) -> Sequence[Route]:
        return (
            Route(POST, "restart", Right.ALL, self.restart),
            Route(ANY, "restart", Right.ALL, post_to_restart),
            Route(READ, "status.json", Right.ALL, self.json),
            Route(READ, "", Right.ALL, self.show),
            Route(READ, "*", Right.ALL, illegal_path),
            Route(ANY, "*", Right.ALL, illegal_method),
        )

    def document(self) -> dict[str, object]:
        """What status.json says; nothing secret is in it."""
        errors = [
            {"error": f"{prefix}: {sync.failure}", "url": prefix}
            for prefix, sync in sorted(self._syncs.items())
            if sync.failure
        ]
        works = {
            kind: {prefix: one.document() for prefix, one in sorted(some.items())}
            for kind, some in self._works.items()
        }
        # What rests has nothing to say, and clients of Perkeep know none of it.
        works = {
            kind: told
            for kind, some in works.items()
            if (told := {prefix: document for prefix, document in some.items() if document})
        }
        return {
            "version": self._world.version,
            "goInfo": f"Python {platform.python_version()} {platform.system().lower()}",
            **({"errors": errors} if errors else {}),
            "sync": {prefix: self._sync(prefix) for prefix in sorted(self._syncs)},
            "storage": self._storage(),
            **works,
            "importerAccounts": None,
        }

    def _sync(self, prefix: str) -> dict[str, object]:
        args = self._world.config.prefixes[prefix].args
        source, target = str(args["from"]), str(args["to"])
        sync = self._syncs[prefix]
        document: dict[str, object] = {
            "from": source,
            "fromDesc": self._described(source),
            "to": target,
            "toDesc": self._described(target),
        }
        if self._world.config.prefixes[target].handler == INDEX:
            document["destIsIndex"] = True
        document |= {"blobsToCopy": sync.waiting, "bytesToCopy": 0}
        if sync.last_copy_s is not None:
            document["lastCopySecondsAgo"] = int(time.time() - sync.last_copy_s)
        return document

    def _described(self, prefix: str) -> str:
        """A store in the words of the reference: type and place, never a secret."""
        conf = self._world.config.prefixes[prefix]
        if conf.handler == INDEX:
            rows = conf.args.get("storage")
            kind = rows.get("type", "") if isinstance(rows, Mapping) else ""
            return f"Perkeep index, using key/value implementation *{kind}.kvis"
        kind = conf.handler.removeprefix(STORAGE)
        if kind == "filesystem":
            return f'"filesystem" file-per-blob at {conf.args.get("path")}'
        return f'"{kind}"'

    def _storage(self) -> dict[str, object]:
        roots = dict(self._world.enabled("root"))
        primary = roots["/"].args.get("blobRoot") if "/" in roots else None
        entries: dict[str, object] = {}
        for prefix, conf in sorted(self._world.config.prefixes.items()):
            if conf.enabled and conf.handler.startswith(STORAGE):
                entries[prefix] = {
                    **({"primary": True} if prefix == primary else {}),
                    **({"isIndex": True} if conf.handler == INDEX else {}),
                    "type": conf.handler.removeprefix(STORAGE),
                }
        return entries

    async def json(self, _: Request) -> Response:
        return json_answer(self.document())

    async def show(self, _: Request) -> Response:
        document = self.document()
        up_s = int(time.time() - self._world.started_s)
        body = (
            f"<p>{html.escape(self._world.version)}, up {timedelta(seconds=up_s)}</p>"
            f"{_table('Storage', document['storage'])}{_table('Sync', document['sync'])}"
            f"{_table('Index', document.get('index'))}"
            f"{_table('Moving to another store', document.get('migration'))}"
            f"{_table('Packing loose files', document.get('packing'))}"
            f"<form method='post' action='{self._prefix}restart'>"
            "<p><label><input type='checkbox' name='reindex'> make the index anew</label> "
            "<button>Restart the server</button></p></form>"
        )
        return chunked(framed(self._world, "Status", body))

    async def restart(self, request: Request) -> Response:
        """Start anew with all flags kept; `reindex=on` adds -reindex, `recovery` -recovery."""
        restart = self._restart()
        if restart is None:
            raise HttpError(501, "This server can't restart itself")
        form = await form_of(request)
        arguments = ["-reindex"] if form.get("reindex") == "on" else []
        if form.get("recovery") in ("1", "2"):
            arguments.append(f"-recovery={form['recovery']}")
        restart(arguments)
        return Response(status_code=302, headers={"Location": self._prefix})


def _table(title: str, section: object) -> str:
    """A table of prefixes and what is known of each."""
    rows = ""
    for prefix, entry in section.items() if isinstance(section, dict) else []:
        facts = "<br>".join(
            html.escape(name if value is True else f"{name}: {value}")
            for name, value in entry.items()
        )
        rows += f"<tr><td>{html.escape(prefix)}</td><td>{facts}</td></tr>"
    return f"<table><caption>{title}</caption>{rows}</table>" if rows else ""


def chunked(answer: Response) -> Response:
    """The same without its length, as the reference sends pages that it makes on the way."""
    del answer.headers["content-length"]
    return answer


async def post_to_restart(_: Request) -> Response:
    raise HttpError(405, "POST to restart")


async def illegal_path(_: Request) -> Response:
    raise HttpError(404, "Illegal status path.")


async def illegal_method(_: Request) -> Response:
    raise HttpError(405, "Illegal status method.")
