"""Look at configurations: check them, show them, turn them into the low level; name the places."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import click

from .. import places
from ..errors import ConfigError, NotFound
from .common import Command, LazyGroup, Session, json_flag, switch

config = LazyGroup(
    "config",
    help="Check or show the server's configuration.",
    modes={
        "check": ("configuration:check", "say whether the server can be started from it"),
        "show": ("configuration:show", "print it, without secrets"),
    },
)

file_argument = click.argument("file", required=False)


def chosen_file(file: str | None, environ: Mapping[str, str]) -> str:
    """Return the configuration to look at: the given file or URL, that in a folder, the usual one.

    Raises ConfigError if there is none.
    """
    if file and Path(file).is_dir():
        named = [Path(file) / name for name in places.SERVER_CONFIGS]
        found = [path for path in named if path.exists()]
        if not found:
            names = " or ".join(places.SERVER_CONFIGS)
            raise ConfigError("read", file, f"there is no {names} in this folder")
        return str(found[0])
    usual = file or places.server_config_file(environ)
    if usual is None:
        folder = places.own_config_dir(environ)
        reason = "there is no server configuration; peatkeepd makes one when it first starts"
        raise ConfigError("read", folder / places.SERVER_CONFIG, reason)
    return str(usual)


@click.command(cls=Command)
@json_flag
@file_argument
@click.pass_obj
def check(session: Session, file: str | None) -> None:
    """Say whether the server can be started from FILE (default: the configured one).

    Prints ok, or each problem with its file and key. Nothing is opened or changed.
    """
    from ..server.config import load, support

    location = chosen_file(file, os.environ)
    configuration = load.load(location, os.environ)
    for line in support.warnings(configuration):
        session.output.note(f"{location}: warning: {line}")
    problems = support.check_supported(configuration)
    for line in problems:
        session.output.problem(ConfigError("use", location, line))
    if not problems:
        session.output.result(f"{location}: ok", file=location, ok=True)


@click.command(cls=Command)
@switch("--secrets", help="Show passwords and keys too.")
@json_flag
@file_argument
@click.pass_obj
def show(session: Session, file: str | None, secrets: bool) -> None:
    """Print the configuration in FILE (default: the configured one) as JSON.

    Expressions are replaced by what they stand for, secrets by the word REDACTED.
    """
    from ..server.config import load, redact

    location = chosen_file(file, os.environ)
    values = load.read(location, os.environ).values
    shown = values if secrets else redact.redacted(values)
    session.output.note(f"# {location}")
    session.output.result(json.dumps(shown, indent=2), file=location, configuration=shown)


@click.command(cls=Command)
@file_argument
@click.pass_obj
def dumpconfig(session: Session, file: str | None) -> None:
    """Print the low-level configuration, with its secrets, that FILE stands for, as JSON."""
    from ..server.config import load

    try:
        source = load.read(chosen_file(file, os.environ), os.environ)
        low = load.low_level_of(source, os.environ)
    except ConfigError as error:
        # Not raised: Perkeep ends with the code of a failed command here, not of a wrong usage.
        session.output.problem(error)
        return
    session.output.result(json.dumps(low, indent=2, sort_keys=True, ensure_ascii=False), **low)


def _source_root(_: Mapping[str, str]) -> str:
    """Return the folder of the source tree that this program runs from; "" when installed."""
    root = Path(__file__).resolve().parents[2]
    return str(root) if (root / "pyproject.toml").exists() else ""


def _server_config(environ: Mapping[str, str]) -> str:
    own = places.own_config_dir(environ) / places.SERVER_CONFIG
    return str(places.server_config_file(environ) or own)


PLACES: Final[dict[str, Callable[[Mapping[str, str]], str]]] = {
    "configdir": lambda environ: str(places.config_dir(environ)),
    "clientconfig": lambda environ: str(places.client_config_file(environ)),
    "serverconfig": _server_config,
    "srcroot": _source_root,
    "secretring": lambda environ: str(places.secret_ring_file(environ)),
}
"""What `pk env` knows: key -> its value, from the environment."""


@click.command(cls=Command)
@json_flag
@click.argument("key", required=False)
@click.pass_obj
def env(session: Session, key: str | None) -> None:
    """Print where things lie: one of the places, or all of them."""
    if key is not None and key not in PLACES:
        raise NotFound("look up", key, f"want one of {', '.join(PLACES)}")
    for name, place in PLACES.items():
        if key in (None, name):
            value = place(os.environ)
            text = value if key else f"{name}: {value}"
            session.output.result(text, key=name, value=value)
