"""Our own HTML pages: one frame and style for all, and the way from each to the others."""

import html
from typing import Final

from starlette.responses import Response

from .answers import page
from .world import World

STYLE: Final = (
    "body{font:16px/1.5 sans-serif;margin:1em auto;max-width:60em;padding:0 1em}"
    "nav{border-bottom:1px solid #ccc;padding:.5em 0}nav a{margin-right:1.5em}"
    "table{border-collapse:collapse}caption{font-weight:bold;text-align:left;padding:1em 0 .3em}"
    "td{border-top:1px solid #ccc;padding:.3em 1em .3em 0;vertical-align:top}"
    "code{background:#f2f2f2;padding:.1em .3em}"
)

_NAMES: Final = {"ui": "peatkeep", "status": "Status", "sync": "Sync", "help": "Help"}
"""What is shown for a handler, wherever it is mounted."""


def framed(world: World, title: str, body: str) -> Response:
    """A page. title: plain text. body: HTML, in which what others wrote is escaped."""
    links = "".join(
        f"<a href='{html.escape(place)}'>{name}</a>"
        for handler, name in _NAMES.items()
        if (place := world.first(handler))
    )
    return page(
        "<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><nav>{links}</nav><h1>{html.escape(title)}</h1>{body}</body></html>"
    )


USUAL: Final = (
    ("Store a file or folder", "pk-put file --permanode --tag=NAME PATH"),
    ("See what is there", "pk list"),
    ("Find something", "pk search 'tag:NAME'"),
    ("Get it back", "pk-get -o OUT REF"),
)
"""What everybody does, for `commands`."""


def commands(*lines: tuple[str, str]) -> str:
    """A table: what somebody wants, and the command that does it."""
    rows = "".join(
        f"<tr><td>{html.escape(wish)}</td><td><code>{html.escape(command)}</code></td></tr>"
        for wish, command in lines
    )
    return f"<table>{rows}</table>"
