"""`pk-get`: fetch blobs, files and directories."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import click

from ..blob import Ref, parse_ref
from ..errors import Invalid, Unsupported
from .common import PK_GET, Command, Session, end_at_once, global_flags, run, switch
from .line import line_flags, line_of
from .opening import open_client, shown

if TYPE_CHECKING:  # the library is slow to import, which --help can't wait for
    from ..clients.contents import Source

EPILOG = """
\b
Examples:
  pk-get -o restored sha224-…           restore a file or directory into a folder
  pk-get -contents sha224-… > a.txt     the bytes of a file
  pk-get sha224-…                       the blob itself
  pk-get -o . -shared https://host/share/sha224-…
"""


@click.command(cls=Command, epilog=EPILOG)
@click.argument("refs", nargs=-1, metavar="REF...")
@click.option("-o", "out", metavar="OUT", default="-", help="Folder to restore into; - is stdout.")
@switch("--contents", help="Write the bytes of a file instead of its schema blob.")
@click.option("--shared", metavar="URL", default="", help="Fetch what this share link gives.")
@click.option("--cert", metavar="FP", default="", help="With -shared: trust this certificate.")
@switch("--insecure", help="Accept any certificate.")
@switch("--graph", help="Write a graph of what the blobs refer to, for Graphviz.")
@switch("--check", help="Not there: `pk-get -o` checks all that it reads.")
@switch("--skip_irregular", help="Restore no links, fifos, sockets and devices.")
@switch("--verbose_http", expose_value=False, help="The same as -verbose.")
@line_flags
@switch("--quiet", help="Show no progress.")
@global_flags
@click.pass_context
def pk_get(
    context: click.Context,
    refs: Sequence[str],
    out: str,
    contents: bool,
    shared: str,
    cert: str,
    insecure: bool,
    graph: bool,
    check: bool,
    skip_irregular: bool,
    quiet: bool,
) -> None:
    """Fetch blobs, the contents of files, or whole directories."""
    session = context.find_object(Session)
    assert session is not None
    context.meta["quiet"] = quiet
    if check:
        raise Unsupported("check", "blobs", "not implemented")
    if shared and (refs or session.server):
        raise click.UsageError("No arguments permitted when using --shared")
    if cert and not shared:
        raise click.UsageError("--cert goes with --shared")
    wanted = [_parsed(text) for text in refs]
    if not wanted and not shared:
        return
    with _source(session, shared, cert, insecure, out == "-") as (source, targets):
        wanted += targets
        if graph:
            _write_graph(source, wanted)
        elif out == "-":
            for ref in wanted:
                _write(source, ref, sys.stdout.buffer, contents)
        else:
            _restore(session, source, wanted, out, contents, skip_irregular)


def _parsed(text: str) -> Ref:
    ref = parse_ref(text)
    if ref is None:
        raise Invalid("parse", f"argument {text!r} as a blobref")
    return ref


@contextmanager
def _source(
    session: Session, shared: str, cert: str, insecure: bool, is_for_stdout: bool
) -> Iterator[tuple["Source", list[Ref]]]:
    """Where blobs come from, and what a share link names: the target of the share.

    What goes to standard output is kept in the cache; a restore has its own copy already.
    """
    if not shared:
        with open_client(session, insecure=insecure) as client:
            yield (client.cached_place if is_for_stdout else client.place), []
        return
    from ..blobserver.remote import Transport
    from ..blobserver.remote.share import ShareFetcher, split_share_url

    url, base, share = split_share_url(shared)
    transport = Transport(
        url,
        trusted_certs=[cert] if cert else (),
        insecure=insecure,
        proxies=os.environ,
        line=line_of(),
    )
    if session.is_verbose:
        transport.on_request = lambda method, path: session.output.note(f"{method} {path}")
    fetcher = ShareFetcher(transport, base, share)
    try:
        yield fetcher, [fetcher.target()]
    finally:
        fetcher.close()


def _write(source: "Source", ref: Ref, out: BinaryIO, contents: bool) -> None:
    if not contents:
        out.write(source.fetch(ref))
    else:
        from ..schema.filereader import FileReader

        out.writelines(FileReader(source, ref).stream(fetch_many=source.fetch_many))
    out.flush()


def _restore(
    session: Session,
    source: "Source",
    wanted: Sequence[Ref],
    out: str,
    contents: bool,
    skip_irregular: bool,
) -> None:
    """Restore nodes into the folder `out`; other blobs, and contents, into the file `out`."""
    from ..clients.progress import Progress
    from ..clients.restore import Restore
    from ..schema.parse import parse_object

    target = os.fsencode(out)
    progress = Progress()
    with shown(progress, session.output):
        for ref in wanted:
            schema = parse_object(source.fetch(ref))
            if contents or schema is None or not schema.type:
                _write_file(source, ref, out, contents)
                continue
            Restore(source, target, progress, skip_irregular=skip_irregular).restore(ref, schema)
    session.output.summary |= {
        "files": progress.files,
        "bytes": progress.size_bytes,
        "unchangedFiles": progress.unchanged_files,
    }


def _write_file(source: "Source", ref: Ref, out: str, contents: bool) -> None:
    from ..clients.writing import new_file

    folder, name = os.path.split(os.path.abspath(out))  # noqa: PTH100
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with (
            new_file(descriptor, os.fsencode(name)) as file,
            open(file, "wb", closefd=False) as writer,
        ):
            os.fchmod(file, 0o644)
            _write(source, ref, writer, contents)
    finally:
        os.close(descriptor)


def _write_graph(source: "Source", refs: Sequence[Ref]) -> None:
    from ..clients.graph import graph_lines

    for line in graph_lines(source, refs):
        click.echo(line)


def main() -> None:
    end_at_once(run(pk_get, PK_GET))
