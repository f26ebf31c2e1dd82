"""`pk-put file`, `pk-put blob`, `pk-put remove`: what is stored as it is."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..blob import MAX_BLOB_SIZE, Ref
from ..errors import TooLarge, Unsupported
from .common import Command, Session, json_flag, switch
from .opening import file_argument, open_client, read_input, shown
from .permanodes import content_permanode, node_flags, tags_of

if TYPE_CHECKING:  # the library is slow to import, which --help can't wait for
    from ..clients.backup import Backup
    from ..clients.client import Client
    from ..clients.files import StoredFile
    from ..clients.progress import Progress


@click.command("file", cls=Command, short_help="Store files and directories.")
@click.argument("paths", nargs=-1, metavar="<file/director(ies)>")
@node_flags
@switch("--filenodes", help="Make a permanode for each file, the same one each time.")
@switch("--delete_after_upload", help="Delete each file once it is stored; with -filenodes.")
@switch("--vivify", help="Have the server make a permanode for each file.")
@switch("--exiftime", help="Take the time of photos from their EXIF data.")
@switch("--plain", help="Write exactly what Perkeep writes, without what only we keep.")
@switch("--du", help="Store nothing; show how much there is in each directory.")
@switch("--contents_only", hidden=True)
@switch("--capctime", hidden=True)
@switch("--statcache", default=True, hidden=True, expose_value=False)
@switch("--sqlitecache", hidden=True, expose_value=False)
@switch("--debug-memstats", hidden=True)
@click.option("--debug-histogram-file", metavar="FILE", default="", hidden=True)
@json_flag
@click.pass_obj
def put_files(
    session: Session,
    paths: Sequence[str],
    permanode: bool,
    title: str,
    tag: str,
    filenodes: bool,
    delete_after_upload: bool,
    vivify: bool,
    exiftime: bool,
    plain: bool,
    du: bool,
    contents_only: bool,
    capctime: bool,
    debug_memstats: bool,
    debug_histogram_file: str,
) -> None:
    """Store files and directories; print the ref of each.

    \b
    Example: pk-put file --permanode --tag=letters ~/Documents
    """
    _check_flags(paths, permanode, filenodes, delete_after_upload, vivify, bool(title or tag))
    if debug_memstats and delete_after_upload:
        raise click.UsageError("-debug-memstats stores nothing, so -delete_after_upload is refused")
    if debug_histogram_file and not debug_memstats:
        raise click.UsageError("-debug-histogram-file needs -debug-memstats")
    if du:
        _show_sizes(session, paths)
        return
    from ..clients.backup import Hooks
    from ..clients.files import FileOptions
    from ..clients.local import local_zone
    from ..clients.progress import Progress

    options = FileOptions(
        plain=plain,
        contents_only=contents_only,
        cap_ctime=capctime,
        vivify=vivify,
        needs_whole=filenodes,
        exif_zone=local_zone(os.environ.get("TZ", "")) if exiftime else None,
    )
    progress = Progress()
    measured = _measuring(session, debug_histogram_file) if debug_memstats else None
    with measured or open_client(session) as client:
        hooks = Hooks(is_ignored=client.ignored)
        if filenodes:
            hooks = Hooks(client.ignored, _FileNodes(session, client, tag, delete_after_upload))
        with (
            client.backup(options, progress, hooks) as backup,
            shown(progress, session.output, _counter(client, paths)),
        ):
            refs = [(path, _put(session, backup, path)) for path in paths]
        if permanode and refs[0][1] is not None:
            content_permanode(session, client, refs[0][1], title, tag)
    session.output.summary |= {
        "files": progress.files,
        "bytes": progress.size_bytes,
        "unchangedFiles": progress.unchanged_files,
        "sentBytes": progress.sent_bytes,
    }
    if progress.problems or session.output.shows_progress:
        session.output.note(_told(progress))


@contextmanager
def _measuring(session: Session, histogram: str) -> Iterator["Client"]:
    """A client that stores nothing, and in the end tells what it would have stored.

    histogram: a file for the size of each blob, one a line; "" for none.
    """
    from ..clients.targets import Measuring, client_of

    kept = Measuring()
    with client_of(kept, os.environ, session.secret_keyring) as client:
        yield client
    sizes = kept.sizes.values()
    session.output.note(f"In-memory blob stats: {len(sizes)} blobs, {sum(sizes)} bytes")
    if histogram:
        Path(histogram).write_text("".join(f"{size}\n" for size in sizes))


def _told(progress: "Progress") -> str:
    """What was done, in one line."""
    failed = f", {len(progress.problems)} failed" if progress.problems else ""
    return (
        f"{progress.files} files stored{failed} ({progress.unchanged_files} unchanged since the"
        f" last time); {progress.sent_bytes / 1e6:.1f} of {progress.size_bytes / 1e6:.1f} MB sent"
    )


def _check_flags(
    paths: Sequence[str],
    permanode: bool,
    filenodes: bool,
    delete_after_upload: bool,
    vivify: bool,
    has_words: bool,
) -> None:
    if not paths:
        raise click.UsageError("No files or directories given.")
    if vivify and (permanode or filenodes or has_words):
        raise click.UsageError("-vivify excludes -permanode, -filenodes, -title and -tag")
    if permanode and len(paths) > 1:
        raise click.UsageError("-permanode takes exactly one file or directory")
    if permanode and filenodes:
        raise click.UsageError("-permanode and -filenodes exclude each other")
    if has_words and not (permanode or filenodes):
        raise click.UsageError("-title and -tag need -permanode or -filenodes")
    if delete_after_upload and not filenodes:
        raise click.UsageError("-delete_after_upload needs -filenodes")


def _put(session: Session, backup: "Backup", path: str) -> Ref | None:
    """Store one argument and print its ref. A link that dangles is an error here."""
    try:
        os.stat(path)  # noqa: PTH116 - only to raise
    except OSError as error:
        session.output.problem(error)  # the other arguments are stored all the same
        return None
    ref = backup.put(file_argument(path))
    if ref is not None:
        session.output.result(ref, path, path=path, ref=ref)
    return ref


def _counter(client: "Client", paths: Sequence[str]) -> Callable[[], Iterator[tuple[int, int]]]:
    from ..clients.backup import count_tree

    return lambda: chain.from_iterable(
        count_tree(file_argument(path), client.ignored) for path in paths
    )


class _FileNodes:
    """Makes the permanode of each stored file; deletes the file, if told to."""

    def __init__(self, session: Session, client: "Client", tag: str, delete: bool) -> None:
        self._session = session
        self._author = client.author
        self._tags = tags_of(tag)
        self._delete = delete

    def __call__(self, path: bytes, stored: "StoredFile") -> None:
        if stored.whole is None:
            raise Unsupported("make permanode of", os.fsdecode(path), "its digest is not known")
        permanode, claims = self._author.file_node(
            stored.whole, stored.ref, stored.mtime_ns, self._tags
        )
        for ref in (permanode, *claims):
            self._session.output.result(ref, ref=ref, path=os.fsdecode(path))
        if self._delete and stored.is_unchanged:
            os.unlink(path)  # noqa: PTH108 - a path of bytes


def _show_sizes(session: Session, paths: Sequence[str]) -> None:
    from ..clients.backup import count_tree

    for path in paths:
        os.stat(path)  # noqa: PTH116 - only to raise
        files = size_bytes = 0
        for more_files, more_bytes in count_tree(file_argument(path), lambda _: False):
            files += more_files
            size_bytes += more_bytes
        text = f"{size_bytes}\t{files}\t{path}"
        session.output.result(text, bytes=size_bytes, files=files, path=path)


@click.command("blob", cls=Command, short_help="Store bytes as they are.")
@click.argument("files", nargs=-1, metavar="<files> | -")
@node_flags
@click.option("--hash", "hash_name", metavar="NAME", default="sha224", help="Hash of the ref.")
@json_flag
@click.pass_obj
def put_blobs(
    session: Session,
    files: Sequence[str],
    permanode: bool,
    title: str,
    tag: str,
    hash_name: str,
) -> None:
    """Store files, or standard input, as single blobs; print the ref of each.

    \b
    Example: pk-put blob - < letter.txt
    """
    if not files:
        raise click.UsageError("No files given.")
    if hash_name not in ("sha1", "sha224", "sha256"):
        raise click.UsageError(f"unknown hash {hash_name!r}: want sha224, sha256 or sha1")
    if permanode and len(files) > 1:
        raise click.UsageError("-permanode takes exactly one file")
    with open_client(session) as client:
        for file in files:
            try:
                data = read_input(file, MAX_BLOB_SIZE)
                if len(data) > MAX_BLOB_SIZE:
                    hint = "over the 16 MiB of a blob; `pk-put file` takes any size"
                    raise TooLarge("put", file, hint)
            except (OSError, TooLarge) as error:
                session.output.problem(error)
                continue
            ref = client.put_blob(data, hash_name)
            session.output.result(ref, path=file, ref=ref)
            if permanode:
                content_permanode(session, client, ref, title, tag)


@click.command("remove", cls=Command, short_help="Remove blobs from the server, for good.")
@click.argument("refs", nargs=-1, metavar="<blobref>...")
@json_flag
@click.pass_obj
def remove_blobs(session: Session, refs: Sequence[str]) -> None:
    """Remove blobs. Most servers refuse: a claim by `pk-put delete` is what is wanted there."""
    if not refs:
        raise click.UsageError("No blobs given.")
    parsed = [Ref(ref) for ref in refs]
    with open_client(session) as client:
        client.place.remove(parsed)
        client.cache.forget()
