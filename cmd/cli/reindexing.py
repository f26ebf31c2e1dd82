"""`pk reindex-diskpacked`: the index of a folder of packed blobs, made anew from the packs."""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from ..blobserver.diskpacked.comparing import Comparison, find_index
from ..errors import ConfigError, Corrupt
from .common import Command, Session, json_flag, switch


@click.command(cls=Command)
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@switch("--overwrite", help="Write the rows; without it, the index is only compared.")
@json_flag
@click.pass_obj
def reindex_diskpacked(session: Session, folder: Path | None, overwrite: bool) -> None:
    """Rebuild the index of a folder of packed blobs, which no server may have open.

    Damaged and cut-off blobs get no row, so that they are taken again when they are sent again.
    """
    place, index = configured() if folder is None else (folder, find_index(folder))
    with Comparison(place, index) as comparison:
        differences = list(comparison.differences())
        for damaged in comparison.damaged:
            subject = damaged.ref or damaged.path
            reason = damaged.reason if damaged.ref is None else f"{damaged.path}, {damaged.reason}"
            session.output.problem(Corrupt("read", subject, reason))
        for key, there, right in differences:
            ref, old, new = (
                None if text is None else text.decode("utf-8", "replace")
                for text in (key, there, right)
            )
            text = f"{ref}: index {old or 'none'}, packs {new or 'none'}"
            session.output.result(text, blobRef=ref, index=old, packs=new)
        if overwrite:
            comparison.write(differences)
        elif differences:
            reason = f"{len(differences)} rows differ; -overwrite mends them"
            session.output.problem(Corrupt("compare", f"the index of {place}", reason))


def configured() -> tuple[Path, Mapping[str, object]]:
    """The folder of packed blobs in the server's configuration, where there is just one, and the
    settings of its index.
    """
    from ..server.config import load
    from .configuration import chosen_file

    location = chosen_file(None, os.environ)
    prefixes = load.load(location, os.environ).prefixes.values()
    found = [one.args for one in prefixes if one.handler == "storage-diskpacked"]
    if len(found) != 1:
        reason = f"it names {len(found)} folders of packed blobs: say which one"
        raise ConfigError("choose folder", location, reason)
    index = found[0].get("metaIndex")
    return Path(str(found[0]["path"])), index if isinstance(index, Mapping) else {}
