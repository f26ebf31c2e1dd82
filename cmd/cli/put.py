"""`pk-put`: store files, bytes and claims."""

import click

from .common import PK_PUT, LazyGroup, end_at_once, global_flags, run, switch
from .line import line_flags

MODES = {
    "file": ("putting:put_files", "Store files and directories."),
    "blob": ("putting:put_blobs", "Store bytes as they are."),
    "permanode": ("claiming:put_permanode", "Make a permanode: a name for what changes."),
    "attr": ("claiming:put_attribute", "Set, add or delete an attribute of a permanode."),
    "delete": ("claiming:put_delete", "Delete permanodes or claims, by claims."),
    "share": ("claiming:put_share", "Make a link that gives access to a file or directory."),
    "rawobj": ("claiming:put_rawobj", "Store a JSON object of your own making."),
    "remove": ("putting:remove_blobs", "Remove blobs from the server, for good."),
    "init": ("initialising:init", "Make a key and a client configuration."),
}

EPILOG = """
\b
Examples:
  pk-put file ~/Documents
  pk-put file --permanode --tag=holiday,2026 ~/photos
  pk-put share -transitive sha224-…
  echo hello | pk-put blob -
"""


def _keep_blobdir(context: click.Context, _: click.Parameter, value: str) -> None:
    context.meta["blobdir"] = value


def _keep_quiet(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta["quiet"] = value


@click.group(cls=LazyGroup, modes=MODES, epilog=EPILOG)
@global_flags
@click.option(
    "--blobdir",
    metavar="DIR",
    default="",
    expose_value=False,
    callback=_keep_blobdir,
    help="Store in this folder instead of on a server; `discard` stores nowhere.",
)
@line_flags
@switch("--quiet", expose_value=False, callback=_keep_quiet, help="Show no progress.")
@switch("--logcache", expose_value=False, help="Accepted and ignored, as of no use here.")
@switch("--verbose_http", expose_value=False, help="The same as -verbose.")
@switch("--havecache", expose_value=False, default=True, hidden=True)
@switch("--proxy_local", expose_value=False, hidden=True)
def pk_put() -> None:
    """Store files, bytes and claims on a server. Results go to standard output."""


def main() -> None:
    end_at_once(run(pk_put, PK_PUT))
