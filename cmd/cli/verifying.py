"""`pk verify`: read every blob of a store, and name what is damaged."""

from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

import click

from ..blob import Ref
from ..blobserver.receive import receive
from ..blobserver.storage import Storage
from ..errors import Corrupt, NotFound, StoreError
from .common import Command, Output, Session, json_flag, server_flag
from .stores import open_place

PAGE: Final = 500


class Checked(NamedTuple):
    """How far a check has come."""

    blobs: int = 0
    size_bytes: int = 0
    damaged: int = 0
    repaired: int = 0


@click.command(cls=Command)
@click.argument("store", default="")
@click.option(
    "--repair", "source", metavar="STORE", help="Take good copies of damaged blobs there."
)
@server_flag
@json_flag
@click.pass_obj
def verify(session: Session, store: str, source: str | None) -> None:
    """Read every blob of a STORE (URL, alias, /folder; else the default server) and hash it.

    Damaged ones are named. Without any, the exit code is 0.
    """
    place = open_place(session, store)
    spare = open_place(session, source).storage if source else None
    checked = Checked()
    for page in pages(place.storage):
        checked = check_page(session.output, place.storage, spare, page, checked)
        tell(session.output, checked)
    if session.output.shows_progress:
        click.echo("", err=True)
    session.output.summary |= checked._asdict()
    session.output.result(
        f"{checked.blobs} blobs are sound, {checked.damaged} damaged, {checked.repaired} repaired",
        blobs=checked.blobs,
        damaged=checked.damaged,
        repaired=checked.repaired,
    )


def pages(store: Storage) -> Iterator[list[Ref]]:
    listing = store.enumerate()
    while page := [found.ref for found in islice(listing, PAGE)]:
        yield page


def check_page(
    output: Output, store: Storage, spare: Storage | None, page: list[Ref], checked: Checked
) -> Checked:
    """Read these blobs; tell of each that is damaged, unless the spare store has a good copy."""
    blobs, size, damaged, repaired = checked
    for ref, data in store.fetch_many(page):
        if isinstance(data, bytes):
            blobs, size = blobs + 1, size + len(data)
        elif isinstance(data, NotFound):
            continue  # removed since it was listed
        elif spare is not None and is_repaired(output, store, spare, ref):
            repaired += 1
            output.result(f"{ref}: repaired", repaired=ref)
        else:
            damaged += 1
            output.problem(data)
    return Checked(blobs, size, damaged, repaired)


def is_repaired(output: Output, store: Storage, spare: Storage, ref: Ref) -> bool:
    """Store a good copy again, and read it back. What stands against it is told."""
    try:
        receive(store, ref, spare.fetch(ref))
        store.fetch(ref)
    except (NotFound, Corrupt):
        return False
    except StoreError as error:
        output.problem(error)
        return False
    return True


def tell(output: Output, checked: Checked) -> None:
    if output.as_json:
        output.result("", progress=checked._asdict())
    elif output.shows_progress:
        text = f"\r{checked.blobs} blobs, {checked.damaged} damaged\x1b[K"
        click.echo(text, nl=False, err=True)
