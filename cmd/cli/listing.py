"""`pk list`: every blob of a store, and what it is."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import click

from ..blob import SizedRef
from .common import Command, Session, json_flag, server_flag, switch
from .connection import Connection
from .searching import describe_request
from .stores import open_place

DESCRIBED_AT_ONCE = 250


@click.command(cls=Command)
@click.option("--src", metavar="S", default="", help="Server (URL or alias), or /local/folder.")
@switch("--describe", help="Show what each blob is.")
@click.option("--type", "kind", metavar="T", default="", help="Only blobs of this camliType.")
@server_flag
@json_flag
@click.pass_obj
def list_blobs(session: Session, src: str, describe: bool, kind: str) -> None:
    """List the blobs of a server: ref and size, in the order of the refs."""
    place = open_place(session, src)
    blobs = place.storage.enumerate()
    if not (describe or kind):
        for ref, size in blobs:
            session.output.result(f"{ref} {size}", blobRef=ref, size=size)
        return
    connection = place.connection or Connection(session)
    for (ref, size), meta in described(connection, blobs):
        if kind and meta.get("camliType") != kind:
            continue
        words = summary(meta)
        text = f"{ref} {size}" + (f"\t{words}" if words else "")
        session.output.result(text, **{"camliType": "", **meta, "blobRef": ref, "size": size})


def described(
    connection: Connection, blobs: Iterable[SizedRef]
) -> Iterator[tuple[SizedRef, Mapping[str, object]]]:
    """Each blob with what the index knows of it, in the order given; many to a request."""
    rest = iter(blobs)
    while page := list(islice(rest, DESCRIBED_AT_ONCE)):
        body = describe_request([blob.ref for blob in page], depth=1)
        answer = connection.search_object("describe", body=body)
        meta = answer.get("meta")
        known = meta if isinstance(meta, dict) else {}
        for blob in page:
            entry = known.get(blob.ref)
            yield blob, entry if isinstance(entry, dict) else {}


def summary(meta: Mapping[str, object]) -> str:
    """What a blob is, in a few words: `file (a.txt size=11)`; "" where nothing is known."""
    kind = str(meta.get("camliType") or "")
    file = meta.get("file")
    if kind == "file" and isinstance(file, dict):
        return f"file ({file.get('fileName', '')} size={file.get('size', 0)})"
    return kind
