"""`pk verify`: read every blob of a store, and name what is damaged."""

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, runtime_checkable

import click

from ..blob import Ref
from ..blobserver.localdisk import LocalDisk
from ..blobserver.receive import receive
from ..blobserver.storage import Storage
from ..errors import ConfigError, Corrupt, NotFound, StoreError
from .common import Command, Output, Session, json_flag, server_flag
from .configuration import chosen_file
from .stores import open_place

if TYPE_CHECKING:
    from ..server.config.record import LowConfig

PAGE: Final = 500

Finding = tuple[Any, ...]
"""What a check yields, whatever the kind of store: what is damaged, then words about it."""


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
@click.option(
    "--config", metavar="FILE", help="Check each store of this server's configuration instead."
)
@server_flag
@json_flag
@click.pass_obj
def verify(session: Session, store: str, source: str | None, config: str | None) -> None:
    """Read every blob of a STORE (URL, alias, /folder; else the default server) and hash it.

    With -config, and no server running: each store by itself, packed and sealed ones by their own
    checks, each backend of a replica; STORE is then one prefix, such as /bs/. Damaged ones are
    named. Without any, the exit code is 0. Example: pk verify -config server.toml
    """
    if config is not None:
        if source:
            raise ConfigError("verify", config, "-repair does not go with -config; see pk storage")
        verify_configured(session, config, store)
        return
    place = open_place(session, store)
    spare = open_place(session, source).storage if source else None
    checked = read_all(session.output, place.storage, spare)
    if isinstance(place.storage, LocalDisk):
        checked = with_misplaced(session.output, place.storage, checked)
    session.output.summary |= checked._asdict()
    session.output.result(
        f"{checked.blobs} blobs are sound, {checked.damaged} damaged, {checked.repaired} repaired",
        blobs=checked.blobs,
        damaged=checked.damaged,
        repaired=checked.repaired,
    )


def read_all(output: Output, store: Storage, spare: Storage | None) -> Checked:
    checked = Checked()
    for page in pages(store):
        checked = check_page(output, store, spare, page, checked)
        tell(output, checked)
    if output.shows_progress:
        click.echo("", err=True)
    return checked


# -- the stores of a configuration ---------------------------------------------------------------


@runtime_checkable
class Checking(Protocol):
    """A store with a check of its own, which sees more than its listing."""

    def check(self) -> Iterator[Finding]: ...


def verify_configured(session: Session, config: str, wanted: str) -> None:
    """Check the stores that hold blobs themselves; those made of others are nothing more."""
    from ..server.config import load
    from ..server.topology import Topology

    found = load.load(chosen_file(config, os.environ), os.environ)
    prefixes = keepers(found)
    if wanted:
        if wanted not in prefixes:
            known = ", ".join(prefixes)
            raise ConfigError("verify", wanted, f"want one of the stores that hold blobs: {known}")
        prefixes = [wanted]
    with Topology(found, only=prefixes) as topology:
        for prefix in prefixes:
            store = topology.storage(prefix).inner
            if isinstance(store, Checking):
                damaged = tell_findings(session.output, prefix, store)
            else:
                damaged = read_all(session.output, store, None).damaged
            text = f"{prefix}: {damaged} damaged" if damaged else f"{prefix}: sound"
            session.output.result(text, prefix=prefix, damaged=damaged)


def with_misplaced(output: Output, store: LocalDisk, checked: Checked) -> Checked:
    """Tell of blobs in wrong folders too; they count as damaged, for nobody gets them."""
    count = 0
    for ref, text in store.misplaced():
        output.problem(Corrupt("verify", ref, text))
        count += 1
    return checked._replace(damaged=checked.damaged + count)


def tell_findings(output: Output, prefix: str, store: Checking) -> int:
    """Returns how many there were."""
    count = 0
    for finding in store.check():
        output.problem(Corrupt("verify", f"{prefix} {finding[0]}", reason(finding)))
        count += 1
    return count


def keepers(config: "LowConfig") -> list[str]:
    """The prefixes of stores that are made of no others, or check these along with their own."""
    stores = {
        prefix: one
        for prefix, one in config.prefixes.items()
        if one.enabled and one.handler.startswith("storage-") and one.handler != "storage-index"
    }
    checking = {"storage-blobpacked", "storage-encrypt"}
    covered: set[object] = set()
    made_of_others: set[str] = set()
    for prefix, one in stores.items():
        named = names_in(one.args) & stores.keys()
        if one.handler in checking:
            covered |= named
        elif named:
            made_of_others.add(prefix)
    return [prefix for prefix in stores if prefix not in covered | made_of_others]


def names_in(value: object) -> set[str]:
    """All texts in the arguments of a store."""
    if isinstance(value, str):
        return {value}
    inner = value.values() if isinstance(value, Mapping) else value
    if not isinstance(inner, Iterable):
        return set()
    return {name for item in inner for name in names_in(item)}


def reason(finding: Finding) -> str:
    """What a check says of a thing, with the file where it lies if it names one."""
    return ": ".join(str(part) for part in finding[1:] if not isinstance(part, bool))


# -- reading -------------------------------------------------------------------------------------


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
