"""`pk dbinit`: a database for sorted rows, as a server makes it at its first start."""

from collections.abc import Mapping
from pathlib import Path

import click

from ..errors import ConfigError, Unsupported
from ..sorted.registry import open_kv
from .common import Command, Session, json_flag, switch

KINDS = ("mysql", "postgres", "sqlite", "mongo")
"""Perkeep's; the second and third can be had."""


@click.command(cls=Command)
@click.option("--dbtype", "kind", type=click.Choice(KINDS), default="mysql", show_default=True)
@click.option("--dbname", "name", default="", help="The database; with sqlite, its file.")
@click.option("--user", default="root", show_default=True, help="Who makes it.")
@click.option("--password", default="", help="Of that user.")
@click.option("--host", default="localhost", show_default=True, help="Where it is: host[:port].")
@click.option("--sslmode", default="require", show_default=True, help="As libpq has it.")
@switch("--wipe", help="Delete all rows of a database that is there.")
@switch("--ignoreexists", help="It is no failure that the database is there.")
@json_flag
@click.pass_obj
def dbinit(
    session: Session, /, kind: str, name: str, wipe: bool, ignoreexists: bool, **login: str
) -> None:
    """Make the tables of sorted rows, and the database around them where it is missing.

    Tables of another program are refused, untouched, also with -wipe.
    """
    if not name:
        raise click.UsageError("-dbname is missing")
    is_new = _prepare(_settings(kind, name, login), wipe)
    if not (is_new or wipe or ignoreexists):
        reason = "it is there already; -wipe empties it, -ignoreexists leaves it as it is"
        raise ConfigError("make tables in", f"database {name}", reason)
    deed = "made" if is_new else "emptied" if wipe else "there already"
    session.output.result(f"database {name}: {deed}", database=name, made=is_new, wiped=wipe)


def _settings(kind: str, name: str, login: Mapping[str, str]) -> dict[str, object]:
    """The settings of the sorted store. Raises Unsupported."""
    if kind == "postgres":
        return {"type": kind, "database": name, **login}
    if kind == "sqlite":
        return {"type": kind, "file": name}
    raise Unsupported("make tables in", kind, "take -dbtype=postgres or -dbtype=sqlite")


def _prepare(settings: Mapping[str, object], wipe: bool) -> bool:
    """Open the database, which makes its tables. Returns whether they were made."""
    is_new = settings["type"] == "sqlite" and not Path(str(settings["file"])).exists()
    with open_kv(settings) as rows:
        if settings["type"] == "postgres":
            from ..sorted.sql import PostgresKeyValue

            assert isinstance(rows, PostgresKeyValue)
            is_new = rows.is_new
        if wipe:
            rows.wipe()
    return is_new
