"""`pk storage …`: moving, mending and tidying the stores of a server's configuration."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from ..errors import ConfigError, Corrupt, Unavailable
from .common import Command, LazyGroup, Output, Session, json_flag, switch
from .configuration import chosen_file

if TYPE_CHECKING:
    from ..server.config.record import LowConfig

MODES: Final = {
    "compact": ("tidying:compact", "Give back the space of removed blobs."),
    "migrate": ("storing:migrate", "Move all blobs to another kind of store, while serving."),
    "rebalance": ("mending:rebalance", "Move blobs to where the policy of `placed` wants them."),
    "repair": ("mending:repair", "Make the backends of a replica equal from good copies."),
}

POLL_S: Final = 0.5
RESTART_WAIT_S: Final = 120.0

KEYS: Final[Mapping[str, dict[str, str | bool]]] = {
    "localdisk": {},
    "diskpacked": {"packBlobs": True},
    "blobpacked": {"packRelated": True, "packLoose": True},
    "s3": {},
    "s3-packed": {"packRelated": True},
}
"""Kind of store -> the keys beside blobPath or s3 that ask for it."""

BUCKETS: Final = ("s3", "s3-packed")
S3_KEYS: Final = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
"""Environment variables with the keys to a bucket: a command line is seen by everybody."""


@click.group(cls=LazyGroup, modes=MODES)
def storage() -> None:
    """Move, mend and tidy the blobs of a server's stores."""


@click.command(cls=Command)
@click.argument("kind", type=click.Choice(sorted(KEYS)))
@click.option(
    "--to", metavar="PLACE", help="A folder, else beside the old; or bucket[/dir][:host]."
)
@click.option("--config", metavar="FILE", help="The server's configuration.")
@switch("--leave-damaged", help="End also when blobs can't be read; they are named, and lost.")
@json_flag
@click.pass_obj
def migrate(
    session: Session, kind: str, to: str | None, config: str | None, leave_damaged: bool
) -> None:
    """Move all blobs to a store of another KIND. Run it again to go on where it was stopped.

    For s3 and s3-packed (small blobs together) the keys to the bucket are read from
    AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and kept in the server's configuration.

    The server goes on serving; without one, the work is done here. Every blob is read back from
    the new store before the configuration is changed. The old store is left as it is. Damaged
    blobs are named, one a line, and make this a failure; with -leave-damaged after all has moved.
    """
    path = Path(chosen_file(config, os.environ))
    old = begin(path, kind, to, leave_damaged)
    url = running_server(session, path)
    tell = teller(session.output)
    progress = follow(session, url, tell, leave_damaged) if url else migrate_here(path, tell)
    session.output.summary |= progress
    is_done = progress["phase"] == "done"
    if progress["damagedCount"]:
        after = "are left behind" if is_done else "both stores go on serving; see -leave-damaged"
        reason = f"{progress['damagedCount']} blobs can't be read there; {after}"
        session.output.problem(Corrupt("migrate", old, reason))
        for ref in str_list(progress["damaged"]):
            session.output.result(ref, damaged=ref)
    if is_done:
        which = "all other" if progress["damagedCount"] else "all"
        session.output.note(
            f"{which} blobs have moved and were read back; {path} names the new store"
        )
        session.output.note(f"you may delete the old store when you have a backup: {old}")


def begin(path: Path, kind: str, to: str | None, leave_damaged: bool) -> str:
    """Ask for the migration in the configuration, as far as it does not do so already.

    Returns where the old store is.
    """
    from ..server.config import load, rewriting
    from ..server.config.high_level import INDEX_FILES

    values = load.read(path, os.environ).values
    old = str(values.get("blobPath") or "")
    if not old and not values.get("s3"):
        reason = "it has neither blobPath nor s3; see server/config/README.md"
        raise ConfigError("migrate", path, reason)
    if "migration" in values:
        if leave_damaged:
            rewriting.leave_damaged(path)
        return old or bucket_named(values["s3"])
    if kind_of(values) == kind:
        raise ConfigError("migrate", path, f"its store is of the kind {kind} already")
    index = next((values[key] for key in INDEX_FILES if values.get(key)), path)
    rows_folder = Path(old) if old else Path(str(index)).parent
    if kind in BUCKETS:
        place = {"s3": bucket_text(to)}
        check_bucket(place["s3"])
    else:
        new = new_folder(old, kind, to)
        place, rows_folder = {"blobPath": str(new)}, new
    for rows in rows_folder.glob("migration-removed.*"):  # of an earlier one, which has ended
        shutil.rmtree(rows) if rows.is_dir() else rows.unlink()
    rewriting.begin_migration(path, {**place, **KEYS[kind]})
    if leave_damaged:
        rewriting.leave_damaged(path)
    return old or bucket_named(values["s3"])


def kind_of(values: Mapping[str, object]) -> str:
    """The kind of store that holds the blobs of a high-level configuration."""
    if not values.get("blobPath"):
        return "s3-packed" if values.get("packRelated") else "s3"
    if values.get("packRelated"):
        return "blobpacked"
    return "diskpacked" if values.get("packBlobs") else "localdisk"


def new_folder(old: str, kind: str, to: str | None) -> Path:
    if not to and not old:
        raise click.UsageError(
            "--to is needed: the folder for the blobs, which are in a bucket now."
        )
    return Path(to).absolute() if to else Path(old).with_name(f"{Path(old).name}-{kind}")


def bucket_text(to: str | None) -> str:
    """The key s3 of a configuration. Raises ConfigError where there are no keys to the bucket."""
    if not to:
        raise click.UsageError("--to is needed: bucket[/dir][:host].")
    keys = [os.environ.get(name, "") for name in S3_KEYS]
    for name, value in zip(S3_KEYS, keys, strict=True):
        if not value or ":" in value:
            raise ConfigError("migrate to", to, f"set {name} to a key of the bucket")
    return ":".join([*keys, to])


def check_bucket(s3: str) -> None:
    """Raise ConfigError, Forbidden or Unavailable unless the bucket is there, and is ours."""
    from ..blobserver.memory import Memory
    from ..blobserver.registry import open_storage
    from ..server.config.remotes import s3_args

    with open_storage("s3", s3_args(s3), lambda _: Memory()):
        pass


def bucket_named(s3: object) -> str:
    """The bucket that a key s3 tells, without what is secret."""
    return f"s3://{':'.join(str(s3).split(':')[2:])}"


def configuration(path: Path) -> "LowConfig":
    from ..server.config import load

    return load.load(path, os.environ)


# -- with a running server -----------------------------------------------------------------------


def running_server(session: Session, path: Path) -> str:
    """The URL of the server of this configuration if it answers, else ""."""
    from ..server.config import first_start

    config = configuration(path)
    url = config.base_url or first_start.client_url(config.listen or first_start.DEFAULT_LISTEN)
    if config.https:
        url = url.replace("http://", "https://", 1)
    try:
        status_of(session, url)
    except Unavailable:
        return ""
    return url


def status_of(session: Session, url: str) -> Mapping[str, object]:
    import json

    from .connection import Connection

    connection = Connection(session, url)
    path = f"{connection.transport.path_of('/status/')}status.json"
    answer = json.loads(connection.checked("ask", connection.transport.request("GET", path)).body)
    assert isinstance(answer, dict)
    return answer


def follow(
    session: Session,
    url: str,
    tell: Callable[[Mapping[str, object]], None],
    leave_damaged: bool,
) -> dict[str, object]:
    """Let the server begin, if it has not yet, and tell how far it is until it ends.

    leave_damaged: "damaged" is not the end; a server that came to it reads the new configuration.
    """
    if "migration" not in status_of(session, url):
        restart(session, url)
    has_read_anew = False
    for progress in progresses(session, url):
        tell(progress)
        if progress["phase"] == "damaged" and leave_damaged:
            if not has_read_anew:
                restart(session, url)
            has_read_anew = True
        elif progress["phase"] in ("done", "damaged"):
            return progress
        if progress.get("failure"):
            session.output.note(f"the server waits: {progress['failure']}")
    raise AssertionError  # the loop has no other end


def restart(session: Session, url: str) -> None:
    from .connection import Connection

    transport = Connection(session, url).transport
    transport.request("POST", f"{transport.path_of('/status/')}restart", body=b"")


def progresses(session: Session, url: str) -> Iterator[dict[str, object]]:
    """What the server says, again and again; patient with one that is starting anew."""
    deadline = time.monotonic() + RESTART_WAIT_S
    while True:
        try:
            migrations = status_of(session, url).get("migration")
        except Unavailable:
            migrations = None
            if time.monotonic() > deadline:
                raise
        if isinstance(migrations, dict) and migrations:
            deadline = time.monotonic() + RESTART_WAIT_S
            yield dict(next(iter(migrations.values())))
        elif time.monotonic() > deadline:
            raise Unavailable("migrate", url, "the server does not take up its new configuration")
        time.sleep(POLL_S)


# -- without one ---------------------------------------------------------------------------------


def migrate_here(path: Path, tell: Callable[[Mapping[str, object]], None]) -> dict[str, object]:
    """Open the stores of the configuration, and do the work in this process."""
    from ..blobserver.migrating import Migrating
    from ..server.config.prepare import make_folders
    from ..server.config.rewriting import finish_migration
    from ..server.topology import Topology

    config = configuration(path)
    make_folders(config)
    with Topology(config, only=("/bs/",)) as topology:
        store = topology.storage("/bs/").inner
        assert isinstance(store, Migrating)
        progress = store.migrate(lambda progress: tell(progress.document()))
        if progress.phase == "done":
            finish_migration(path)
    return progress.document()


# -- telling -------------------------------------------------------------------------------------


def teller(output: Output) -> Callable[[Mapping[str, object]], None]:
    """What shows progress: JSON lines, or a line on a terminal."""

    def tell(progress: Mapping[str, object]) -> None:
        members = {key: progress[key] for key in ("phase", "blobs", "bytes")}
        if output.as_json:
            output.result("", progress=members)
        elif output.shows_progress:
            click.echo(f"\r{members['phase']}: {members['blobs']} blobs\x1b[K", nl=False, err=True)
            if members["phase"] in ("done", "damaged"):
                click.echo("", err=True)

    return tell


def str_list(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, (list, tuple)) else []
