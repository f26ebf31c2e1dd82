"""`pk storage repair` and `pk storage rebalance`: the copies of stores made of several stores."""

from typing import TYPE_CHECKING

import click

from ..blob import Ref
from ..errors import Corrupt
from .common import Command, Output, Session, json_flag, switch
from .tidying import config_flag, stores

if TYPE_CHECKING:
    from ..blobserver.rebalance import Rebalanced
    from ..blobserver.repair import Repaired


@click.command(cls=Command)
@switch("-quick", "--quick", help="Compare names and sizes only; read nothing that is there.")
@config_flag
@json_flag
@click.pass_obj
def repair(session: Session, config: str | None, quick: bool) -> None:
    """Make all backends of each replica hold the same whole blobs. The server must not be running.

    Every copy is read. What a backend lacks or has damaged is written from a good copy; nothing is
    removed. A blob of which no copy is good is named, and the exit code is 2. It may be stopped and
    run again. Example: pk storage repair -config /etc/peatkeep/server.toml
    """
    from ..blobserver.replica import Replica

    for prefix, store in stores(config, ("storage-replica",)):
        assert isinstance(store, Replica)
        store.catch_up()

        def tell(done: "Repaired", prefix: str = prefix) -> None:
            told(session.output, prefix, blobs=done.blobs, copies=done.copies)

        done = store.repair(verify=not quick, progress=tell)
        ended(
            session.output,
            f"{prefix}: {done.blobs} blobs looked at, {done.copies} copies written",
            done.damaged,
            prefix=prefix,
            blobs=done.blobs,
            copies=done.copies,
        )


@click.command(cls=Command)
@config_flag
@json_flag
@click.pass_obj
def rebalance(session: Session, config: str | None) -> None:
    """Move each blob of `placed` stores to where their policy wants it. No server may be running.

    For after a backend was added or the policy changed. A copy is removed only when the wanted
    ones were read back. It may be stopped and run again. Example: pk storage rebalance -json
    """
    from ..blobserver.placed import Placed

    for prefix, store in stores(config, ("storage-placed",)):
        assert isinstance(store, Placed)

        def tell(done: "Rebalanced", prefix: str = prefix) -> None:
            told(session.output, prefix, blobs=done.blobs, copies=done.copied)

        done = store.rebalance(tell)
        ended(
            session.output,
            f"{prefix}: {done.blobs} blobs looked at, {done.copied} copied, {done.removed} removed",
            done.damaged,
            prefix=prefix,
            blobs=done.blobs,
            copies=done.copied,
            removed=done.removed,
        )


def told(output: Output, prefix: str, **numbers: int) -> None:
    """Show how far the work has come."""
    if output.as_json:
        output.result("", prefix=prefix, progress=numbers)
    elif output.shows_progress:
        text = ", ".join(f"{count} {name}" for name, count in numbers.items())
        click.echo(f"\r{prefix}: {text}\x1b[K", nl=False, err=True)


def ended(output: Output, text: str, damaged: tuple[Ref, ...], **members: object) -> None:
    """Say what was done, and name what no store has whole."""
    if output.shows_progress:
        click.echo("", err=True)
    output.result(text, **members, damaged=list(damaged))
    for ref in damaged:
        output.problem(Corrupt("repair", ref, "no copy is good"))
